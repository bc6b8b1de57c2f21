"""How the other jobs of a sweep did, epoch by epoch."""

from __future__ import annotations

from pathlib import Path

from hybridnet.files import read_if_whole, read_json
from hybridnet.monitor import direction
from hybridnet.pruner import Pruner
from hybridnet.sweep.outcome import pictures_of
from hybridnet.sweep.record import JOB


def is_hopeless(history: list[dict[str, float]], folder: Path, *, pruner: Pruner, monitor: str) -> bool:
    """Whether the job in `folder` shall end after the epochs of its history, of which there is at least one."""
    values = curve(history, monitor=monitor)
    return bool(values) and pruner.is_hopeless(values, read_curves(folder, monitor=monitor))


def read_curves(folder: Path, *, monitor: str) -> list[list[float]]:
    """The monitored metric of every other job so far, by epoch; turned so that higher is better.

    A job that validates on other pictures, such as those of another fold, is no rival: they may be easier or harder.

    Args:
        folder: of the job that asks.
        monitor: the metric.
    """
    pictures = _pictures(folder)
    curves = []
    for record in sorted(folder.parent.glob(f"*/{JOB}")):
        history = record.with_name("history.json")
        if record.parent.name == folder.name or not history.is_file() or _pictures(record.parent) != pictures:
            continue
        try:
            curves.append(curve(read_json(history), monitor=monitor))
        except (OSError, ValueError, KeyError, TypeError):  # damaged, or of an older version: no rival
            continue
    return curves


def curve(history: list[dict[str, float]], *, monitor: str) -> list[float]:
    """The monitored metric by epoch, turned so that higher is better."""
    return [direction(monitor) * row[monitor] for row in history]


def _pictures(folder: Path) -> str | None:
    return pictures_of(read_if_whole(folder / "environment.json"))
