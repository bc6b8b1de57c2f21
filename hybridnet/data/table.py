"""The front door: `metadata.csv` (path, label, split) and `label2id.json` (label -> class index)."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from hybridnet.data.image import read_header
from hybridnet.errors import Fault, InputError
from hybridnet.files import read_json

SPLITS = ("train", "valid", "test")
COLUMNS = ("path", "label", "split")
LISTED = 20
PREPARE = "python -m hybridnet.prepare root=<folder of class folders> out=<folder> makes both files"

REPAIR = "repair these files or remove their rows; hybridnet.prepare leaves such files out"


@dataclass(frozen=True)
class Split:
    """The pictures of one split, in the order of the CSV.

    Attributes:
        paths: as the CSV has them.
        files: where they are.
        labels: int64 (N,), class indices.
    """

    paths: list[str]
    files: list[Path]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: np.ndarray) -> Split:
        """The samples at `indices`."""
        return Split([self.paths[i] for i in indices], [self.files[i] for i in indices], self.labels[indices])


def require_file(path: Path, option: str) -> None:
    """Raises InputError, with what to do, if the file that `option` names is not there."""
    if not path.is_file():
        raise InputError(Fault("missing file", f"{option}={path}", "no such file", PREPARE))


def read_label2id(path: Path) -> dict[str, int]:
    """Read the labels, ordered by their class index.

    Raises:
        InputError: if the file is missing, is not a JSON object from label to index, or the indices are not 0 … n-1.
    """
    where = f"data.label2id={path}"
    require_file(path, "data.label2id")
    try:
        label2id = read_json(path)
    except ValueError as error:
        raise InputError(Fault("unreadable file", where, f"not JSON in UTF-8 ({error})")) from error
    example = 'write an object from label to class index, such as {"blast": 0, "healthy": 1}'
    if not isinstance(label2id, dict) or not label2id:
        raise InputError(Fault("wrong content", where, f"expected an object, got {type(label2id).__name__}", example))
    if any(isinstance(index, bool) or not isinstance(index, int) for index in label2id.values()):
        raise InputError(Fault("wrong content", where, "every class index must be an integer", example))
    if sorted(label2id.values()) != list(range(len(label2id))):
        expected = f"0 … {len(label2id) - 1} without gaps or doubles"
        cause = f"the class indices must be {expected}, got {sorted(label2id.values())}"
        raise InputError(Fault("wrong content", where, cause, example))
    return dict(sorted(label2id.items(), key=lambda item: item[1]))


def read_metadata(path: Path, label2id: dict[str, int]) -> dict[str, Split]:
    """Read the table and return its splits; relative paths are relative to the table's folder.

    Raises:
        InputError: if the file is missing or is no such table, a row has an unknown label or split, or a path that is
            empty, a URL, or contains `..`; lists the first 20 lines of each kind and the count.
    """
    rows = _read_rows(path)
    where = f"data.metadata={path}"
    known_labels = ", ".join(label2id)
    wrong = {
        f"unknown label (label2id has {known_labels})": [x not in label2id for x in rows["label"]],
        f"unknown split (expected {', '.join(SPLITS)})": [x not in SPLITS for x in rows["split"]],
        "path that is empty, a URL, or contains '..'": [not _is_safe(x) for x in rows["path"]],
    }
    column = dict(zip(wrong, ("label", "split", "path"), strict=True))
    faults = [
        Fault("wrong rows", where, f"{what}: {_list_rows(mask, rows, column[what])}")
        for what, mask in wrong.items()
        if any(mask)
    ]
    if faults:
        raise InputError(*faults)

    everything = Split(
        paths=rows["path"],
        files=[path.parent / name for name in rows["path"]],
        labels=np.array([label2id[label] for label in rows["label"]], dtype=np.int64),
    )
    splits = {name: everything.take(np.flatnonzero([x == name for x in rows["split"]])) for name in SPLITS}
    for name in ("train", "valid"):
        if not len(splits[name]):
            raise InputError(Fault("empty split", where, f"no row has split '{name}'", PREPARE))
    return splits


def check_files(splits: Iterable[Split], where: str) -> None:
    """Look at the header of every picture before the first step.

    Raises:
        InputError: if a file is missing or is no picture; lists the first 20 and the count.
    """
    with ThreadPoolExecutor(8) as pool:
        found = [fault for split in splits for fault in pool.map(_header_fault, split.files) if fault]
    if found:
        listed = "".join(f"\n  {fault.where}: {fault.cause}" for fault in found[:LISTED])
        more = f"\n  … and {len(found) - LISTED} more" if len(found) > LISTED else ""
        raise InputError(Fault("unusable images", where, f"{len(found)} of them{listed}{more}", REPAIR))


def _list_rows(mask: Iterable[bool], rows: dict[str, list], column: str) -> str:
    """`line 3 'x', line 8 'y' … (22 in all)`."""
    values = zip(mask, rows["line"], rows[column], strict=True)
    lines = [f"line {line} {value!r}" for is_wrong, line, value in values if is_wrong]
    rest = f" … ({len(lines)} in all)" if len(lines) > LISTED else ""
    return ", ".join(lines[:LISTED]) + rest


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


def _read_rows(path: Path) -> dict[str, list]:
    """The three columns as text, and `line`: where each row stands in the file, counted from 1."""
    import pandas as pd  # costs 0.3 s: only when a table is read

    where = f"data.metadata={path}"
    require_file(path, "data.metadata")
    try:
        # Without a header, so that a row with another number of fields is an error and not an index.
        raw = pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False
        )
    except UnicodeDecodeError as error:
        raise InputError(Fault("unreadable file", where, "not UTF-8", "save it as 'CSV UTF-8'")) from error
    except ValueError as error:  # pandas' parser and its empty-file errors are ValueErrors
        cause = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise InputError(Fault("unreadable file", where, f"not a CSV file ({cause})")) from error
    raw = raw.fillna("")
    header = raw.iloc[0].tolist()
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        found = ", ".join(header)
        hint = "separate the columns with commas" if ";" in found else "the first line must be: path,label,split"
        raise InputError(Fault("missing columns", where, f"no {', '.join(missing)}; found {found}", hint))
    rows = raw.iloc[1:]
    rows = rows[(rows != "").any(axis=1)]
    columns = {name: rows[header.index(name)].tolist() for name in COLUMNS}
    return columns | {"line": [index + 1 for index in rows.index]}


def _is_safe(path: str) -> bool:
    if not path.strip() or "://" in path or "\0" in path:
        return False
    return ".." not in PurePosixPath(path).parts and ".." not in PureWindowsPath(path).parts


def _header_fault(file: Path) -> Fault | None:
    try:
        read_header(file)
    except InputError as error:
        return error.faults[0]
    return None
