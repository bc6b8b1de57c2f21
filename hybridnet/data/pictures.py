"""Which pictures there are: below class folders or in a table, each decoded once; what is no picture is listed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybridnet.data.copies import thumbnail
from hybridnet.data.digests import file_digest
from hybridnet.data.image import open_rgb
from hybridnet.data.labels import clean_label
from hybridnet.data.listing import files_below
from hybridnet.data.processes import workforce
from hybridnet.data.rows import Row, read_records
from hybridnet.data.table import conflicts, file_keys, is_safe
from hybridnet.errors import Fault, InputError
from hybridnet.wording import listing, spelt

MACOS = "__MACOSX"  # beside the pictures in archives that macOS made: what it knows of each file
BLANK = "lies in a folder whose name is blank"

# What the folders of downloaded data are called that is divided already.
SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}


class Named(NamedTuple):
    """A file that may be a picture.

    Attributes:
        file: where it is.
        name: its path relative to root, with slashes; what cannot be written in UTF-8 is shown as \\xNN.
        label: its class, see `clean_label`.
        split: its split, where the folders say it; else "".
    """

    file: Path
    name: str
    label: str
    split: str = ""


class Picture(NamedTuple):
    """A file that was decoded.

    Attributes:
        digest: of the file's bytes.
        num_pixels: height times width.
        thumbnail: uint8 (32, 32, 3).
    """

    file: Path
    name: str
    label: str
    digest: bytes
    num_pixels: int
    thumbnail: np.ndarray
    split: str = ""


def list_folder(root: Path, *, own: Collection[Path]) -> tuple[list[Named], list[Fault]]:
    """The files below the class folders of root, sorted, and the faults of those that are not looked into.

    Args:
        root: the class is the folder below it; pictures may lie deeper. Where the folders below it are those of splits
            (train, val, test, see SPLIT_OF), the class is the folder below these.
        own: files that are ours, and are not mentioned.

    Raises:
        InputError: if folders of splits lie beside others, or there is none for training.
    """
    named: list[Named] = []
    left_out: list[Fault] = []

    def refused(error: OSError) -> None:
        name = spelt(Path(error.filename).relative_to(root).as_posix())
        left_out.append(Fault("left out", f"{name}/", f"is a folder that cannot be looked into ({error.strerror})"))

    for file in sorted(file for file in files_below(root, refused=refused) if file not in own):
        parts = file.relative_to(root).parts
        name = spelt("/".join(parts))
        if any(part.startswith(".") for part in parts):
            left_out.append(Fault("left out", name, "is hidden"))
        elif MACOS in parts[:-1]:
            left_out.append(Fault("left out", name, f"lies in {MACOS}, where macOS keeps what is no picture"))
        elif len(parts) == 1:
            left_out.append(Fault("left out", name, "lies in root itself, not in the folder of a class"))
        elif not is_safe(name):
            left_out.append(Fault("left out", name, "has '..' between backslashes, which no path in a table may have"))
        elif not parts[0].strip():
            left_out.append(Fault("left out", name, BLANK))
        elif not _is_utf8(str(file)):
            left_out.append(Fault("left out", name, "its name is not UTF-8, and cannot stand in a CSV file"))
        else:
            named.append(Named(file, name, clean_label(parts[0])))
    if not _is_divided({item.label for item in named}, root):
        return named, left_out
    divided = [_in_split(item) for item in named]
    left_out += [item for item in divided if isinstance(item, Fault)]
    return [item for item in divided if isinstance(item, Named)], left_out


def _is_divided(folders: Collection[str], root: Path) -> bool:
    """Whether the folders below root are splits: nobody calls two classes so."""
    splits = {folder: SPLIT_OF[folder.casefold()] for folder in sorted(folders) if folder.casefold() in SPLIT_OF}
    if len(set(splits.values())) < 2:
        return False
    if others := sorted(set(folders) - set(splits)):
        cause = f"folders of splits ({', '.join(splits)}) lie beside others: {listing(others)}"
        hint = "move the others elsewhere if root is divided already; else rename the former"
        raise InputError(Fault("mixed folders", f"root={root}", cause, hint))
    if "train" not in splits.values():
        cause = f"there are only folders of splits ({', '.join(splits)}), and none is called train"
        raise InputError(
            Fault("missing folder", f"root={root}", cause, f"root={root / next(iter(splits))} divides one")
        )
    return True


def _in_split(item: Named) -> Named | Fault:
    split, label, *rest = item.name.split("/")
    if not rest:
        return Fault("left out", item.name, f"lies in the folder '{split}' itself, not in the folder of a class")
    if not label.strip():
        return Fault("left out", item.name, BLANK)
    return item._replace(label=clean_label(label), split=SPLIT_OF[split.strip().casefold()])


def class_folders(root: Path, *, depth: int, own: Collection[Path]) -> set[str]:
    """The labels of the folders `depth` levels below root, also empty ones, without those that hold files of ours."""
    folders = (path for path in root.glob("/".join("*" * depth)) if path.is_dir())
    return {
        clean_label(spelt(path.name))
        for path in folders
        if not any(part.startswith(".") or part == MACOS for part in path.relative_to(root).parts)
        and not any(file.is_relative_to(path) for file in own)
    }


def list_table(path: Path) -> list[Named]:
    """The files in the columns path and label of a CSV table; paths are relative to the table's folder.

    Raises:
        InputError: if the table cannot be read, lacks a column, has a row without label or with an unsafe path, or one
            file with two labels.
    """
    where = f"root={path}"
    columns, numbers = read_table(path, "root", ("path", "label"))
    wrong = {
        "path that is empty, a URL, or contains '..'": [not is_safe(name) for name in columns["path"]],
        "no label": [not label.strip() for label in columns["label"]],
    }
    labels = [clean_label(label) for label in columns["label"]]
    found = [Row(*row, "", None, None) for row in zip(numbers, columns["path"], labels, strict=True)]
    contrary = conflicts(found, file_keys(path.parent, columns["path"]), labels, "{row.path!r} is")
    faults = [Fault("wrong rows", where, f"one file with two labels: {listing(contrary)}")] if contrary else []
    for what, mask in wrong.items():
        rows = zip(numbers, columns["path"], mask, strict=True)
        lines = [f"line {number} {name!r}" for number, name, is_wrong in rows if is_wrong]
        if lines:
            faults.append(Fault("wrong rows", where, f"{what}: {listing(lines)}"))
    if faults:
        raise InputError(*faults)
    return [Named(path.parent / row.path, row.path, row.label) for row in found]


def read_table(path: Path, option: str, required: Sequence[str]) -> tuple[dict[str, list[str]], list[int]]:
    """The columns of a CSV table as text, and the line of the file on which each row stands; empty rows are skipped.

    Raises:
        InputError: if the file is missing, is no CSV in UTF-8, or lacks a column.
    """
    header, records, faults = read_records(path, option, required, hint="name a CSV table")
    if faults:
        raise InputError(*faults)
    columns = {name: [fields[place] for _, fields in records] for place, name in enumerate(header)}
    return columns, [line for line, _ in records]


def read_pictures(named: Sequence[Named]) -> Iterator[Picture | Fault]:
    """Each file decoded, in order; a Fault for what is damaged or no JPEG, PNG, WebP, BMP or TIFF."""
    with workforce(len(named)) as mapped:
        yield from mapped(_read, named)


def _read(named: Named) -> Picture | Fault:
    try:
        image = open_rgb(named.file)
    except InputError as error:
        return Fault("left out", named.name, error.faults[0].cause)
    file, name, label, split = named
    return Picture(file, name, label, file_digest(file), image.width * image.height, thumbnail(image), split)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
