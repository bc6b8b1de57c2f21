"""Between Hydra's sweeper and its launcher: knows what is done, and where each job goes on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from hybridnet import config
from hybridnet.errors import Fault, TrainingError
from hybridnet.files import shortened
from hybridnet.sweep.ledger import STOP, Ledger, Planned
from hybridnet.sweep.record import IN_USE, Job

MAX_DEATHS = 2  # of a job's process, after which the job has failed


def starts_processes(launcher: Mapping[str, Any]) -> bool:
    """Whether one of Hydra's launchers, as it is configured, runs the jobs in other processes than the sweep's."""
    return not launcher["_target_"].endswith(".BasicLauncher")


def stays_here(launcher: Mapping[str, Any]) -> bool:
    """Whether the jobs run on this machine, whose files can be looked at beforehand."""
    return not starts_processes(launcher) or "joblib" in launcher["_target_"]


class Planner(Protocol):
    """What tells the jobs of a sweep apart."""

    def planned(self, overrides: Sequence[str]) -> Planned:
        """The job of these overrides."""


class SweepStopped(BaseException):
    """A job has failed, and none shall start after that. Not an `Exception`: nothing shall catch it on its way."""


class _Failed(JobReturn):
    """Raises the job's error without Hydra's own line about it."""

    @property
    def return_value(self) -> Any:
        raise self._return_value


class LedgerLauncher(Launcher):
    """Gives those jobs of a batch that are not done to another launcher, each with its own folder.

    The others answer from the ledger. A launcher that fails as a whole, because a process of its was killed, is called
    again for what is left.

    Args:
        launcher: runs the jobs.
        ledger: of the sweep.
        jobs: knows each job's identity.
        is_search: whether the sweeper wants to know which jobs have failed; a grid would end with the first.
    """

    def __init__(self, launcher: Launcher, ledger: Ledger, jobs: Planner, *, is_search: bool) -> None:
        self.launcher = launcher
        self.ledger = ledger
        self.jobs = jobs
        self.is_search = is_search
        self._num_launched = 0

    def setup(self, **_: Any) -> None:
        """The other launcher was set up before."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run what is not done of a batch; returns one result for each of its jobs."""
        planned = [self.jobs.planned(overrides) for overrides in job_overrides]
        commands = {p.identity: list(o) for p, o in zip(planned, job_overrides, strict=True)}
        known = self.ledger.add(planned)
        for job in (job for job in known if self.is_search and job.is_done):
            print(f"a trial has the settings of job {job.name} again, and its result")
        before = {job.identity: job for job in known if not job.is_done}
        todo, num_started = list(before.values()), 0
        while todo:
            try:
                self._start([[*commands[job.identity], *_of_start(job)] for job in todo])
                break
            except Exception as error:
                num_before = num_started
                todo, num_started = self._left(before, error)
                if num_started == num_before:
                    raise  # it is not because of a job
        if (self.ledger.folder / STOP).exists():
            raise SweepStopped
        return [self._result(job, o) for job, o in zip(self.ledger.add(planned), job_overrides, strict=True)]

    def _start(self, commands: Sequence[Sequence[str]]) -> None:
        first = self._num_launched
        self._num_launched += len(commands)
        self.launcher.launch(commands, initial_job_idx=first)

    def _left(self, before: Mapping[str, Job], error: Exception) -> tuple[list[Job], int]:
        """After the launcher has failed as a whole: the jobs to start again, and how many attempts there were."""
        left, num_started = [], 0
        for job in (job for job in self.ledger.jobs() if job.identity in before):
            num_attempts = job.attempt - before[job.identity].attempt
            num_started += num_attempts
            if job.status == "interrupted" and num_attempts >= MAX_DEATHS:
                replace(job, status="failed", error=f"its process has ended: {error}").write()
            elif not (job.is_done or (job.status == "failed" and num_attempts)):
                left.append(job)
        return left, num_started

    def _result(self, job: Job, overrides: Sequence[str]) -> JobReturn:
        if job.is_done or not self.is_search:
            value = job.value if job.is_done else float("nan")
            return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value)
        return _Failed(overrides=overrides, status=JobStatus.FAILED, _return_value=TrainingError(fault_of(job)))


def _of_start(job: Job) -> list[str]:
    """Go on with what the job's folder holds, or begin there."""
    return [f"hydra.sweep.subdir={config.quoted(job.folder.name)}", "resume=auto"]


def how_to_continue(folder: Path) -> str:
    """The command that goes on with a sweep."""
    return f"python train.py resume={shlex.quote(str(shortened(folder.resolve())))}"


def fault_of(job: Job) -> Fault:
    """Why a job has failed, and what to do about it."""
    why, *details = (job.error or IN_USE).removeprefix("error: ").splitlines()
    if details and details[0].startswith("  "):  # of a list, the first one
        why = f"{why}: {details[0].strip()}"
    log = shortened(job.folder.resolve()) / "train.log"
    hint = f"{log} has the traceback; {how_to_continue(job.folder.parent)} tries it again"
    return Fault("failed job", job.name, why, hint)
