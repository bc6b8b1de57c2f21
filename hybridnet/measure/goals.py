"""The figures that this project wants to reach, beside those of the machine at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hybridnet.measure.comparison import Results
from hybridnet.measure.feed import Feed
from hybridnet.measure.rounds import Spread
from hybridnet.measure.startup import Startup

BATCH, LARGE_BATCH = 32, 256
START = "startup=true"


class Goal(NamedTuple):
    """A figure to be reached.

    Attributes:
        text: what of.
        wanted: at least so much, or at most.
        found: here; None where it was not measured.
        how: what measures it.
        is_limit: whether less is better.
    """

    text: str
    wanted: float
    found: Spread | None
    how: str
    is_limit: bool = False

    @property
    def is_reached(self) -> bool | None:
        """By the median; None where it was not measured."""
        if self.found is None:
            return None
        return self.found.median <= self.wanted if self.is_limit else self.found.median >= self.wanted


def goals(
    results: Results, feeds: Mapping[str, Feed], startup: Startup | None, *, modes: Sequence[str], device: str
) -> list[Goal]:
    """Those of a CPU, or of a CUDA GPU (an H100); there are none for others.

    Args:
        results: of the models.
        feeds: of the data, by mode.
        startup: of a training; None where it was not measured.
        modes: of the step; the first one is what the models' speeds are relative to.
        device: the kind that was measured.
    """
    first_step, job = startup or (None, None)
    to_first_step = "from the start of python train.py to the end of the first step, seconds"
    begins = [
        Goal(to_first_step, 5.0, first_step, START, is_limit=True),
        Goal("a job of a sweep in one process, beside its training steps, seconds", 0.4, job, START, is_limit=True),
    ]
    share, textbook = (_best(feeds.values(), name) for name in ("share", "against_textbook"))
    if device == "cpu":
        hybrid = _speed(results, "hybrid", BATCH, modes[:1])
        how = f"models=[hybrid] sizes=[full] batch_sizes=[{BATCH}]"
        return [
            Goal("training on the data, × the same loop on one batch (0.95 decoding live)", 0.98, share, "data=…"),
            Goal("training on the data, × the textbook loop", 2.8, textbook, "data=… textbook=true"),
            Goal(f"hybrid's training step, × plain's, batch {BATCH}", 0.88, hybrid, how),
            *begins,
        ]
    if device == "cuda":
        rate = _best((feed for feed in feeds.values() if feed.batch_size >= LARGE_BATCH), "real")
        captured = _speed(results, "plain", BATCH, modes[1:]) if modes[0] == "off" else None
        how = f"compile=[off,graph] batch_sizes=[{BATCH}]"
        of_batch = f"data=… data.batch_size={LARGE_BATCH}"
        return [
            Goal("training on the data, × the same loop on one batch", 0.95, share, "data=…"),
            Goal(f"training plain on the data, images/s, batch >= {LARGE_BATCH}", 15_000, rate, of_batch),
            Goal(f"plain's training step, × operation by operation, batch {BATCH}", 2.5, captured, how),
            *begins,
        ]
    return []


def _best(feeds: Iterable[Feed], name: str) -> Spread | None:
    found = [spread for feed in feeds if (spread := getattr(feed, name)) is not None]
    return max(found, key=lambda spread: spread.median, default=None)


def _speed(results: Results, model: str, batch_size: int, modes: Sequence[str]) -> Spread | None:
    """The fastest mode's, against plain in the first one; of a model that has two sizes, the full one's."""
    speeds = [
        tasks["training"].speed
        for (subject, size), tasks in results.items()
        if (subject.case.model, size) == (model, batch_size)
        and (subject.case.size in ("full", None) and subject.mode in modes)
        and ("training" in tasks and tasks["training"].speed is not None)
    ]
    return max(speeds, key=lambda speed: speed.median, default=None)
