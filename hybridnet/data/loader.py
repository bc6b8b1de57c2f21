"""Batches, made ahead of the step: by threads of this process, or by worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import Literal, NamedTuple

import numpy as np

from hybridnet.data.batch import Batch
from hybridnet.data.failures import explain
from hybridnet.data.threads import num_cpus
from hybridnet.data.workers import Workers

PREFETCHED_BATCHES = 2
MOST_THREADS = 16


class Request(NamedTuple):
    """A batch of an epoch, or a part of one.

    Attributes:
        epoch: of the training; 0 for evaluation.
        indices: int64 (B,), of the samples.
        repeats: int64 (B,), how often each was asked for before in this epoch.
        num_images: of the whole batch.
    """

    epoch: int
    indices: np.ndarray
    repeats: np.ndarray
    num_images: int


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
        self._workers = None
        if isinstance(num_workers, int) and num_workers:
            self._workers = Workers(samples.make, num_workers=num_workers, pin_memory=pin_memory)

    def epoch(
        self, epoch: int, order: np.ndarray, first: int = 0, *, part: Callable[[list[Request]], list[Request]] = list
    ) -> Iterator[Batch]:
        """The batches of the samples `order`, as they are in `epoch`, from batch number `first` on.

        `part` says what of them is this process's. There are none left where a run has trained on more of them, before
        its batch size was changed.

        Raises:
            InputError: if a picture can no longer be read.
            TrainingError: if the system refuses memory or files, or a worker process ended.
        """
        requests = self.requests(epoch, order)
        return self._explained(part(requests[first:]))

    def requests(self, epoch: int, order: np.ndarray) -> list[Request]:
        """`order` in batches; the last one may be shorter."""
        repeats = _occurrences(order)
        parts = [slice(start, start + self.batch_size) for start in range(0, len(order), self.batch_size)]
        return [Request(epoch, order[part], repeats[part], len(order[part])) for part in parts]

    def _explained(self, requests: list[Request]) -> Iterator[Batch]:
        try:
            yield from self._made(requests)
        except Exception as error:
            if explained := explain(error, num_workers=self.num_workers):
                raise explained from error
            raise

    def _made(self, requests: list[Request]) -> Iterator[Batch]:
        if self._workers is not None:
            return self._workers.batches(requests)
        if self.num_workers == 0:
            return (self._make(request) for request in requests)
        return self._made_ahead(requests) if self.is_ahead else self._made_together(requests)

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


def _occurrences(order: np.ndarray) -> np.ndarray:
    """How often each value stands before its place: [7, 3, 7, 7] -> [0, 0, 1, 2]."""
    by_value = np.argsort(order, kind="stable")
    _, starts = np.unique(order[by_value], return_index=True)
    run = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    found = np.empty_like(run)
    found[by_value] = run
    return found


def _num_threads() -> int:
    return min(MOST_THREADS, num_cpus())
