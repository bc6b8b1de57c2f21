from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hybridnet.errors import InputError
from hybridnet.files import read_json, write_json
from hybridnet.sweep.ledger import Ledger, Planned, read_sweep, write_sweep
from hybridnet.sweep.record import Attempt, Job, is_job, read_job


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


def test_two_processes_do_not_meet(tmp_path: Path) -> None:
    (job,) = _added(tmp_path, "heads=2")
    with Attempt(job.folder):
        with pytest.raises(InputError, match="error: job in use in .*0_heads=2"), Attempt(job.folder):
            raise AssertionError
        assert read_job(job.folder).status == "running"
        write_json(job.folder / "status.json", {"status": "complete"})
    with Ledger(tmp_path), pytest.raises(InputError, match="error: sweep folder in use in"), Ledger(tmp_path):
        raise AssertionError


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
    write_sweep(tmp_path, is_search=True, **content)
    assert read_sweep(tmp_path) == content | {"is_search": True, "working_directory": str(Path.cwd())}
    write_json(tmp_path / "sweep.json", content)  # of an earlier version
    assert read_sweep(tmp_path) == content | {"is_search": False, "working_directory": None}


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


@pytest.mark.parametrize("name", ["status.json", "job.json"])
def test_the_folder_of_a_run_takes_no_sweep(tmp_path: Path, name: str) -> None:
    """It would be read as a sweep from then on; one that is a sweep already goes on."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match="error: used folder in .*: it holds a run(?s:.*)sweep.dir="), Ledger(tmp_path):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == [name]
    write_sweep(
        tmp_path, is_search=False, overrides=[], config_dir=None, monitor="valid_loss", num_jobs=2, num_threads=None
    )
    with Ledger(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="error: unusable sweep folder in .*/file/s"), Ledger(tmp_path / "file" / "s"):
        raise AssertionError
