"""When a job of a sweep ends before its last epoch because others do better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Pruner(Protocol):
    """Asked after each epoch of a sweep's job."""

    def is_hopeless(self, values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether the job shall end.

        Args:
            values: of its epochs so far; higher is better.
            others: those of each other job.
        """


def best_values(others: Sequence[Sequence[float]], *, epoch: int) -> list[float]:
    """The best value up to an epoch of every job that has come so far; higher is better."""
    return [max(other[:epoch]) for other in others if len(other) >= epoch]
