"""Timing: rounds are interleaved, and ratios are those of the pairs, with a clock that the calls themselves move."""

from __future__ import annotations

import pytest
import torch

from hybridnet.measure.rounds import Series, Spread, Stopwatch, interleaved, num_calls


class Clock:
    """Stands still, except while something is called."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def taking(self, name: str, *seconds: float) -> object:
        durations = iter(seconds)

        def call() -> None:
            self.calls.append(name)
            self.now += next(durations)

        return call


@pytest.fixture
def clock() -> Clock:
    return Clock()


def stopwatch(clock: Clock) -> Stopwatch:
    return Stopwatch(torch.device("cpu"), clock=clock)


def test_rounds_are_interleaved_in_changing_order(clock: Clock) -> None:
    calls = [(clock.taking("a", *[1.0] * 6), 2), (clock.taking("b", *[1.0] * 3), 1)]
    interleaved(calls, rounds=3, stopwatch=stopwatch(clock))
    assert "".join(clock.calls) == "aabbaaaab"


def test_ratio_is_the_median_of_the_pairs_not_the_ratio_of_the_medians(clock: Clock) -> None:
    """The machine is ten times slower in the second round, which is no one's merit."""
    calls = [(clock.taking("a", 1, 10, 4), 1), (clock.taking("b", 2, 20, 2), 1)]
    reference, other = interleaved(calls, rounds=3, stopwatch=stopwatch(clock))
    assert reference.means == [1, 10, 4] and other.means == [2, 20, 2]
    assert other.speed_against(reference) == Spread(0.5, 0.5, 1.25)


def test_a_round_counts_the_mean_of_its_calls_and_each_by_itself(clock: Clock) -> None:
    (series,) = interleaved([(clock.taking("a", 1, 3, 2, 6), 2)], rounds=2, stopwatch=stopwatch(clock))
    assert series.means == [2, 4]
    assert series.singles == [1, 3, 2, 6]
    assert series.percentile(50) == 2.5
    assert series.rate(8) == Spread(3.0, 2.5, 3.5)


def test_a_device_that_works_ahead_is_waited_for_outside_the_calls(clock: Clock) -> None:
    waited = stopwatch(clock)
    waited.is_asynchronous = True
    waited.synchronize = lambda: clock.calls.append("wait")
    waited.measure(clock.taking("a", 1, 1, 5, 7), 2, series := Series())
    assert clock.calls == ["wait", "a", "wait"] * 2 + ["wait", "a", "a", "wait"]
    assert (series.singles, series.means) == ([1, 1], [6])


@pytest.mark.parametrize(("seconds", "expected"), [(0.1, 1), (2.0, 1), (2.1, 2), (9.0, 5)])
def test_calls_that_fill_the_time_after_the_warm_up(seconds: float, expected: int, clock: Clock) -> None:
    call = clock.taking("a", 90, 70, 2)
    assert num_calls(call, stopwatch(clock), warm_ups=2, seconds=seconds) == expected
