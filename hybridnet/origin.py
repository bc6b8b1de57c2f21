"""Continuing a run elsewhere than where it began: its relative paths lead from there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from hybridnet import config
from hybridnet.checkpoint import LAST
from hybridnet.config import DictConfig
from hybridnet.errors import Fault, InputError
from hybridnet.resume import FREE, OF_A_START
from hybridnet.sweep.record import is_job

WEIGHTS = "model.backbone.weights"
# Settings that name a file or folder; others do where the value has a separator or a suffix.
PATHS = ("data.metadata", "data.label2id", "data.root", WEIGHTS)


def require_reachable(
    configurations: Iterable[DictConfig], *, folder: Path, began_in: Path, of_sweep: bool = False
) -> None:
    """Refuse to go on where the relative paths of a run, or of a sweep's jobs, lead from where it began only.

    Going on from here would say that the files were never made, and advise to make others.

    Args:
        configurations: of the run, or of every job.
        folder: which is continued.
        began_in: the current directory of its last start.
        of_sweep: whether it is a sweep.

    Raises:
        InputError: with all settings whose path is there and not here.
    """
    found: dict[str, str] = {}
    for cfg in configurations:
        found = lost(cfg, began_in) | found
    if not of_sweep and (folder / LAST).exists():
        found.pop(WEIGHTS, None)  # a run that has begun has its own
    if not found:
        return
    where = ", ".join(f"{key}={value}" for key, value in found.items())
    names = " and ".join(dict.fromkeys(found.values()))
    what, verb = "sweep" if of_sweep else "run", "is" if len(found) == 1 else "are"
    cause = f"the {what} began in {began_in}, where {names} {verb}"
    hint = f"start it there (cd {shlex.quote(str(began_in))})"
    # A sweep knows its jobs by these settings.
    if not of_sweep and not is_job(folder) and set(found) <= set(FREE):
        given = shlex.join(f"{key}={os.path.normpath(began_in / value)}" for key, value in found.items())
        hint = f"{hint}, or give {given}"
    raise InputError(Fault("missing path", where, cause, hint))


def lost(cfg: DictConfig, began_in: Path) -> dict[str, str]:
    """The settings, with their values, that name something relative to `began_in` which is not there from here."""
    made = PATHS[:2] if config.select(cfg, "data.source") is not None else ()  # at first use, also here
    values = {key: value for key, value in config.as_written(cfg).items() if isinstance(value, str)}
    counted = {key: value for key, value in values.items() if key not in made and not key.startswith(OF_A_START)}
    return {
        key: value
        for key, value in counted.items()
        if (key in PATHS or os.sep in value or Path(value).suffix)
        and os.path.exists(began_in / value)  # noqa: PTH110 - a value that no file can have is no error
        and not os.path.exists(value)  # noqa: PTH110
    }
