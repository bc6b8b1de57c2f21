"""Which rows are used: pictures that cannot be decoded, and training pictures that are also validation pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from hybridnet.data.decoded import Pictures
from hybridnet.data.store import Store
from hybridnet.data.table import Split
from hybridnet.data.unusable import told, unusable_images
from hybridnet.errors import Fault, InputError
from hybridnet.wording import number_of

log = logging.getLogger(__name__)

LEAKS = (
    "python -m hybridnet.prepare keeps copies in one split; data.on_leak=skip does not train on these; with "
    "data.on_leak=keep the accuracy is too good to be true, unless they just look alike"
)


class LeftOut(NamedTuple):
    """A row of the table that is not used, and why."""

    line: int
    path: str
    split: str
    cause: str


@dataclass
class Selection:
    """What is left of two splits.

    Attributes:
        train, valid: the rows that are used.
        pictures: of each of the two.
        digests: of the files' contents, of each of the two.
        left_out: the other rows, in the order of the table.
        num_leaked: validation pictures that have copies in training all the same.
    """

    train: Split
    valid: Split
    pictures: tuple[Pictures, Pictures]
    digests: tuple[list[str], list[str]]
    left_out: list[LeftOut]
    num_leaked: int


def select(
    store: Store,
    train: Split,
    valid: Split,
    *,
    table: Path,
    on_bad_image: Literal["error", "skip"],
    on_leak: Literal["error", "skip", "keep"],
) -> Selection:
    """Leave out what cannot be used, or must not be.

    Args:
        store: of the files of `train` and, behind them, those of `valid`.
        train, valid: what the table has.
        table: its name, for messages.
        on_bad_image, on_leak: see MetadataImages.

    Raises:
        InputError: with `error`, if there are such pictures; if a class or the validation split is empty without them.
    """
    rows = [*_rows(train, "train"), *_rows(valid, "valid")]
    bad = _unusable(store, rows, table, on_bad_image)
    of_train = [i for i in range(len(train)) if i not in bad]
    of_valid = [i for i in range(len(train), len(rows)) if i not in bad]
    leaks = _leaks(store, rows, of_train, of_valid)
    num_leaked = 0
    if leaks and on_leak == "error":
        cause = told(_entries(leaks))
        raise InputError(Fault("validation pictures in training", f"data.metadata={table}", cause, LEAKS))
    if leaks and on_leak == "keep":
        leaked = {store.group(i) for i in leaks}
        num_leaked = sum(store.group(i) in leaked for i in of_valid)
        leaky = number_of(num_leaked, "validation picture")
        log.warning(f"{leaky} with copies in training: the accuracy is too good to be true")
        leaks = {}
    elif leaks:
        copies = number_of(len(leaks), "training picture")
        log.warning(f"left out: {copies}, copies of validation pictures; see left_out.csv")

    left_out = bad | leaks
    of_train = [i for i in of_train if i not in leaks]
    _warn_of_contradictions(store, [*train.labels.tolist(), *valid.labels.tolist()], [*of_train, *of_valid])
    used_train = train.take(np.array(of_train, dtype=int))
    used_valid = valid.take(np.array(of_valid, dtype=int) - len(train))
    if left_out:
        _require_rest(train, used_train, used_valid, table)
    pictures = (store.pictures(of_train), store.pictures(of_valid))
    digests = tuple([store.content_digest(i) for i in part] for part in (of_train, of_valid))
    return Selection(used_train, used_valid, pictures, digests, sorted(left_out.values()), num_leaked)


def _rows(split: Split, name: str) -> list[tuple[int, str, str]]:
    """Line, path and split of every picture."""
    return [(line, path, name) for line, path in zip(split.lines, split.paths, strict=True)]


def _unusable(
    store: Store, rows: Sequence[tuple[int, str, str]], table: Path, on_bad_image: Literal["error", "skip"]
) -> dict[int, LeftOut]:
    """By their index, the pictures that cannot be decoded."""
    bad = {i: LeftOut(*row, cause) for i, row in enumerate(rows) if (cause := store.cause(i))}
    if bad and on_bad_image == "error":
        raise InputError(unusable_images(_entries(bad), table, len(rows)))
    if bad:
        log.warning(f"left out: {number_of(len(bad), 'picture')} that cannot be used; see left_out.csv")
    return bad


def _leaks(
    store: Store, rows: Sequence[tuple[int, str, str]], train: Sequence[int], valid: Sequence[int]
) -> dict[int, LeftOut]:
    """By their index, the training pictures that are copies of a validation picture."""
    validated = {store.group(i): rows[i] for i in valid}
    leaks = {}
    for i in train:
        if copied := validated.get(store.group(i)):
            line, path, _ = copied
            leaks[i] = LeftOut(*rows[i], f"is a copy of line {line} {path!r} (valid)")
    return leaks


def _entries(left_out: Mapping[int, LeftOut]) -> list[tuple[int, str, str]]:
    return [(row.line, row.path, row.cause) for row in left_out.values()]


def _warn_of_contradictions(store: Store, labels: Sequence[int], used: Sequence[int]) -> None:
    labels_of: dict[int, set[int]] = {}
    for index in used:
        labels_of.setdefault(store.group(index), set()).add(labels[index])
    if num_groups := sum(len(found) > 1 for found in labels_of.values()):
        pictures = "1 picture has" if num_groups == 1 else f"{num_groups} pictures have"
        hint = "python -m hybridnet.doctor data.metadata=<file> data.label2id=<file> lists them"
        log.warning(f"{pictures} copies with another label, and a model cannot learn both; {hint}")


def _require_rest(before: Split, train: Split, valid: Split, table: Path) -> None:
    num_lost = len(set(before.labels.tolist()) - set(train.labels.tolist()))
    if num_lost or not len(valid):
        what = f"training picture of {number_of(num_lost, 'class', 'classes')}" if num_lost else "validation picture"
        cause = f"without those that are left out there is no {what}"
        raise InputError(Fault("too few pictures", f"data.metadata={table}", cause))
