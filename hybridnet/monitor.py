"""The monitored metric, by which epochs, jobs and settings are compared."""

from __future__ import annotations


def direction(monitor: str) -> int:
    """1 where more of the metric is better, -1 for a loss."""
    return -1 if monitor.endswith("loss") else 1
