"""When a job of a sweep ends before its last epoch because others do better."""

from __future__ import annotations

from collections.abc import Sequence


def best_values(others: Sequence[Sequence[float]], *, epoch: int) -> list[float]:
    """The best value up to an epoch of every job that has come so far; higher is better."""
    return [max(other[:epoch]) for other in others if len(other) >= epoch]
