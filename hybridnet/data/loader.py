"""Batches, made ahead of the step: by threads of this process, or by worker processes."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hybridnet.data.batch import Batch
from hybridnet.errors import InputError

Request = tuple[int, int]  # epoch, index of the sample
PREFETCHED_BATCHES = 2


class Samples(Dataset):
    """What a loader reads from: makes a whole batch from (epoch, index) pairs. Must be picklable."""

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        raise NotImplementedError


class Loader:
    """Yields the batches of an epoch in the given order.

    A sample depends on nothing but its epoch and index, so threads, workers and their number change speed only.

    Args:
        samples: the source.
        batch_size: pictures per batch; the last one may be shorter.
        num_workers: `auto` for threads (JPEG decoding releases the GIL; worker processes cost seconds to start and
            take cores from a model that trains on the CPU), 0 for none, else the number of worker processes.
        pin_memory: put batches into page-locked memory.
    """

    def __init__(
        self, samples: Samples, *, batch_size: int, num_workers: int | Literal["auto"], pin_memory: bool
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.pin_memory = pin_memory
        self.num_workers = num_workers
        self._requests: list[list[Request]] = []  # of the current epoch, for the worker processes
        self._processes = self._start_processes(num_workers) if isinstance(num_workers, int) and num_workers else None

    def epoch(self, epoch: int, order: np.ndarray) -> Iterator[Batch]:
        """The batches of the samples `order`, as they are in `epoch`."""
        starts = range(0, len(order), self.batch_size)
        requests = [[(epoch, int(i)) for i in order[start : start + self.batch_size]] for start in starts]
        if self._processes is not None:
            self._requests[:] = requests
            return map(_checked, self._processes)
        if self.num_workers == 0:
            return (self._make(request) for request in requests)
        return self._prefetch(requests)

    def _make(self, requests: Sequence[Request]) -> Batch:
        batch = self.samples.__getitems__(requests)
        return batch.pin_memory() if self.pin_memory else batch

    def _prefetch(self, requests: list[list[Request]]) -> Iterator[Batch]:
        num_threads = _num_threads()
        pending: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(num_threads, thread_name_prefix="prefetch")
        try:
            for request in requests:
                pending.append(pool.submit(self._make, request))
                if len(pending) >= num_threads + PREFETCHED_BATCHES:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _start_processes(self, num_workers: int) -> DataLoader:
        # Not fork: this process has threads, and a forked child can inherit a lock that nobody will release.
        methods = multiprocessing.get_all_start_methods()
        return DataLoader(
            _Guarded(self.samples),
            batch_sampler=self._requests,
            num_workers=num_workers,
            collate_fn=_as_is,
            pin_memory=self.pin_memory,
            persistent_workers=True,
            prefetch_factor=PREFETCHED_BATCHES,
            multiprocessing_context="forkserver" if "forkserver" in methods else "spawn",
        )


def collate(make: Callable[[Request], tuple[np.ndarray, np.ndarray, int]], requests: Sequence[Request]) -> Batch:
    """Stack samples (pixels, colour, label) into a batch."""
    images, colour, labels = zip(*(make(request) for request in requests), strict=True)
    return Batch(
        images=torch.from_numpy(np.stack(images)),
        colour=torch.from_numpy(np.stack(colour)),
        labels=torch.tensor(labels, dtype=torch.int64),
    )


class _Guarded(Samples):
    """Hands a bad input on as a value: torch would rebuild the exception from its text, with a traceback in it."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitems__(self, requests: Sequence[Request]) -> Batch | InputError:
        try:
            return self.samples.__getitems__(requests)
        except InputError as error:
            return error


def _checked(batch: Batch | InputError) -> Batch:
    if isinstance(batch, InputError):
        raise batch
    return batch


def _as_is(batch: Batch | InputError) -> Batch | InputError:
    return batch


def _num_threads() -> int:
    """One thread where the CPU trains: it feeds two cores several times over. More where a GPU waits for pictures."""
    return min(16, os.cpu_count() or 1) if torch.cuda.is_available() else 1
