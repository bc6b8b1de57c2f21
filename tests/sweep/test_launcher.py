from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from hybridnet.sweep.launcher import LedgerLauncher, SweepStopped, fault_of
from hybridnet.sweep.ledger import Ledger, Planned
from hybridnet.sweep.record import Attempt, Job, read_job


def _jobs(folder: Path) -> list[Job]:
    return Ledger(folder).jobs()


class Fragile(Launcher):
    """Runs jobs whose process dies as often as is said, and takes all others of the batch with it."""

    def __init__(self, deaths: dict[str, int], *, error: bool = True) -> None:
        self.deaths = deaths
        self.batches: list[list[str]] = []

    def setup(self, **_: object) -> None: ...

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.batches.append([overrides[0] for overrides in job_overrides])
        for name, subdir, resume in job_overrides:
            assert resume == "resume=auto"
            folder = self.folder / subdir.partition("=")[2].strip("'")
            if self.deaths.get(name, 0):
                self.deaths[name] -= 1
                job = read_job(folder)
                replace(job, status="running", attempt=job.attempt + 1).write()
                raise RuntimeError("a worker was killed")
            with Attempt(folder) as attempt:
                (folder / "status.json").write_text(json.dumps({"status": "complete"}))
                attempt.value = float(len(name))
        return []


class Names:
    """Knows jobs by their only override."""

    @staticmethod
    def planned(overrides: Sequence[str]) -> Planned:
        return Planned(overrides[0], list(overrides), list(overrides), overrides[0])


def _launcher(folder: Path, deaths: dict[str, int], *, is_search: bool = False) -> LedgerLauncher:
    inner = Fragile(deaths)
    inner.folder = folder
    return LedgerLauncher(inner, Ledger(folder), Names(), is_search=is_search)


def test_a_process_that_is_killed_takes_no_other_job_with_it(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, {"bb": 1, "ccc": 9})
    returns = launcher.launch([["a"], ["bb"], ["ccc"], ["dddd"]], initial_job_idx=0)
    jobs = _jobs(tmp_path)
    assert [(job.status, job.attempt) for job in jobs] == [
        ("complete", 1),
        ("complete", 2),
        ("failed", 2),
        ("complete", 1),
    ]
    assert jobs[2].error == "its process has ended: a worker was killed"
    assert [result.return_value for result in returns[:2]] == [1.0, 2.0] and returns[3].return_value == 4.0
    assert returns[2].return_value != returns[2].return_value, "a grid goes on: no value, and no error"
    again = launcher.launch([["a"], ["dddd"]], initial_job_idx=4)
    assert [result.return_value for result in again] == [1.0, 4.0]
    assert launcher.launcher.batches[-1] == ["dddd"], "what is done is not started again"


def test_a_process_may_be_killed_in_every_batch(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, {"a": 1, "bb": 1}, is_search=True)
    for name in ("a", "bb"):
        (result,) = launcher.launch([[name]], initial_job_idx=0)
        assert result.return_value == len(name)
    assert [(job.status, job.attempt) for job in _jobs(tmp_path)] == [("complete", 2)] * 2


def test_a_search_is_told_of_a_failure(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, {"bb": 9}, is_search=True)
    (result,) = launcher.launch([["bb"]], initial_job_idx=0)
    with pytest.raises(Exception, match=r"failed job in 0 \(bb\): its process has ended"):
        _ = result.return_value


def test_a_trial_with_the_settings_of_another_one_has_its_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = _launcher(tmp_path, {}, is_search=True)
    first, again = (launcher.launch([["bb"]], initial_job_idx=place)[0] for place in (0, 1))
    assert first.return_value == again.return_value == 2.0
    assert capsys.readouterr().out == "a trial has the settings of job 0 (bb) again, and its result\n"


def test_a_search_is_told_of_a_job_that_was_left_to_another_process(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, {}, is_search=True)
    launcher.launcher.launch = lambda *_, **__: []
    (result,) = launcher.launch([["bb"]], initial_job_idx=0)
    with pytest.raises(Exception, match=r"failed job in 0 \(bb\): another process works on it"):
        _ = result.return_value


def test_a_failure_is_told_with_the_first_of_what_it_lists(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, {"bb": 9})
    launcher.launch([["bb"]], initial_job_idx=0)
    (job,) = _jobs(tmp_path)
    error = "error: bad images in t.csv: 2 of them\n  line 4 'a.jpg': no such file\n  line 5 'b.jpg': is empty\nhint: x"
    assert fault_of(replace(job, error=error)).cause == "bad images in t.csv: 2 of them: line 4 'a.jpg': no such file"
    assert fault_of(replace(job, error="error: wrong in a: b\nhint: c")).cause == "wrong in a: b"


def test_a_launcher_that_starts_nothing_is_not_asked_again(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, {})

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no cluster")

    launcher.launcher.launch = fail
    with pytest.raises(RuntimeError, match="no cluster"):
        launcher.launch([["a"]], initial_job_idx=0)
    assert [job.status for job in _jobs(tmp_path)] == ["pending"]


def test_no_further_batch_starts_after_a_stop(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, {})
    (tmp_path / ".stop").touch()
    with pytest.raises(SweepStopped):
        launcher.launch([["a"]], initial_job_idx=0)
