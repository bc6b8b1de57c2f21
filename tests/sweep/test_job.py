from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from hybridnet.errors import Fault, InputError, TrainingError
from hybridnet.files import write_json
from hybridnet.sweep.job import NotStartedError, claimed, run_job
from hybridnet.sweep.ledger import Ledger, Planned, write_sweep
from hybridnet.sweep.record import Attempt, Job, read_job


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    write_sweep(
        tmp_path, is_search=False, overrides=[], config_dir=None, monitor="valid_acc", num_jobs=3, num_threads=1
    )
    with Ledger(tmp_path) as ledger:
        return ledger.add([Planned(name, [], [f"seed={name}"], name) for name in ("a", "b", "c")])


def _run(job: Job, value: float | Exception, *, on_error: str = "continue") -> float:
    def train() -> float:
        if isinstance(value, Exception):
            raise value
        write_json(job.folder / "status.json", {"status": "complete"})
        return value

    return run_job(train, job.folder, on_error=on_error, shares_gpus=True)


def test_a_job_keeps_its_record_and_says_how_far_the_sweep_is(
    jobs: list[Job], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    clock = iter([0.0, 100.0, 100.0, 160.0])
    monkeypatch.setattr("hybridnet.sweep.record.time.monotonic", lambda: next(clock))
    assert _run(jobs[0], 0.5) == 0.5
    assert _run(jobs[1], 0.25) == 0.25
    assert [read_job(job.folder).value for job in jobs] == [0.5, 0.25, None]
    assert caplog.messages == [
        *("job 0 (seed=a)", "1 of 3 jobs done, about 3:20 left"),
        *("job 1 (seed=b)", "2 of 3 jobs done, about 1:20 left"),
    ]


def test_of_a_search_several_trials_may_be_one_job(jobs: list[Job], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sweep = jobs[0].folder.parent
    write_sweep(sweep, is_search=True, overrides=[], config_dir=None, monitor="valid_acc", num_jobs=4, num_threads=1)
    _run(jobs[0], 0.5)
    assert caplog.messages[-1].startswith("1 of up to 4 jobs done, about ")


@pytest.mark.parametrize(
    ("error", "message", "has_traceback"),
    [
        (InputError(Fault("wrong value", "here", "bad")), "error: wrong value in here: bad", True),
        (TrainingError(Fault("disk full", "here", "bad")), "error: disk full in here: bad", False),  # the run logs it
        (KeyError("x"), "KeyError: 'x'", False),
    ],
)
def test_a_failure_is_told_and_logged_once(
    jobs: list[Job], caplog: pytest.LogCaptureFixture, error: Exception, message: str, has_traceback: bool
) -> None:
    with pytest.raises(type(error)):
        _run(jobs[0], error)
    (record,) = caplog.records
    assert record.getMessage() == f"job 0 (seed=a) failed\n{message}"
    assert (record.exc_info is not None) == has_traceback
    assert (read_job(jobs[0].folder).status, read_job(jobs[0].folder).error) == ("failed", message)
    assert _run(jobs[1], 1.0) == 1.0


def test_after_a_failure_none_is_started_if_that_is_asked_for(jobs: list[Job]) -> None:
    with pytest.raises(KeyError):
        _run(jobs[0], KeyError("x"), on_error="stop")
    with pytest.raises(NotStartedError):
        _run(jobs[1], 1.0)
    assert [read_job(job.folder).status for job in jobs] == ["failed", "pending", "pending"]


def test_a_job_that_another_process_works_on_is_left_to_it(jobs: list[Job], caplog: pytest.LogCaptureFixture) -> None:
    """Such as `python train.py resume=<job>` in the meantime: nothing has failed, and the others start."""
    with Attempt(jobs[0].folder):
        with pytest.raises(NotStartedError):
            _run(jobs[0], 1.0, on_error="stop")
        assert read_job(jobs[0].folder).status == "running"
        assert _run(jobs[1], 0.5, on_error="stop") == 0.5
        write_json(jobs[0].folder / "status.json", {"status": "complete"})
    assert read_job(jobs[0].folder).status == "complete"
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == "job 0 (seed=a) is left to the process that works on it"


def test_every_job_has_the_sweeps_number_of_threads(jobs: list[Job]) -> None:
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        _run(jobs[0], 1.0)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(usual)


def test_jobs_side_by_side_are_spread_over_the_gpus(tmp_path: Path) -> None:
    with claimed(tmp_path, 2) as first, claimed(tmp_path, 2) as second:
        assert (first, second) == (0, 1)
        with claimed(tmp_path, 2) as third:
            assert third == 0
    with claimed(tmp_path, 2) as first, claimed(tmp_path, 1) as other:
        assert (first, other) == (0, 0)


def test_where_there_are_no_locks_jobs_share_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridnet.files.fcntl", None)
    with claimed(tmp_path, 2) as first, claimed(tmp_path, 2) as second:
        assert (first, second) == (0, 0)
