"""Runs side by side on the same pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybridnet.comparison.groups import Group
from hybridnet.comparison.trained import Trained
from hybridnet.comparison.units import unit_numbers
from hybridnet.errors import Fault, InputError
from hybridnet.wording import lines_of, number_of

SAME = (
    "compare runs of one table with the same data.fold, data.valid_limit and left_out.csv; split=test compares them on "
    "other pictures, which python -m hybridnet.evaluate has predicted"
)


@dataclass(frozen=True)
class Cell:
    """What the runs of one group have said of the pictures of one fold.

    Attributes:
        runs: by fold and seed of their training.
        predictions: int64 (R, N), places in the classes.
        correct: bool (R, N).
    """

    runs: tuple[Trained, ...]
    predictions: np.ndarray
    correct: np.ndarray

    @property
    def replicates(self) -> tuple[tuple[str, ...], ...]:
        return tuple(run.replicate for run in self.runs)

    def is_paired_with(self, other: Cell) -> bool:
        """Whether every run has one of the same fold and seed in the other cell, and no more than one."""
        return self.replicates == other.replicates and len({*self.replicates}) == len(self.runs)


@dataclass(frozen=True)
class Fold:
    """Pictures that several runs of each group have in common.

    Attributes:
        name: None without folds.
        paths: of the pictures.
        labels: int64 (N,).
        units: int64 (N,), the same for pictures that are not independent.
        cells: one for each group.
    """

    name: str | None
    paths: tuple[str, ...]
    labels: np.ndarray
    units: np.ndarray
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Paired:
    """All that is compared.

    Attributes:
        groups: of runs, without those of folds that not every group has.
        classes: names.
        folds: one where all runs have the same pictures.
    """

    groups: tuple[Group, ...]
    classes: tuple[str, ...]
    folds: tuple[Fold, ...]

    @property
    def num_pictures(self) -> int:
        return sum(len(fold.paths) for fold in self.folds)

    @property
    def num_units(self) -> int:
        """Of independent pictures or groups of them."""
        return sum(len(np.unique(fold.units)) for fold in self.folds)

    @cached_property
    def paths(self) -> list[str]:
        """Of all pictures, one fold after the other."""
        return [path for fold in self.folds for path in fold.paths]

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 (N,), of all pictures."""
        return np.concatenate([fold.labels for fold in self.folds])

    def shares(self, group: int) -> np.ndarray:
        """float64 (N,): of every picture, which share of a group's runs are right."""
        return np.concatenate([fold.cells[group].correct.mean(axis=0) for fold in self.folds])

    def accuracies(self, group: int) -> list[float]:
        """Of each run of a group."""
        return [float(row.mean()) for fold in self.folds for row in fold.cells[group].correct]

    def has_same_answers(self, first: int, second: int) -> bool:
        """Whether the runs of two groups, seed by seed, have said the same of every picture."""
        pairs = [(fold.cells[first].predictions, fold.cells[second].predictions) for fold in self.folds]
        return all(mine.shape == its.shape and bool((mine == its).all()) for mine, its in pairs)


def paired(groups: Sequence[Group], units: Mapping[str, str] | None) -> tuple[Paired, list[str]]:
    """Bring the pictures of all runs into one order.

    Args:
        groups: of runs.
        units: the group of each path in the runs' table, if it has any.

    Returns:
        What is compared, and notes about runs that were left out.

    Raises:
        InputError: if the runs have other pictures, labels or classes, or no fold in common.
    """
    names = [{run.fold for run in group.runs} for group in groups]
    common = [fold for fold in dict.fromkeys(run.fold for run in groups[0].runs) if all(fold in own for own in names)]
    if not common:
        cause = "; ".join(f"{group.name}: {_folds(own)}" for group, own in zip(groups, names, strict=True))
        raise InputError(Fault("no fold in common", "runs", cause, "runs are compared on the pictures of one fold"))
    kept = [Group(group.name, tuple(run for run in group.runs if run.fold in common)) for group in groups]
    notes = [
        f"{number_of(len(group.runs) - len(own.runs), 'run')} of {group.name} left out: not every group has that fold."
        for group, own in zip(groups, kept, strict=True)
        if len(own.runs) < len(group.runs)
    ]
    runs = [run for group in kept for run in group.runs]
    classes = runs[0].predictions.classes
    faults = [*_class_faults(runs), *(fault for fold in common for fault in _picture_faults(_of(runs, fold)))]
    if faults:
        raise InputError(*faults)
    return Paired(tuple(kept), classes, tuple(_fold(kept, fold, classes, units) for fold in common)), notes


def _of(runs: Sequence[Trained], fold: str | None) -> list[Trained]:
    return [run for run in runs if run.fold == fold]


def _fold(groups: Sequence[Group], name: str | None, classes: Sequence[str], units: Mapping[str, str] | None) -> Fold:
    first = _of(groups[0].runs, name)[0].predictions
    cells = []
    for group in groups:
        runs = _of(group.runs, name)
        predictions = np.stack([_in_order(run, first.paths, classes) for run in runs])
        cells.append(Cell(tuple(runs), predictions, predictions == first.labels))
    return Fold(name, first.paths, first.labels, unit_numbers(first.paths, units), tuple(cells))


def _in_order(run: Trained, paths: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The answers in the order of these pictures and classes."""
    place = {path: number for number, path in enumerate(run.predictions.paths)}
    number = np.array([classes.index(name) for name in run.predictions.classes])
    return number[run.predictions.predictions[[place[path] for path in paths]]]


def _class_faults(runs: Sequence[Trained]) -> Iterator[Fault]:
    first, *others = runs
    wrong = [run for run in others if {*run.predictions.classes} != {*first.predictions.classes}]
    if wrong:
        listed = lines_of([f"{run.folder}: {', '.join(run.predictions.classes[:10])}" for run in wrong])
        cause = f"{first.folder} has {', '.join(first.predictions.classes[:10])}; others have{listed}"
        yield Fault("different classes", "runs", cause)


def _picture_faults(runs: Sequence[Trained]) -> Iterator[Fault]:
    """Runs whose pictures or labels are not those of the first one."""
    first, *others = runs
    labels = _labels(first)
    pictures, contrary = [], []
    for run in others:
        own = _labels(run)
        if missing := labels.keys() - own.keys():
            pictures.append(f"{run.folder}: lacks {len(missing)} of {len(labels)} pictures, such as {min(missing)!r}")
        if more := own.keys() - labels.keys():
            pictures.append(f"{run.folder}: has {len(more)} other pictures, such as {min(more)!r}")
        different = [path for path in labels.keys() & own.keys() if labels[path] != own[path]]
        if different:
            path = min(different)
            example = f"{path!r} is {own[path]!r} there and {labels[path]!r} here"
            contrary.append(f"{run.folder}: {len(different)} of {len(own)} labels differ, such as {example}")
    if pictures:
        yield Fault("different pictures", "runs", f"not those of {first.folder}{lines_of(pictures)}", SAME)
    if contrary:
        cause = f"not those of {first.folder}{lines_of(contrary)}"
        yield Fault("different labels", "runs", cause, "train or evaluate both on the same table")


def _labels(run: Trained) -> dict[str, str]:
    names = run.predictions.classes
    return {path: names[i] for path, i in zip(run.predictions.paths, run.predictions.labels, strict=True)}


def _folds(folds: set[str | None]) -> str:
    return ", ".join(sorted("no fold" if fold is None else f"fold {fold}" for fold in folds))
