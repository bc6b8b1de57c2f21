"""How the other jobs of a sweep did, epoch by epoch."""

from __future__ import annotations

from pathlib import Path

from hybridnet.files import read_json
from hybridnet.monitor import direction
from hybridnet.sweep.record import JOB


def read_curves(folder: Path, *, monitor: str) -> list[list[float]]:
    """The monitored metric of every other job so far, by epoch; turned so that higher is better.

    Args:
        folder: of the job that asks.
        monitor: the metric.
    """
    curves = []
    for record in sorted(folder.parent.glob(f"*/{JOB}")):
        history = record.with_name("history.json")
        if record.parent.name == folder.name or not history.is_file():
            continue
        try:
            curves.append(curve(read_json(history), monitor=monitor))
        except (OSError, ValueError, KeyError, TypeError):  # damaged, or of an older version: no rival
            continue
    return curves


def curve(history: list[dict[str, float]], *, monitor: str) -> list[float]:
    """The monitored metric by epoch, turned so that higher is better."""
    return [direction(monitor) * row[monitor] for row in history]
