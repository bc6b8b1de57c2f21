"""The record of a sweep's job, `job.json` in its run folder, and the attempts that keep it up to date."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hybridnet.errors import Fault, FaultsError, InputError
from hybridnet.files import read_json, try_lock, write_json

STATUS = "status.json"  # of a run: how it ended
JOB, LOCK = "job.json", ".job.lock"  # of one job: its record, and its process's lock

# `interrupted` is never written: the record says running, but the process is gone.
Status = Literal["pending", "running", "interrupted", "stopped", "failed", "pruned", "complete"]
DONE = ("pruned", "complete")
IN_USE = "another process works on it"
LOOKS, SECONDS_PER_LOOK = 1_000, 0.001  # at a job's lock, before it counts as in use


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: in the sweep, from 0; never given twice.
        folder: its run folder.
        identity: hash of the settings that decide what it computes.
        overrides: all that were typed for it.
        swept: those that differ between the jobs.
        status: how it stands.
        attempt: how often it was started.
        value: the best of the monitored metric, once it is done.
        error: why it failed.
        seconds: that all attempts took.
    """

    number: int
    folder: Path
    identity: str
    overrides: list[str]
    swept: list[str]
    status: Status = "pending"
    attempt: int = 0
    value: float | None = None
    error: str | None = None
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.status in DONE

    @property
    def name(self) -> str:
        """`3 (heads=4, seed=1)`, for people."""
        return f"{self.number} ({', '.join(self.swept)})" if self.swept else str(self.number)

    def write(self) -> None:
        """Write the record into the job's folder."""
        content = asdict(self)
        del content["folder"]  # it may be moved
        if self.status == "interrupted":
            content["status"] = "running"
        write_json(self.folder / JOB, content)


def read_job(folder: Path) -> Job:
    """The job whose run folder this is; one that is marked as running, but whose process is gone, is interrupted.

    Args:
        folder: with a `job.json`.

    Raises:
        InputError: if its record is damaged.
    """
    try:
        job = Job(folder=folder, **read_json(folder / JOB))
    except (ValueError, TypeError) as error:
        hint = "remove the folder: the sweep then runs this job again"
        raise InputError(Fault("unreadable record", str(folder / JOB), str(error), hint)) from error
    return replace(job, status="interrupted") if job.status == "running" and not _is_held(folder) else job


def is_job(folder: Path) -> bool:
    """Whether a run folder is that of a sweep's job."""
    return (folder / JOB).is_file()


class JobInUseError(InputError):
    """Another process works on the job, such as `python train.py resume=<its folder>`."""


@dataclass
class Attempt:
    """Context manager around one start of a job: whatever happens within, the record says so at the end.

    Args:
        folder: of the job.
        changes: entries of the record that are others once it has begun.
        begins_at_once: whether the record says running from the start; else from `begin` on.

    Attributes:
        value: to be set to the best of the monitored metric.
        is_void: to be set where nothing was trained: the record then stays as it is.
    """

    folder: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    begins_at_once: bool = True
    value: float | None = field(default=None, init=False)
    is_void: bool = field(default=False, init=False)

    def __enter__(self) -> Attempt:
        self._lock = (self.folder / LOCK).open("a", encoding="utf-8")
        if not self._has_lock():  # such as a requeued job whose predecessor has not ended yet
            self._lock.close()
            raise JobInUseError(Fault("job in use", str(self.folder), IN_USE))
        job = read_job(self.folder)
        self._job = replace(job, **self.changes, status="running", attempt=job.attempt + 1, value=None, error=None)
        self._started = time.monotonic()
        if self.begins_at_once:
            self.begin()
        return self

    def _has_lock(self) -> bool:
        """Take the lock, if no process works on the job; those that only look at it are gone in an instant."""
        for _ in range(LOOKS):
            if try_lock(self._lock) is not False:
                return True
            if _is_held(self.folder):
                return False
            time.sleep(SECONDS_PER_LOOK)
        return False

    def begin(self) -> None:
        """Write that the job is running."""
        self._job.write()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        with suppress(OSError) if error is not None else ExitStack():  # a full disk: the first error tells more
            if not self.is_void:
                self._ended(error).write()
        self._lock.close()

    def _ended(self, error: BaseException | None) -> Job:
        seconds = self._job.seconds + time.monotonic() - self._started
        job = replace(self._job, seconds=seconds, status=self._status(error), value=self.value)
        if isinstance(error, Exception):
            text = str(error) if isinstance(error, FaultsError) else f"{type(error).__name__}: {error}"
            job = replace(job, error=text)
        return job

    def _status(self, error: BaseException | None) -> Status:
        if error is not None:
            return "failed" if isinstance(error, Exception) else "stopped"
        return "pruned" if read_json(self.folder / STATUS)["status"] == "pruned" else "complete"


def _is_held(folder: Path) -> bool:
    """Whether a process works on the job; without locks none seems to, or one that was killed would for ever.

    Looking takes a share of the lock for an instant, and no permission but that to read.
    """
    try:
        with (folder / LOCK).open(encoding="utf-8") as lock:
            return try_lock(lock, is_shared=True) is False
    except FileNotFoundError:
        return False
