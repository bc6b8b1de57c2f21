"""How the other jobs of a sweep did, epoch by epoch."""

from __future__ import annotations

import functools
from pathlib import Path

from hybridnet.files import read_if_whole, read_json
from hybridnet.monitor import direction
from hybridnet.pruner import Pruner
from hybridnet.sweep.outcome import pictures_of
from hybridnet.sweep.record import JOB

MOST_KEPT = 10_000  # jobs whose files are not read again


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
        if record.parent.name == folder.name:
            continue
        files = record.with_name("history.json"), record.with_name("environment.json")
        found = _rival(*files, *map(_version, files), monitor=monitor)
        if found and found[0] == pictures:
            curves.append(found[1])
    return curves


def curve(history: list[dict[str, float]], *, monitor: str) -> list[float]:
    """The monitored metric by epoch, turned so that higher is better."""
    return [direction(monitor) * row[monitor] for row in history]


@functools.lru_cache(maxsize=MOST_KEPT)  # asked at each epoch, when few of them have changed
def _rival(
    history: Path, environment: Path, *versions: tuple[int, ...] | None, monitor: str
) -> tuple[str | None, list[float]] | None:
    """Which pictures a job validates on, and its curve; None where it is missing, damaged or of an older version."""
    try:
        return _pictures(environment.parent), curve(read_json(history), monitor=monitor)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _version(file: Path) -> tuple[int, ...] | None:
    """What changes whenever a file is written anew; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _pictures(folder: Path) -> str | None:
    return pictures_of(read_if_whole(folder / "environment.json"))
