"""Timing in interleaved rounds: what disturbs the machine disturbs everything that is compared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

Call = Callable[[], object]


class Spread(NamedTuple):
    """Median and quartiles of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(low), float(high))


@dataclass
class Series:
    """Times of one call, in seconds.

    Attributes:
        means: of each round, over its calls.
        singles: of each call by itself, in all rounds.
    """

    means: list[float] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """Of the single calls, in seconds."""
        return float(np.percentile(self.singles, percent))

    def rate(self, num_images: int) -> Spread:
        """Pictures per second, with so many of them in a call."""
        return Spread.of([num_images / seconds for seconds in self.means])

    def speed_against(self, reference: Series) -> Spread:
        """How many times as fast as `reference`, compared round by round."""
        return Spread.of([theirs / own for own, theirs in zip(self.means, reference.means, strict=True)])


class Stopwatch:
    """Times calls whose work may go on after they return.

    Args:
        device: that works.
        clock: in seconds.
    """

    def __init__(self, device: torch.device, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.synchronize: Call = {
            "cuda": lambda: torch.cuda.synchronize(device),
            "mps": torch.mps.synchronize,
        }.get(device.type, lambda: None)
        self.is_asynchronous = device.type != "cpu"

    def together(self, call: Call, number: int) -> float:
        """Seconds of one of `number` calls that do not wait for each other."""
        self.synchronize()
        start = self.clock()
        for _ in range(number):
            call()
        self.synchronize()
        return (self.clock() - start) / number

    def measure(self, call: Call, number: int, series: Series) -> None:
        """Add a round of so many calls to `series`."""
        singles = [self.together(call, 1) for _ in range(number)]
        series.singles += singles
        # Waiting after every call leaves a GPU idle, as a single request does, but not a training.
        series.means.append(self.together(call, number) if self.is_asynchronous else sum(singles) / number)


def num_calls(call: Call, stopwatch: Stopwatch, *, warm_ups: int, seconds: float) -> int:
    """After some calls that do not count: how many take at least so many seconds."""
    durations = [stopwatch.together(call, 1) for _ in range(warm_ups + 1)]
    return max(1, math.ceil(seconds / durations[-1]))


def interleaved(calls: Sequence[tuple[Call, int]], *, rounds: int, stopwatch: Stopwatch) -> list[Series]:
    """Time every call so many times in each of so many rounds, in the opposite order in every other one."""
    series = [Series() for _ in calls]
    places = list(enumerate(calls))
    for number in range(rounds):
        for place, (call, count) in places[:: -1 if number % 2 else 1]:
            stopwatch.measure(call, count, series[place])
    return series
