"""Reads `predictions.csv`: what a run has said of every picture."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybridnet.data.rows import read_records
from hybridnet.errors import Fault, InputError
from hybridnet.wording import listing

NAME = "predictions.csv"
COLUMNS = ("path", "label", "prediction")
PROBABILITY = "probability_"
OWN = "valid"  # the split that a run has predicted by itself
TRAIN_ON = "a run writes it at its end: python train.py resume={run} goes on with one that was stopped"
EVALUATE = "python -m hybridnet.evaluate run={run} split={split} writes it"


@dataclass(frozen=True)
class Predictions:
    """Of one run.

    Attributes:
        paths: of the pictures, as the run's table has them.
        labels, predictions: int64 (N,), places in `classes`.
        classes: names.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


def read_predictions(run: Path, split: str | None) -> Predictions:
    """What the run in a folder has said of its own validation pictures, or of another split.

    Args:
        run: its folder.
        split: null for the run's own `predictions.csv`; a name for `evaluation/<split>/predictions.csv`, which
            `python -m hybridnet.evaluate` writes.

    Raises:
        InputError: if there is no such file, it is no such table, or it has a picture twice.
    """
    path = run / NAME if split is None else run / "evaluation" / split / NAME
    hint = (TRAIN_ON if split is None else EVALUATE).format(run=run, split=split)
    if not path.exists():
        raise InputError(Fault("no predictions", str(run), f"there is no {path.relative_to(run)}", hint))
    header, records, faults = read_records(path, "runs", COLUMNS, hint=hint)
    where = f"runs={path}"
    places = [header.index(name) for name in COLUMNS]
    paths, labels, answers = ([fields[place] for _, fields in records] for place in places)
    named = [name.removeprefix(PROBABILITY) for name in header if name.startswith(PROBABILITY)]
    classes = named or sorted({*labels, *answers})
    lines = [line for line, _ in records]
    paths = [normal(path) for path in paths]
    faults += _faults(lines, paths, [*zip(labels, answers, strict=True)], classes, where=where)
    if faults:
        raise InputError(*faults)
    number = {name: place for place, name in enumerate(classes)}
    encoded = (np.array([number[name] for name in names], dtype=np.int64) for names in (labels, answers))
    return Predictions(tuple(paths), *encoded, tuple(classes))


def normal(path: str) -> str:
    """The same text for the same path: `./a.png` and `a.png`."""
    return posixpath.normpath(path.replace("\\", "/"))


def _faults(
    lines: Sequence[int],
    paths: Sequence[str],
    answers: Sequence[tuple[str, str]],
    classes: Sequence[str],
    *,
    where: str,
) -> Iterator[Fault]:
    known = set(classes)
    unknown = [f"line {line} {name!r}" for line, pair in zip(lines, answers, strict=True) for name in pair
               if name not in known]  # fmt: skip
    if unknown:
        yield Fault("wrong rows", where, f"a class without a column {PROBABILITY}…: {listing(unknown)}")
    doubled = [repr(path) for path, count in Counter(paths).items() if count > 1]
    if doubled:
        yield Fault("wrong rows", where, f"a picture with several rows: {listing(doubled)}")
