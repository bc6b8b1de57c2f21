"""One run that is compared: its predictions, and what it was trained with."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridnet import config
from hybridnet.comparison.predictions import OWN, Predictions, read_predictions
from hybridnet.errors import Fault, InputError
from hybridnet.inference.runs import RunSettings
from hybridnet.resume import ADDED, OF_A_START
from hybridnet.sweep.ledger import Ledger, is_sweep, read_sweep
from hybridnet.sweep.record import Job
from hybridnet.sweep.settings import FOLD, REPLICATION, SEED, canonical, settings_of

BLOCKS = "model.blocks"  # whose value is their order
APART = (*OF_A_START, "extra_targets", *REPLICATION)  # runs that differ in these alone are of one group
CHOICES = ("model", "model/backbone", "data", "data/augment", "optimizer", "scheduler", "trainer")


@dataclass(frozen=True)
class Trained:
    """A run.

    Attributes:
        folder: of the run.
        predictions: of the pictures that are compared.
        settings: by dotted key, without seed, fold and what changes no result; None where they are not known. What the
            run's version did not have yet is there, with what it did.
        choices: of files of conf, and its values of what was typed for any run, as text by key.
        seed: as text, or None.
        fold: of its validation pictures; None without folds, and where all runs have the same pictures anyway.
        replicate: seed and fold of the training, whatever the pictures.
        metrics: of `metrics.json`, or empty.
    """

    folder: Path
    predictions: Predictions
    settings: Mapping[str, Any] | None
    choices: Mapping[str, str]
    seed: str | None
    fold: str | None
    replicate: tuple[str, ...]
    metrics: Mapping[str, Any]

    def is_like(self, other: Trained) -> bool:
        """Whether both have equal settings; where they are not known, whether they are one run."""
        if self.settings is None:
            return self.folder.resolve() == other.folder.resolve()
        return self.settings == other.settings

    def is_copy_of(self, other: Trained) -> bool:
        """Whether both are the same training: equal settings, seed and fold, and the same answers."""
        mine, its = self.predictions, other.predictions
        return (
            (self.replicate, self.settings, mine.paths) == (other.replicate, other.settings, its.paths)
            and mine.classes == its.classes
            and (mine.predictions == its.predictions).all()
        )


def folders(runs: str | Sequence[str] | None, sweeps: str | Sequence[str] | None) -> tuple[list[Path], list[Job]]:
    """The run folders that were named, and those of the complete jobs of sweeps.

    Args:
        runs: folders, or patterns of them such as `outputs/sweeps/rice/*hybrid*`.
        sweeps: folders.

    Returns:
        The folders, and the jobs of the sweeps that are not complete.

    Raises:
        InputError: if none is named, and for every one that does not exist.
    """
    named = [path for name in ([runs] if isinstance(runs, str) else runs or []) for path in _matching(name)]
    of_sweeps = [Path(name) for name in ([sweeps] if isinstance(sweeps, str) else sweeps or [])]
    hint = "runs=[outputs/runs/a,outputs/runs/b], or sweep=outputs/sweeps/<time>"
    if not named and not of_sweeps:
        raise InputError(Fault("missing value", "runs", "no run is named", hint))
    faults = [Fault("missing run", f"runs={run}", "no such folder", hint) for run in named if not run.exists()]
    for run in named:
        if is_sweep(run):
            faults.append(Fault("not a run", f"runs={run}", "it is a sweep", f"sweep={run} compares its jobs"))
    jobs = []
    for sweep in dict.fromkeys(folder.resolve() for folder in of_sweeps):
        try:
            read_sweep(sweep)
            jobs += Ledger(sweep).jobs()
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(*faults)
    complete = list({job.identity: job.folder for job in jobs if job.status == "complete"}.values())
    found = [*(run if run.is_dir() else run.parent for run in named), *complete]
    if not found:
        raise InputError(Fault("no runs", f"sweep={sweeps}", "none of its jobs is complete"))
    return found, [job for job in jobs if job.status != "complete"]


def _matching(name: str) -> list[Path]:
    """The path of that name; where there is none, the runs that it matches as a pattern, or it as it is."""
    if Path(name).exists():
        return [Path(name)]
    matches = sorted(glob.glob(name))  # noqa: PTH207 - Path.glob refuses absolute patterns
    return [Path(match) for match in matches if Path(match, "status.json").is_file()] or [Path(name)]


def read_all(runs: Sequence[Path], split: str | None) -> list[Trained]:
    """Every run.

    Args:
        runs: their folders.
        split: see `read_predictions`.

    Raises:
        InputError: with the faults of all runs whose predictions cannot be used.
    """
    keys = list(dict.fromkeys([*CHOICES, *(key for run in runs for key in _typed(run))]))
    found, faults = [], []
    for run in runs:
        try:
            found.append(_read(run, read_predictions(run, split), keys, has_own_pictures=split in (None, OWN)))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(*faults)
    return found


def _read(run: Path, predictions: Predictions, keys: Sequence[str], *, has_own_pictures: bool) -> Trained:
    """A run; settings and metrics that are missing or damaged are not known."""
    saved, cfg = RunSettings(run), config.saved(run)
    if cfg is None:
        return Trained(run, predictions, None, {}, None, None, (), saved.metrics())
    written = ADDED | config.as_written(cfg)
    settings = {key: value for key, value in written.items() if not _is_apart(key)}
    before = {key: str(value).replace(" ", "") for key, value in ADDED.items()}  # as saved_settings writes lists
    of_keys = before | config.saved_settings(run, keys)
    choices = {key: canonical(of_keys[key]) for key in keys if key in of_keys}
    if BLOCKS in written:
        choices[BLOCKS] = f"[{','.join(written[BLOCKS])}]"
    seed, fold = (None if saved.get(key) is None else str(saved.get(key)) for key in (SEED, FOLD))
    replicate = tuple(f"{name}={value}" for name, value in (("fold", fold), (SEED, seed)) if value is not None)
    return Trained(
        *(run, predictions, settings, choices, seed),
        *(fold if has_own_pictures else None, replicate, saved.metrics()),
    )


def _is_apart(key: str) -> bool:
    return any(key == name or key.startswith((f"{name}.", f"{name}[")) for name in APART)


def _typed(run: Path) -> list[str]:
    """Keys that were typed for the run and may tell it from others."""
    try:
        typed = settings_of(config.read_overrides(run))
    except InputError:
        return []
    return [key for key in typed if not _is_apart(key) and key not in CHOICES]
