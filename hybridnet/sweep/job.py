"""One job of a sweep, in whichever process the launcher runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hybridnet.console import duration
from hybridnet.errors import FaultsError, InputError
from hybridnet.files import try_lock
from hybridnet.sweep.ledger import STOP, Ledger, read_sweep
from hybridnet.sweep.record import Attempt, JobInUseError, read_job

log = logging.getLogger(__name__)


class NotStartedError(Exception):
    """The job stays as it is."""


def run_job(function: Callable[[], float], folder: Path, *, on_error: str, shares_gpus: bool) -> float:
    """Run a job and keep its record.

    Args:
        function: trains; returns the best of the monitored metric.
        folder: of the job.
        on_error: `stop` if no other job shall start once this one has failed.
        shares_gpus: whether other jobs run beside it in processes that see the same GPUs.

    Raises:
        NotStartedError: if a job has failed after which no other one shall start, or another process works on this one.
        Exception: what `function` raises; the job's log then has the traceback.
    """
    sweep = folder.parent
    if (sweep / STOP).exists():
        raise NotStartedError
    job = read_job(folder)
    if num_threads := read_sweep(sweep)["num_threads"]:
        torch.set_num_threads(num_threads)
    log.info(f"job {job.name}{f', attempt {job.attempt + 1}' if job.attempt else ''}")
    try:
        with Attempt(folder) as attempt, _one_gpu(sweep, shares_gpus):
            attempt.value = function()
    except JobInUseError as error:
        log.warning(f"job {job.name} is left to the process that works on it")
        raise NotStartedError from error
    except Exception as error:
        if on_error == "stop":
            (sweep / STOP).touch()
        message = str(error) if isinstance(error, FaultsError) else f"{type(error).__name__}: {error}"
        # Of other errors the run itself has logged the traceback.
        log.error(f"job {job.name} failed\n{message}", exc_info=error if isinstance(error, InputError) else None)
        raise
    log.info(_progress(sweep))
    return attempt.value


def _progress(sweep: Path) -> str:
    """`5 of 12 jobs done, about 3:20 left`; of a search up to 12, as several of its trials may be one job."""
    jobs, asked = Ledger(sweep).jobs(), read_sweep(sweep)
    seconds = [job.seconds for job in jobs if job.is_done]
    num_jobs = max(asked["num_jobs"], len(jobs))
    num_left = num_jobs - len(seconds) - sum(job.status == "failed" for job in jobs)
    num_parallel = 1 + sum(job.status == "running" for job in jobs)
    left = f", about {duration(num_left * sum(seconds) / len(seconds) / num_parallel)} left" if num_left > 0 else ""
    return f"{len(seconds)} of {'up to ' if asked['is_search'] else ''}{num_jobs} jobs done{left}"


@contextmanager
def _one_gpu(sweep: Path, shares_gpus: bool) -> Iterator[None]:
    """Let the job have a GPU that no job of another process has, as long as there is one."""
    if not (shares_gpus and torch.cuda.is_available()):
        yield
        return
    with claimed(sweep, torch.cuda.device_count()) as number:
        torch.cuda.set_device(number)
        yield


@contextmanager
def claimed(sweep: Path, num_devices: int) -> Iterator[int]:
    """The number of the device with the fewest claims; the system frees that of a process that was killed."""
    for place in range(1_000 * num_devices):
        stream: Any = (sweep / f".gpu-{place % num_devices}-{place // num_devices}").open("a", encoding="utf-8")
        with stream:
            if try_lock(stream) is not False:
                yield place % num_devices
                return
    raise AssertionError("a thousand jobs on each device")
