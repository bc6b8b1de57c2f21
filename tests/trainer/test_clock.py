from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from hybridnet.trainer import clock as module
from hybridnet.trainer.clock import Clock
from hybridnet.trainer.state import State


class Watch:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def batches(self, *seconds: float, end: float = 0.0) -> Iterator[int]:
        """Each takes its seconds to make; the last is followed by `end`."""
        for number, duration in enumerate(seconds):
            self.now += duration
            yield number
        self.now += end


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=watch))
    return watch


def test_steps_and_waiting_for_data_are_counted_and_nothing_else(watch: Watch) -> None:
    state = State()
    clock = Clock(state)
    watch.now += 1000  # between the clock's making and the first batch
    for number in clock.timed(watch.batches(2, 4, 8, end=16)):
        watch.now += 32
        clock.lap()
        watch.now += 64  # such as saving
        assert state.wait_seconds == [2, 2 + 4, 2 + 4 + 8][number]
        assert state.train_seconds == state.wait_seconds + 32 * (number + 1)
    assert state.wait_seconds == 2 + 4 + 8 + 16
    assert state.train_seconds == 2 + 4 + 8 + 16 + 3 * 32


def test_laps_add_up(watch: Watch) -> None:
    """The first lap of a step is before its report, which takes no time of the training, the second after it."""
    state = State()
    clock = Clock(state)
    for _ in clock.timed(watch.batches(1)):
        watch.now += 2
        clock.lap()
        assert state.train_seconds == 3
        watch.now += 4
        clock.lap()
        assert state.train_seconds == 7
    assert state.wait_seconds == 1


def test_the_speed_is_that_since_the_clock_was_made(watch: Watch) -> None:
    state = State(num_images=1000, train_seconds=10.0, wait_seconds=3.0)
    clock = Clock(state)
    for _ in clock.timed(watch.batches(2, 6)):
        state.num_images += 20
        watch.now += 3
        clock.lap()
    assert clock.images_per_second == 40 / (2 + 3 + 6 + 3)
    assert (state.num_images, state.train_seconds, state.wait_seconds) == (1040, 24.0, 11.0)


def test_a_source_that_fails_is_not_waited_for(watch: Watch) -> None:
    def batches() -> Iterator[int]:
        yield from watch.batches(1)
        watch.now += 100
        raise OSError("gone")

    state = State()
    clock = Clock(state)
    with pytest.raises(OSError, match="gone"):
        for _ in clock.timed(batches()):
            clock.lap()
    assert state.train_seconds == state.wait_seconds == 1
