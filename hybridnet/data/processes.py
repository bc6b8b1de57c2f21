"""The same work on many items, in processes: threads of Python do little of it at the same time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Protocol, TypeVar

from hybridnet.data.threads import BLOCK, in_threads, num_cpus
from hybridnet.memory import keep_large_blocks

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

IGNORED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
LEAST_ITEMS = 4096  # of pictures: for fewer, processes are not worth the half second that their start takes
MOST_PROCESSES = 16


class Worker(SpawnProcess):
    """Ends when it is told to: it ignores the signal by which a broken pool of Python 3.12 ends the others."""

    def terminate(self) -> None:
        self.kill()


class OwnContext(SpawnContext):
    """Processes that do not begin as copies: this one has threads, and a copy can have a lock that nobody releases."""

    Process = Worker


class Map(Protocol):
    """`map`, whose results are in the order of the items; what an item raises is raised in its place, at the latest.

    When the iterator is closed, the rest is not done.
    """

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]: ...


@contextmanager
def workforce(num_items: int) -> Iterator[Map]:
    """`map` for work on pictures: in processes where there is enough to do for several processors, else in threads.

    Functions, items and results must be picklable. A function may be called twice for an item: if a process is killed,
    or none can be started, threads do what is left.
    """
    keep_large_blocks()
    has_few = num_items < LEAST_ITEMS or num_cpus() == 1
    if has_few or multiprocessing.current_process().daemon:  # which may have no children
        yield in_threads
        return
    pool = ProcessPoolExecutor(min(num_cpus(), MOST_PROCESSES), mp_context=OwnContext(), initializer=prepare)
    try:
        yield partial(_in_processes, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def prepare(*_: object) -> None:
    """What a worker process begins with: it is deaf to signals, and gone when the main process is."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_main, daemon=True).start()
    keep_large_blocks()


@contextmanager
def known_start_method() -> Iterator[None]:
    """Processes that are started within are told of a way to start others that they know.

    In a job of the joblib launcher, the one that is set is joblib's own: a process would end when it hears of it.
    """
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(method, force=True)


def _end_with_main() -> None:
    """The parent need not be the main process: it may be a server of workers, which waits for its last one."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _in_processes(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    items, num_done = list(items), 0
    try:
        for result in _started(pool, function, items):
            num_done += 1
            yield result
    except BrokenProcessPool:
        log.warning("a process that helps to read the pictures has ended, or could not start; threads go on without it")
        yield from in_threads(function, items[num_done:])


def _started(pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    try:
        with _apart():
            return pool.map(function, items, chunksize=BLOCK)
    except OSError as error:  # a limit of processes, of memory, or of open files
        raise BrokenProcessPool from error


@contextmanager
def _apart() -> Iterator[None]:
    """What is started within does not import the main program, and a signal to its group does not end it.

    The main program may be a user's script that does everything once more when it is imported.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED) if hasattr(signal, "pthread_sigmask") else None
    try:
        with known_start_method():
            yield
    finally:
        sys.modules["__main__"] = main
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
