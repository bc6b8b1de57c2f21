"""The front door: `metadata.csv` (path, label, split) and `label2id.json` (label -> class index)."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from hybridnet.data.labels import folded, read_label2id
from hybridnet.data.rows import PREPARE, Row, read_rows
from hybridnet.errors import Fault, InputError
from hybridnet.wording import listing, number_of

log = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
TO_TRAIN = ("train", "valid")  # the splits that a training needs
FEW = 5  # examples in a warning
VALID_SEED = 0  # of valid_limit: runs with different seeds are judged on the same pictures


@dataclass(frozen=True)
class Split:
    """The pictures of one split, in the order of the CSV.

    Attributes:
        folder: of the CSV, which the paths are relative to.
        paths: as the CSV has them.
        labels: int64 (N,), class indices.
        lines: of the CSV, counted from 1.
        groups: what else a picture belongs to (a plant, a set of copies); "" where the table does not say.
    """

    folder: Path
    paths: list[str]
    labels: np.ndarray
    lines: list[int]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def files(self) -> list[Path]:
        """Where they are."""
        return [self.folder / path for path in self.paths]

    @property
    def file_names(self) -> list[str]:
        """Where they are, as text: Paths for a large table take half a second."""
        folder = str(self.folder)
        return [os.path.join(folder, path) for path in self.paths]  # noqa: PTH118

    def take(self, indices: np.ndarray) -> Split:
        """The samples at `indices`."""
        numbers = indices.tolist()
        paths, lines, groups = ([values[i] for i in numbers] for values in (self.paths, self.lines, self.groups))
        return Split(self.folder, paths, self.labels[indices], lines, groups)


def read_metadata(
    path: Path, label2id: dict[str, int], *, fold: int | None = None, needs: Sequence[str] = TO_TRAIN
) -> dict[str, Split]:
    """Read the table and return its splits; relative paths are relative to the table's folder.

    Args:
        path: of the table.
        label2id: class index of every label.
        fold: with a number, the column `fold` decides: these rows are for validation, those of other folds for
            training, and rows without a fold are the test split. Without, the column `split` decides.
        needs: the splits that must have rows; `train` must have some of every class.

    Raises:
        InputError: if the file is missing or no such table, or for what `examine` finds; lists the first 20 lines of
            each kind and the count.
    """
    rows, splits, faults = examine(path, label2id, fold=fold, needs=needs)
    if faults:
        raise InputError(*faults)
    everything = Split(
        folder=path.parent,
        paths=[row.path for row in rows],
        labels=np.array([label2id[row.label] for row in rows], dtype=np.int64),
        lines=[row.line for row in rows],
        groups=[(row.group or "").strip() for row in rows],
    )
    return {name: everything.take(np.flatnonzero([x == name for x in splits])) for name in SPLITS}


def examine(
    path: Path,
    label2id: dict[str, int] | None,
    *,
    fold: int | None = None,
    needs: Sequence[str] = TO_TRAIN,
    option: str = "data.metadata",
) -> tuple[list[Row], list[str], list[Fault]]:
    """Read the table and look for everything that can be wrong with it without opening a picture.

    Args:
        path: of the table.
        label2id: class index of every label; None leaves out what depends on it.
        fold, needs: see `read_metadata`.
        option: that names the table, for messages.

    Returns:
        The rows, the split of each, and the faults: rows with a wrong number of fields, unknown labels and splits,
        paths that are empty or lead out of the folder, one file with two labels or in two splits, a group in two
        splits; and if there are none of these, empty splits and classes without a training picture.

    Raises:
        InputError: if the file is no table.
    """
    where = f"{option}={path}"
    rows, faults = read_rows(path, option)
    splits, fold_faults = assign(rows, fold=fold, where=where)
    files = file_keys(path.parent, [row.path for row in rows])
    kinds = {  # what, and what to do
        (f"unknown split (expected {', '.join(SPLITS)})", "rename it in these rows: val is valid"): [
            f"line {row.line} {row.split!r}" for row in rows if row.split not in SPLITS
        ],
        ("path that is empty, a URL, or contains '..'", "write a file elsewhere with its absolute path"): [
            f"line {row.line} {row.path!r}" for row, file in zip(rows, files, strict=True) if file is None
        ],
        ("one file with two labels", "remove the rows that are wrong"): conflicts(
            rows, files, [row.label for row in rows], "{row.path!r} is"
        ),
        ("one file in two splits", "remove the rows of all but one split"): conflicts(
            rows, files, splits, "{row.path!r} is in"
        ),
        ("one group in two splits", "keep each group in one, as python -m hybridnet.prepare does"): conflicts(
            rows, [row.group.strip() or None if row.group else None for row in rows], splits, "group {row.group} is in"
        ),
    }
    if label2id is not None:
        known = {folded(label): label for label in label2id}
        wrong = [
            f"line {row.line} {_compared(row.label, known.get(folded(row.label)))}"
            for row in rows
            if row.label not in label2id
        ]
        unknown = f"unknown label (label2id has {listing(list(label2id))})"
        hint = "correct these labels, or add them to label2id (a trained model keeps its own)"
        kinds = {(unknown, hint): wrong} | kinds
    faults += fold_faults
    faults += [
        Fault("wrong rows", where, f"{what}: {listing(lines)}", hint) for (what, hint), lines in kinds.items() if lines
    ]
    return rows, splits, faults or _split_faults(rows, splits, label2id, where=where, needs=needs)


def require_usable(path: Path, label2id: Path, *, fold: int | None) -> None:
    """Look through a table and its labels, once for all jobs of a grid.

    Args:
        path: of the table.
        label2id: the file of the labels.
        fold: see `read_metadata`.

    Raises:
        InputError: for what `examine` finds in the one, and what is wrong with the other.
    """
    found = [file.stat() for file in (path, label2id)]
    _examined(path, label2id, fold, *((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found))


@lru_cache(maxsize=64)
def _examined(path: Path, label2id: Path, fold: int | None, *_: tuple[int, int, int]) -> None:
    _, _, faults = examine(path, read_label2id(label2id), fold=fold)
    if faults:
        raise InputError(*faults)


def assign(rows: Sequence[Row], *, fold: int | None, where: str) -> tuple[list[str], list[Fault]]:
    """The split of every row, by the column `split` or, with a number, by the column `fold`."""
    splits = [row.split for row in rows]
    if fold is None or not rows:
        return splits, []
    if rows[0].fold is None:
        hint = "python -m hybridnet.prepare … folds=5 writes it; data.fold=null uses the column split"
        return splits, [Fault("missing columns", where, f"no fold, which data.fold={fold} needs", hint)]
    wrong = [f"line {row.line} {row.fold!r}" for row in rows if row.fold and not re.fullmatch("[0-9]+", row.fold)]
    if wrong:
        hint = "in pandas, astype('Int64') keeps whole numbers from becoming 1.0"
        return splits, [Fault("wrong rows", where, f"fold that is no integer >= 0: {listing(wrong)}", hint)]
    contrary = [row for row in rows if (row.fold == "") != (row.split == "test")]
    if contrary:
        lines = listing([f"line {row.line} (split {row.split!r}, fold {row.fold!r})" for row in contrary])
        hint = "leave the fold of test rows empty, and give every other row one"
        return splits, [Fault("wrong rows", where, f"only test rows are without a fold: {lines}", hint)]
    folds = [int(row.fold) if row.fold else None for row in rows]
    existing = sorted({number for number in folds if number is not None})
    if fold not in existing:
        cause = f"no row has that fold; there are {listing(list(map(str, existing)))}"
        return splits, [Fault("wrong value", f"data.fold={fold}", cause)]
    names = {None: "test", fold: "valid"}
    return [names.get(number, "train") for number in folds], []


def is_safe(path: str) -> bool:
    """Whether a path of the table may be opened: not empty, no URL, and without `..`."""
    if not path.strip() or "://" in path or "\0" in path:
        return False
    return ".." not in path or ".." not in (*PurePosixPath(path).parts, *PureWindowsPath(path).parts)


def file_keys(folder: Path, paths: Iterable[str]) -> list[str | None]:
    """The same text for the same file: `a/./b.jpg` and `a//b.jpg` are `a/b.jpg`. None where a path is not safe.

    Paths as text, because a Path for each of a million rows takes seconds.
    """
    base = os.path.abspath(folder)  # noqa: PTH100
    join, plain = os.path.join, os.path.normpath
    return [os.path.normcase(plain(join(base, path))) if is_safe(path) else None for path in paths]


def conflicts(rows: Sequence[Row], keys: Sequence[Hashable], values: Sequence[str], words: str) -> list[str]:
    """Keys whose rows have different values: the first row of each, and the first that differs from it."""
    first: dict[Hashable, tuple[Row, str]] = {}
    found: dict[Hashable, str] = {}
    for row, key, value in zip(rows, keys, values, strict=True):
        if key is None or key in found:
            continue
        before, its_value = first.setdefault(key, (row, value))
        if value != its_value:
            subject = words.format(row=before)
            found[key] = f"{subject} {its_value} (line {before.line}) and {value} (line {row.line})"
    return list(found.values())


def _compared(label: str, known: str | None) -> str:
    """A label, and beside it the known one that looks alike: as ASCII, which shows how accents are made."""
    return repr(label) if known is None else f"{label!a} instead of {known!a}"


def _split_faults(
    rows: Sequence[Row], splits: Sequence[str], label2id: dict[str, int] | None, *, where: str, needs: Sequence[str]
) -> list[Fault]:
    """Splits without rows that need some, and classes without a training picture."""
    empty = [name for name in needs if name not in splits]
    if empty and needs != TO_TRAIN:
        hint = f"choose one of those that it has: split={', '.join(sorted(set(splits)))}"
        return [Fault("empty split", where, f"no row has split '{name}'", hint) for name in empty]
    if empty:
        return [Fault("empty split", where, f"no row has split '{name}'", PREPARE) for name in empty]
    if "train" not in needs:
        return []
    trained = {row.label for row, split in zip(rows, splits, strict=True) if split == "train"}
    without = [repr(label) for label in label2id or {} if label not in trained]
    if not without:
        return []
    hint = "remove them from label2id (indices 0 … n-1 without gaps), or add pictures"
    return [Fault("class without images", where, f"no row of split 'train' has label {listing(without)}", hint)]


def warn_of_repeated(split: Split, kind: str) -> None:
    """Log which rows have the file of an earlier row.

    Args:
        split: of a table.
        kind: what its rows are for.
    """
    first: dict[str, int] = {}
    again = []
    for file, line in zip(file_keys(split.folder, split.paths), split.lines, strict=True):
        if first.setdefault(file, line) != line:
            again.append(f"line {line} = line {first[file]}")
    if again:
        rows = f"{number_of(len(again), f'{kind} row')} with the file of an earlier row"
        log.warning(f"{rows}, which counts as often: {listing(again, limit=FEW)}")


def choose(split: Split, limit: int | None, *, seed: int) -> Split:
    """At most `limit` samples, drawn so that every class keeps its share; a larger limit adds to a smaller one."""
    if limit is None or limit >= len(split):
        return split
    rng = np.random.default_rng(seed)
    position = np.empty(len(split))
    for label in np.unique(split.labels):
        members = rng.permutation(np.flatnonzero(split.labels == label))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return split.take(np.sort(np.argsort(position, kind="stable")[:limit]))
