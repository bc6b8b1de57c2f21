"""`python -m hybridnet.prepare root=<folder of class folders> out=<folder>`: from folders of photos to a table."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rich
from rich.progress import track
from rich.table import Table

from hybridnet.data.image import load_image
from hybridnet.data.table import COLUMNS, LISTED, SPLITS
from hybridnet.errors import Fault, InputError
from hybridnet.files import write_text
from hybridnet.settings import Natural, Rate, checked

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


class Picture(NamedTuple):
    """A file below a class folder."""

    file: Path
    label: str


@checked
def prepare(*, root: str, out: str, valid: Rate, test: Rate, seed: Natural, overwrite: bool) -> None:
    """Write `metadata.csv` and `label2id.json`, split at random with every class keeping its share.

    Every file is decoded once; one that is no JPEG, PNG, WebP, BMP or TIFF, or is damaged, is listed and left out.
    The same files, seed and shares give the same bytes. Paths are relative where root lies in out, else absolute.

    Args:
        root: folder with one folder for each class.
        out: folder for the two files; is created if needed.
        valid: share of each class for validation.
        test: share of each class for a test split.
        seed: of the split.
        overwrite: replace files that are already there and differ.

    Raises:
        InputError: if root has no class with pictures, a class has too few, or files would be replaced.
    """
    source, target = Path(root), Path(out)
    if not root or not source.is_dir():
        raise InputError(Fault("missing folder", f"root={root}", "no such folder"))
    if valid <= 0 or valid + test >= 1:
        cause = f"valid={valid} and test={test} must leave something for training, and valid must be > 0"
        raise InputError(Fault("wrong value", "valid, test", cause, "for instance valid=0.2 test=0.1"))
    written = {target / "metadata.csv", target / "label2id.json"}
    files = sorted(file for file in _files(source) if file not in written)
    pictures, left_out = _sort_out(source, files)
    if not pictures:
        hint = "root must have one folder for each class, with pictures in it"
        raise InputError(Fault("no pictures", f"root={root}", f"{len(files)} files, none usable", hint))

    splits = split_by_class([p.label for p in pictures], valid=valid, test=test, seed=seed)
    label2id = {label: index for index, label in enumerate(sorted({p.label for p in pictures}))}
    contents = {
        target / "metadata.csv": _table(pictures, splits, folder=target),
        target / "label2id.json": json.dumps(label2id, indent=2, ensure_ascii=False) + "\n",
    }
    _write(contents, overwrite=overwrite)
    _report(pictures, splits, left_out, out=target)


def split_by_class(labels: Sequence[str], *, valid: float, test: float, seed: int) -> list[str]:
    """The split of every sample: seeded, and with the given shares of every class, at least one sample of each.

    Raises:
        InputError: if a class has fewer samples than splits.
    """
    rng = np.random.default_rng(seed)
    splits = np.full(len(labels), "train", dtype=object)
    names = np.array(labels, dtype=object)
    for label in sorted(set(labels)):
        members = rng.permutation(np.flatnonzero(names == label))
        num_valid = max(1, round(valid * len(members)))
        num_test = max(1, round(test * len(members))) if test else 0
        if num_valid + num_test >= len(members):
            cause = f"{len(members)} pictures are too few for {'three' if test else 'two'} splits"
            raise InputError(Fault("too few pictures", f"class '{label}'", cause, "add pictures or remove the folder"))
        splits[members[:num_valid]] = "valid"
        splits[members[num_valid : num_valid + num_test]] = "test"
    return splits.tolist()


def _files(root: Path) -> Iterator[Path]:
    """All files below root, also behind links to folders; a link back to a folder above is not followed again."""
    for folder, folders, names in os.walk(root, followlinks=True):
        above = [os.path.realpath(parent) for parent in (folder, *Path(folder).parents)]
        folders[:] = sorted(f for f in folders if os.path.realpath(Path(folder) / f) not in above)
        yield from (Path(folder) / name for name in names)


def _sort_out(root: Path, files: Sequence[Path]) -> tuple[list[Picture], list[Fault]]:
    pictures, left_out = [], []
    with ThreadPoolExecutor() as pool:
        faults = pool.map(lambda file: _fault(root, file), files)
        shown = track(zip(files, faults, strict=True), "Reading pictures", total=len(files), transient=True)
        for file, fault in shown:
            if fault:
                left_out.append(fault)
            else:
                pictures.append(Picture(file, file.relative_to(root).parts[0]))
    return pictures, left_out


def _fault(root: Path, file: Path) -> Fault | None:
    if any(part.startswith(".") for part in file.relative_to(root).parts):
        return Fault("left out", str(file), "is hidden")
    if len(file.relative_to(root).parts) == 1:
        return Fault("left out", str(file), "lies in root itself, not in the folder of a class")
    try:
        str(file).encode("utf-8")
    except UnicodeEncodeError:
        return Fault(
            "left out",
            os.fsencode(file).decode("utf-8", "backslashreplace"),
            "its name is not UTF-8, and cannot stand in a CSV file",
        )
    try:
        load_image(file)
    except InputError as error:
        return error.faults[0]
    return None


def _table(pictures: Sequence[Picture], splits: Sequence[str], *, folder: Path) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    base = folder.resolve()
    for picture, split in zip(pictures, splits, strict=True):
        file = picture.file.resolve()
        path = file.relative_to(base) if file.is_relative_to(base) else file
        rows.writerow([path.as_posix(), picture.label, split])
    return text.getvalue()


def _write(contents: dict[Path, str], *, overwrite: bool) -> None:
    for path, text in contents.items():
        if path.exists() and path.read_bytes() != text.encode("utf-8") and not overwrite:
            hint = "choose another out=<folder>, or overwrite=true"
            raise InputError(Fault("file would be replaced", str(path), "it is there with another content", hint))
    for path, text in contents.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as error:
            raise InputError(Fault("unusable folder", f"out={path.parent}", error.strerror or str(error))) from error


def _report(pictures: Sequence[Picture], splits: Sequence[str], left_out: Sequence[Fault], *, out: Path) -> None:
    console = rich.get_console()
    say = functools.partial(console.print, soft_wrap=True, highlight=False, markup=False)
    counts = Counter((p.label, split) for p, split in zip(pictures, splits, strict=True))
    used = [split for split in SPLITS if split in splits]
    table = Table(title=f"{len(pictures):,} pictures", title_justify="left", box=rich.box.SIMPLE)
    for name, justify in (("class", "left"), *((split, "right") for split in used)):
        table.add_column(name, justify=justify)
    for label in sorted({p.label for p in pictures}):
        table.add_row(label, *(str(counts[label, split]) for split in used))
    console.print(table)
    say(f"{len(left_out)} files left out{':' if left_out else ''}")
    for line in _summary(left_out):
        say(f"  {line}")
    say("Copies of one picture (rotated, scaled, encoded anew) are not recognised: keep them in one split by hand.")
    pair = f"data.metadata={out / 'metadata.csv'} data.label2id={out / 'label2id.json'}"
    say(f"Train with:\n  python train.py data=metadata {pair}")


def _summary(left_out: Sequence[Fault]) -> list[str]:
    """Damaged pictures one by one; of files that never were pictures only how many there are of each extension."""
    pictures = [fault for fault in left_out if Path(fault.where).suffix.lower() in PICTURE_SUFFIXES]
    others = Counter(Path(fault.where).suffix.lower() or "no extension" for fault in left_out if fault not in pictures)
    lines = [f"{fault.where}: {fault.cause}" for fault in pictures[:LISTED]]
    if len(pictures) > LISTED:
        lines.append(f"… and {len(pictures) - LISTED} more pictures")
    return lines + [f"{count} × {suffix}: no pictures" for suffix, count in sorted(others.items())]


if __name__ == "__main__":
    from hybridnet.launch import call

    call("prepare")
