from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from hybridnet.errors import InputError, Stopped
from hybridnet.files import try_lock, write_json
from hybridnet.sweep.record import Attempt, Job, read_job


def _job(folder: Path) -> Job:
    folder.mkdir()
    job = Job(0, folder, "hash", ["seed=1", "heads=2"], ["heads=2"])
    job.write()
    return job


def test_a_job_has_a_name_for_people(tmp_path: Path) -> None:
    job = Job(3, tmp_path, "", ["a=1", "b=2"], ["b=2", "c=3"])
    assert (job.name, replace(job, swept=[]).name) == ("3 (b=2, c=3)", "3")


@pytest.mark.parametrize("outcome", ["complete", "pruned"])
def test_an_attempt_that_ends_well_is_done(tmp_path: Path, outcome: str) -> None:
    job = _job(tmp_path / "0_heads=2")
    with Attempt(job.folder) as attempt:
        running = read_job(job.folder)
        assert (running.status, running.attempt, running.is_done) == ("running", 1, False)
        write_json(job.folder / "status.json", {"status": outcome})
        attempt.value = 0.75
    ended = read_job(job.folder)
    assert (ended.status, ended.value, ended.error, ended.is_done) == (outcome, 0.75, None, True)
    assert ended.seconds > 0


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("too\nlong"), "failed", "ValueError: too\nlong"),
        (Stopped(15), "stopped", None),
        (SystemExit(1), "stopped", None),
    ],
    ids=["exception", "signal", "exit"],
)
def test_an_attempt_that_does_not_says_why_and_may_be_repeated(
    tmp_path: Path, error: BaseException, status: str, said: str | None
) -> None:
    job = _job(tmp_path / "0_heads=2")
    with pytest.raises(type(error)), Attempt(job.folder) as attempt:
        attempt.value = 1.0
        raise error
    ended = read_job(job.folder)
    assert (ended.status, ended.error, ended.is_done) == (status, said, False)
    write_json(job.folder / "status.json", {"status": "complete"})
    with Attempt(job.folder):
        assert read_job(job.folder).error is None
    again = read_job(job.folder)
    assert (again.status, again.attempt, again.error) == ("complete", 2, None)
    assert again.seconds > ended.seconds


def test_a_job_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    job = _job(tmp_path / "0_heads=2")
    replace(job, status="running", attempt=1).write()
    assert read_job(job.folder).status == "interrupted"
    assert json.loads((job.folder / "job.json").read_text())["status"] == "running"


@pytest.fixture
def looker(tmp_path: Path) -> Iterator[IO]:
    """Looks whether a process works on the job in folder 0, which one has that was killed."""
    job = _job(tmp_path / "0")
    replace(job, status="running").write()
    (tmp_path / "0" / ".job.lock").touch()
    with (tmp_path / "0" / ".job.lock").open() as stream:
        assert try_lock(stream, is_shared=True)
        yield stream


def test_two_that_look_at_a_job_do_not_take_each_other_for_its_process(looker: IO, tmp_path: Path) -> None:
    assert read_job(tmp_path / "0").status == "interrupted"


def test_a_job_starts_while_others_look_at_it(looker: IO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridnet.sweep.record.time.sleep", lambda seconds: looker.close())
    with Attempt(tmp_path / "0", begins_at_once=False) as attempt:
        attempt.is_void = True
        assert looker.closed


def test_a_job_that_is_looked_at_for_ever_is_in_use(
    looker: IO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as by a process that was suspended in that instant."""
    waits = []
    monkeypatch.setattr("hybridnet.sweep.record.time.sleep", waits.append)
    with pytest.raises(InputError, match="error: job in use"), Attempt(tmp_path / "0"):
        raise AssertionError
    assert sum(waits) == pytest.approx(1)


def test_somebody_who_may_only_read_sees_how_a_job_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as another user: an administrator may write everywhere, so the opening is refused here."""
    job = _job(tmp_path / "0")
    replace(job, status="running").write()
    opened = Path.open

    def read_only(path: Path, mode: str = "r", **options: Any) -> IO:
        if not set(mode) <= set("rb"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, mode, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", read_only)
        assert read_job(job.folder).status == "interrupted"
    assert not (job.folder / ".job.lock").exists()
    with Attempt(job.folder) as attempt:
        attempt.is_void = True
        monkeypatch.setattr(Path, "open", read_only)
        assert read_job(job.folder).status == "running"


@pytest.mark.parametrize("text", ["{", '{"number": 1}', "[]"])
def test_a_damaged_record_is_said_so(tmp_path: Path, text: str) -> None:
    job = _job(tmp_path / "0_heads=2")
    (job.folder / "job.json").write_text(text)
    with pytest.raises(InputError, match=r"error: unreadable record in .*0_heads=2/job.json: (?s:.*)hint: remove the"):
        read_job(job.folder)
