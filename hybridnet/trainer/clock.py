"""Where the time goes: steps and waiting for data, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from hybridnet.trainer.state import State

T = TypeVar("T")


class Clock:
    """Adds to a state the time of its steps and of waiting for their batches.

    What happens between `lap` and the next batch, such as saving, is not counted.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._read_at = time.perf_counter()
        self._before = (state.num_images, state.train_seconds)
        self._mark = 0.0

    @property
    def images_per_second(self) -> float:
        """Since the clock was made."""
        num_images, seconds = self._before
        return (self.state.num_images - num_images) / (self.state.train_seconds - seconds)

    @property
    def seconds_since_reading(self) -> float:
        """Since `mark_reading`, or since the clock was made."""
        return time.perf_counter() - self._read_at

    def mark_reading(self) -> None:
        """The device was read."""
        self._read_at = time.perf_counter()

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches; waiting for each of them is counted."""
        source = iter(batches)
        while True:
            self._mark = time.perf_counter()
            batch = next(source, None)
            self.state.wait_seconds += time.perf_counter() - self._mark
            if batch is None:
                self.lap()
                return
            yield batch

    def lap(self) -> None:
        """Count the time since the batch was asked for, or since the last lap."""
        now = time.perf_counter()
        self.state.train_seconds += now - self._mark
        self._mark = now
