"""Batches, made ahead of the step: by threads of this process, or by worker processes."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import zip_longest
from typing import Literal, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from hybridnet.data.batch import Batch
from hybridnet.errors import InputError

PREFETCHED_BATCHES = 2
MOST_THREADS = 16


class Request(NamedTuple):
    """A batch of an epoch.

    Attributes:
        epoch: of the training; 0 for evaluation.
        indices: int64 (B,), of the samples.
        repeats: int64 (B,), how often each was asked for before in this epoch.
    """

    epoch: int
    indices: np.ndarray
    repeats: np.ndarray


class Samples:
    """What a loader reads from. Must be picklable."""

    def make(self, request: Request, pool: ThreadPoolExecutor | None = None) -> Batch:
        """The batch that was asked for; depends on nothing else. The threads of `pool` may share the work."""
        raise NotImplementedError

    def will_need(self, request: Request) -> None:
        """Let the system read ahead what this request will need."""


class Loader:
    """Yields the batches of an epoch in the given order.

    A sample depends on nothing but its epoch and index, so threads, workers and their number change speed only.

    Args:
        samples: the source.
        batch_size: pictures per batch; the last one may be shorter.
        num_workers: `auto` for threads (decoding releases the interpreter's lock; worker processes cost seconds to
            start and take cores from a model that trains on the CPU), 0 for none, else the number of worker processes.
        pin_memory: put batches into page-locked memory.
        is_ahead: the threads make batches while others are trained on, as a GPU wants. Where the CPU trains, they would
            only disturb it: 2 % of a ResNet-18's speed. There they share the work on a batch when it is asked for.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        num_workers: int | Literal["auto"],
        pin_memory: bool,
        is_ahead: bool,
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.pin_memory = pin_memory
        self.num_workers = num_workers
        self.is_ahead = is_ahead
        self._requests: list[Request] = []  # of the current epoch, for the worker processes
        self._processes = self._start_processes(num_workers) if isinstance(num_workers, int) and num_workers else None

    def epoch(self, epoch: int, order: np.ndarray) -> Iterator[Batch]:
        """The batches of the samples `order`, as they are in `epoch`."""
        requests = self.requests(epoch, order)
        if self._processes is not None:
            self._requests[:] = requests
            with _without_advice():
                return map(_checked, self._processes)
        if self.num_workers == 0:
            return (self._make(request) for request in requests)
        return self._made_ahead(requests) if self.is_ahead else self._made_together(requests)

    def requests(self, epoch: int, order: np.ndarray) -> list[Request]:
        """`order` in batches; the last one may be shorter."""
        repeats = _occurrences(order)
        parts = [slice(start, start + self.batch_size) for start in range(0, len(order), self.batch_size)]
        return [Request(epoch, order[part], repeats[part]) for part in parts]

    def _make(self, request: Request, pool: ThreadPoolExecutor | None = None) -> Batch:
        batch = self.samples.make(request, pool)
        return batch.pin_memory() if self.pin_memory else batch

    def _made_together(self, requests: list[Request]) -> Iterator[Batch]:
        with ThreadPoolExecutor(_num_threads(), thread_name_prefix="feed") as pool:
            for request, following in zip_longest(requests, requests[1:]):
                if following:
                    self.samples.will_need(following)
                yield self._make(request, pool)

    def _made_ahead(self, requests: list[Request]) -> Iterator[Batch]:
        pending: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(_num_threads(), thread_name_prefix="prefetch")
        try:
            for request in requests:
                pending.append(pool.submit(self._make, request))
                if len(pending) >= _num_threads() + PREFETCHED_BATCHES:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _start_processes(self, num_workers: int) -> DataLoader:
        # Not fork: this process has threads, and a forked child can inherit a lock that nobody will release.
        has_server = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if has_server else "spawn")
        if has_server:
            context.set_forkserver_preload(["hybridnet.data.samples"])  # torch is imported once, not in every worker
        with _without_advice():
            return DataLoader(
                _Guarded(self.samples),
                sampler=self._requests,
                batch_size=None,
                num_workers=num_workers,
                collate_fn=_as_is,
                pin_memory=self.pin_memory,
                persistent_workers=True,
                prefetch_factor=PREFETCHED_BATCHES,
                multiprocessing_context=context,
            )


class _Guarded(Dataset):
    """Hands a bad input on as a value: torch would rebuild the exception from its text, with a traceback in it."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, request: Request) -> Batch | InputError:
        try:
            return self.samples.make(request)
        except InputError as error:
            return error


@contextmanager
def _without_advice() -> Iterator[None]:
    """torch would say for every loader and epoch that the user's number of workers exceeds the cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _checked(batch: Batch | InputError) -> Batch:
    if isinstance(batch, InputError):
        raise batch
    return batch


def _as_is(batch: Batch | InputError) -> Batch | InputError:
    return batch


def _occurrences(order: np.ndarray) -> np.ndarray:
    """How often each value stands before its place: [7, 3, 7, 7] -> [0, 0, 1, 2]."""
    by_value = np.argsort(order, kind="stable")
    _, starts = np.unique(order[by_value], return_index=True)
    run = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    found = np.empty_like(run)
    found[by_value] = run
    return found


def _num_threads() -> int:
    return min(MOST_THREADS, os.cpu_count() or 1)
