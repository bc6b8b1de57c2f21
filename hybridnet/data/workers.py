"""Worker processes: deaf to signals, gone when the main process is, and with failures that arrive as values."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize, is_exiting
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from hybridnet.data.batch import Batch
from hybridnet.data.failures import explain, unexpected
from hybridnet.data.processes import IGNORED, known_start_method, prepare
from hybridnet.errors import InputError, TrainingError

PREFETCHED_BATCHES = 2  # of each process
SPARE_FILES = 4  # that a packed batch leaves to the thread that hands it over, or the main process would wait for ever
SECONDS_FOR_AN_END = 1.0  # until the end of a process is known, of which something else was noticed first


class Workers:
    """Processes that make batches while others are trained on.

    A Ctrl-C or a scheduler's SIGTERM goes to the whole process group. The processes ignore both: the main process may
    want to finish its step and save. They end with this object, and with the main process, however it ends.

    Args:
        make: one batch of a request. Must be picklable.
        num_workers: of processes, at least 1. They start with the first batches.
        pin_memory: put batches into page-locked memory.
    """

    def __init__(self, make: Callable[[Any], Batch], *, num_workers: int, pin_memory: bool) -> None:
        self.num_workers = num_workers
        self._requests: list[Any] = []  # of the current epoch
        # Not fork: this process has threads, and a forked child can inherit a lock that nobody will release.
        self._has_server = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if self._has_server else "spawn")
        if self._has_server:
            context.set_forkserver_preload(["hybridnet.data.samples"])  # torch is imported once, not in every worker
        with _without_advice():
            self._loader = DataLoader(
                _Guarded(make),
                sampler=self._requests,
                batch_size=None,
                num_workers=num_workers,
                collate_fn=_as_is,
                pin_memory=pin_memory,
                worker_init_fn=prepare,
                persistent_workers=True,
                prefetch_factor=PREFETCHED_BATCHES,
                multiprocessing_context=context,
                generator=torch.Generator(),  # the seed that torch draws for them must not change the global state
            )
        # At the exit, before multiprocessing sends its children the SIGTERM that these ignore, and waits for them.
        Finalize(self, _end, args=[self._loader], exitpriority=0)

    def batches(self, requests: Sequence[Any]) -> Iterator[Batch]:
        """The batches of `requests`, in their order.

        Raises:
            InputError: of `make`.
            TrainingError: if a process was killed, failed, or was refused something by the system.
        """
        self._requests[:] = requests
        try:
            for made in self._started():
                if isinstance(made, _Failure):
                    raise made.error from _WorkerError(made.traceback)
                yield made
        except (InputError, TrainingError):
            raise
        except Exception as error:
            raise self._explained(error) from error

    def _started(self) -> Iterator[Batch | _Failure]:
        if self._has_server:
            _start_server()
        others = {*multiprocessing.active_children()}
        try:
            with _without_advice(), known_start_method():
                return iter(self._loader)
        except BaseException:
            _kill({*multiprocessing.active_children()} - others)  # those that were started, which torch has lost
            raise

    def _explained(self, error: Exception) -> TrainingError:
        processes = _processes(self._loader)
        connection.wait([process.sentinel for process in processes], timeout=SECONDS_FOR_AN_END)
        exit_codes = {process.pid: process.exitcode for process in processes if not process.is_alive()}
        explained = explain(error, num_workers=self.num_workers, exit_codes=exit_codes)
        return explained or unexpected(error, f"data.num_workers={self.num_workers}")


class _Guarded(Dataset):
    """Hands failures on as values: torch would rebuild an exception from its text, with a traceback in it."""

    def __init__(self, make: Callable[[Any], Batch]) -> None:
        self.make = make

    def __getitem__(self, request: Any) -> _Packed | _Failure:
        try:
            return _Packed(self.make(request))
        except Exception as error:
            known = explain(error, num_workers=torch.utils.data.get_worker_info().num_workers)
            known = known or (error if isinstance(error, InputError | TrainingError) else None)
            return _Failure(known or unexpected(error, f"worker process {os.getpid()}"), traceback.format_exc())


class _Packed:
    """A batch in shared memory, which the main process receives as the batch itself.

    Left to the thread that feeds the queue, packing would fail there: it prints the error and drops the batch, for
    which the main process would wait for ever.
    """

    def __init__(self, batch: Batch) -> None:
        with ExitStack() as spare:
            for _ in range(SPARE_FILES):
                spare.enter_context(Path(os.devnull).open("rb"))
            self.content = bytes(ForkingPickler.dumps(batch))

    def __reduce__(self) -> tuple[Callable[[bytes], Batch], tuple[bytes]]:
        return ForkingPickler.loads, (self.content,)


@dataclass
class _Failure:
    """Of a worker, as it travels: a pickled exception loses what it was raised from."""

    error: InputError | TrainingError
    traceback: str


class _WorkerError(Exception):
    """The traceback of a worker, to raise its error from."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _start_server() -> None:
    """Start the server that workers are forked from, if it is not running, with the signals blocked.

    It inherits that and hands it on to the workers. Its own code would die of a SIGTERM, and the workers with it.
    """
    resource_tracker.ensure_running()  # or it would be started within, and unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _processes(loader: DataLoader) -> list[BaseProcess]:
    return [] if loader._iterator is None else loader._iterator._workers


def _end(loader: DataLoader) -> None:
    # torch's way would take 10 s for each process at the exit, where the queues are closed already.
    if loader._iterator is not None and not is_exiting():
        loader._iterator._shutdown_workers()
    _kill(_processes(loader))


def _kill(processes: Collection[BaseProcess]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


@contextmanager
def _without_advice() -> Iterator[None]:
    """torch would say for every loader and epoch that the user's number of workers exceeds the cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _as_is(made: _Packed | _Failure) -> _Packed | _Failure:
    return made
