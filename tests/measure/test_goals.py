"""The goals of a CPU and of a GPU, from what was measured."""

from __future__ import annotations

import pytest

from hybridnet.measure.comparison import Key, Measurement, Results, Subject
from hybridnet.measure.feed import Feed
from hybridnet.measure.goals import Goal, goals
from hybridnet.measure.rounds import Series, Spread
from hybridnet.measure.startup import Startup
from hybridnet.measure.works import Case

PLAIN, LITE, FULL = Case("plain", None, 224), Case("hybrid", "lite", 224), Case("hybrid", "full", 224)
ONE = Spread(1, 1, 1)


def measured(speed: float | None) -> dict[str, Measurement]:
    spread = None if speed is None else Spread(speed, speed, speed)
    return {"training": Measurement(Series([1.0], [1.0]), speed=spread)}


def values(found: list[Goal]) -> list[float | None]:
    return [goal.found and goal.found.median for goal in found]


@pytest.fixture
def results() -> Results:
    return {
        Key(Subject(PLAIN, "off"), 32): measured(None),
        Key(Subject(PLAIN, "graph"), 32): measured(2.6),
        Key(Subject(PLAIN, "graph"), 256): measured(9.0),
        Key(Subject(LITE, "off"), 32): measured(0.97),
        Key(Subject(FULL, "off"), 32): measured(0.9),
        Key(Subject(FULL, "off"), 1): measured(0.5),
        Key(Subject(FULL, "graph"), 32): measured(1.9),
    }


def test_of_a_cpu(results: Results) -> None:
    feed = Feed(Spread(60, 59, 61), ONE, Spread(0.97, 0.96, 0.98), 6, 32, ONE, Spread(2.9, 2.8, 3))
    startup = Startup(Spread(2.9, 2.8, 5.1), Spread(0.41, 0.3, 0.5))
    found = goals(results, {"off": feed}, startup, modes=["off"], device="cpu")
    assert values(found) == [0.97, 2.9, 0.9, 2.9, 0.41]
    assert [goal.is_reached for goal in found] == [False, True, True, True, False]


def test_of_a_gpu(results: Results) -> None:
    """The fastest way of a step counts, against operation by operation."""
    feeds = {mode: Feed(Spread(rate, rate, rate), ONE, ONE, 6, 256) for mode, rate in (("off", 9e3), ("graph", 16e3))}
    startup = Startup(Spread(9, 8, 10), Spread(0.2, 0.1, 0.3))
    found = goals(results, feeds, startup, modes=["off", "graph"], device="cuda")
    assert values(found) == [1, 16_000, 2.6, 9, 0.2]
    assert [goal.is_reached for goal in found] == [True, True, True, False, True]
    small = {mode: feed._replace(batch_size=32) for mode, feed in feeds.items()}
    assert values(goals(results, small, None, modes=["off", "graph"], device="cuda"))[:3] == [1, None, 2.6]


def test_what_was_not_measured_is_left_open(results: Results) -> None:
    assert values(goals({}, {}, None, modes=["off"], device="cpu")) == [None] * 5
    found = goals(results, {}, None, modes=["graph", "off"], device="cuda")
    assert values(found) == [None] * 5, "nothing is relative to operation by operation"
    assert [goal.is_reached for goal in found] == [None] * 5 and all(goal.how for goal in found)
    assert goals(results, {}, None, modes=["off"], device="mps") == [], "nobody has said what is wanted there"
