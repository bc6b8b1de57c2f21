from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from hybridnet.errors import InputError, Stopped
from hybridnet.files import read_json, try_lock, write_json
from hybridnet.sweep.ledger import Attempt, Job, Ledger, Planned, is_job, read_job, read_sweep, write_sweep


def _added(folder: Path, *names: str) -> list[Job]:
    with Ledger(folder) as ledger:
        return ledger.add([Planned(f"hash of {name}", ["seed=1", name], [name], name) for name in names])


def test_jobs_get_numbers_and_folders_and_keep_them(tmp_path: Path) -> None:
    first = _added(tmp_path, "heads=2", "heads=4", "heads=2")
    assert [job.number for job in first] == [0, 1, 0]
    assert [job.folder.name for job in first] == ["0_heads=2", "1_heads=4", "0_heads=2"]
    widened = _added(tmp_path, "heads=1", "heads=4", "heads=2")
    assert [job.number for job in widened] == [2, 1, 0]
    assert Ledger(tmp_path).jobs() == [first[0], first[1], widened[0]]
    assert is_job(tmp_path / "0_heads=2") and not is_job(tmp_path)
    assert json.loads((tmp_path / "2_heads=1" / "job.json").read_text()) == {
        "number": 2,
        "identity": "hash of heads=1",
        "overrides": ["seed=1", "heads=1"],
        "swept": ["heads=1"],
        "status": "pending",
        "attempt": 0,
        "value": None,
        "error": None,
        "seconds": 0.0,
    }


def test_a_job_that_is_left_to_do_is_told_what_is_asked_for_now(tmp_path: Path) -> None:
    """Such as one of an older version, which did not keep what a preset sets; what is done or running stays."""
    jobs = _added(tmp_path, "heads=2", "heads=4", "heads=8", "heads=16")
    replace(jobs[0], status="stopped").write()
    replace(jobs[1], status="complete").write()
    replace(jobs[3], status="running").write()  # by a process that was killed
    with Ledger(tmp_path) as ledger, Attempt(jobs[2].folder):
        told = ledger.add([Planned(job.identity, ["seed=1", "epochs=2", *job.swept], job.swept, "") for job in jobs])
        assert told == ledger.jobs()
        write_json(jobs[2].folder / "status.json", {"status": "complete"})
    assert ["epochs=2" in job.overrides for job in told] == [True, False, False, True]
    assert [job.status for job in told] == ["stopped", "complete", "running", "interrupted"]
    assert read_json(jobs[3].folder / "job.json")["status"] == "running"


def test_a_job_has_a_name_for_people(tmp_path: Path) -> None:
    job = Job(3, tmp_path, "", ["a=1", "b=2"], ["b=2", "c=3"])
    assert (job.name, replace(job, swept=[]).name) == ("3 (b=2, c=3)", "3")


@pytest.mark.parametrize("outcome", ["complete", "pruned"])
def test_an_attempt_that_ends_well_is_done(tmp_path: Path, outcome: str) -> None:
    (job,) = _added(tmp_path, "heads=2")
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
    (job,) = _added(tmp_path, "heads=2")
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
    (job,) = _added(tmp_path, "heads=2")
    replace(job, status="running", attempt=1).write()
    assert read_job(job.folder).status == "interrupted"
    assert json.loads((job.folder / "job.json").read_text())["status"] == "running"


def test_two_processes_do_not_meet(tmp_path: Path) -> None:
    (job,) = _added(tmp_path, "heads=2")
    with Attempt(job.folder):
        with pytest.raises(InputError, match="error: job in use in .*0_heads=2"), Attempt(job.folder):
            raise AssertionError
        assert read_job(job.folder).status == "running"
        write_json(job.folder / "status.json", {"status": "complete"})
    with Ledger(tmp_path), pytest.raises(InputError, match="error: sweep folder in use in"), Ledger(tmp_path):
        raise AssertionError


@pytest.fixture
def looker(tmp_path: Path) -> Iterator[IO]:
    """Looks whether a process works on the job in folder 0, which one has that was killed."""
    (job,) = _added(tmp_path, "")
    replace(job, status="running").write()
    (tmp_path / "0" / ".job.lock").touch()
    with (tmp_path / "0" / ".job.lock").open() as stream:
        assert try_lock(stream, is_shared=True)
        yield stream


def test_two_that_look_at_a_job_do_not_take_each_other_for_its_process(looker: IO, tmp_path: Path) -> None:
    assert read_job(tmp_path / "0").status == "interrupted"


def test_a_job_starts_while_others_look_at_it(looker: IO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridnet.sweep.ledger.time.sleep", lambda seconds: looker.close())
    with Attempt(tmp_path / "0", begins_at_once=False) as attempt:
        attempt.is_void = True
        assert looker.closed


def test_a_job_that_is_looked_at_for_ever_is_in_use(
    looker: IO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as by a process that was suspended in that instant."""
    waits = []
    monkeypatch.setattr("hybridnet.sweep.ledger.time.sleep", waits.append)
    with pytest.raises(InputError, match="error: job in use"), Attempt(tmp_path / "0"):
        raise AssertionError
    assert sum(waits) == pytest.approx(1)


def test_somebody_who_may_only_read_sees_how_a_job_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as another user: an administrator may write everywhere, so the opening is refused here."""
    (job,) = _added(tmp_path, "")
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


def test_where_there_are_no_locks_a_job_of_a_killed_process_can_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybridnet.files.fcntl", None)
    (job,) = _added(tmp_path, "heads=2")
    replace(job, status="running").write()
    assert read_job(job.folder).status == "interrupted"
    with Ledger(tmp_path), Attempt(job.folder) as attempt:
        attempt.is_void = True


def test_what_was_asked_for_is_kept(tmp_path: Path) -> None:
    content = {
        "overrides": ["seed=1,2"],
        "config_dir": None,
        "monitor": "valid_loss",
        "num_jobs": 2,
        "num_threads": None,
    }
    write_sweep(tmp_path, **content)
    assert read_sweep(tmp_path) == content


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "error: no sweep in {folder}: there is no sweep.json\nhint: a sweep's folder is the one"),
        ("{", "error: unreadable sweep in {folder}/sweep.json: Expecting property name"),
        ('{"monitor": 1}', "error: unreadable sweep in {folder}/sweep.json: it is not what a sweep writes"),
        ("[]", "error: unreadable sweep in {folder}/sweep.json: it is not what a sweep writes"),
    ],
)
def test_a_folder_without_a_sweep_is_said_so(tmp_path: Path, text: str | None, error: str) -> None:
    if text is not None:
        (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(InputError) as raised:
        read_sweep(tmp_path)
    assert str(raised.value).startswith(error.format(folder=tmp_path))


@pytest.mark.parametrize("text", ["{", '{"number": 1}', "[]"])
def test_a_damaged_record_is_said_so(tmp_path: Path, text: str) -> None:
    (job,) = _added(tmp_path, "heads=2")
    (job.folder / "job.json").write_text(text)
    with pytest.raises(InputError, match=r"error: unreadable record in .*0_heads=2/job.json: (?s:.*)hint: remove the"):
        Ledger(tmp_path).jobs()


@pytest.mark.parametrize("name", ["status.json", "job.json"])
def test_the_folder_of_a_run_takes_no_sweep(tmp_path: Path, name: str) -> None:
    """It would be read as a sweep from then on; one that is a sweep already goes on."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="error: used folder in .*: it holds a run(?s:.*)sweep.dir="), Ledger(tmp_path):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == [name]
    write_sweep(tmp_path, overrides=[], config_dir=None, monitor="valid_loss", num_jobs=2, num_threads=None)
    with Ledger(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="error: unusable sweep folder in .*/file/s"), Ledger(tmp_path / "file" / "s"):
        raise AssertionError
