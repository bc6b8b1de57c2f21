"""`python -m hybridnet.prepare root=<folder of class folders> out=<folder>`: from folders of photos to a table."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from hybridnet.console import show, track
from hybridnet.data.division import Division
from hybridnet.data.preparation import ROOT, divide_pictures
from hybridnet.data.report import Report
from hybridnet.errors import Fault, InputError
from hybridnet.files import csv_text, require_named, write_text
from hybridnet.settings import Natural, Rate, Seed, checked

FILES = ("metadata.csv", "label2id.json", "report.txt")


@checked
def prepare(
    *,
    root: str,
    out: str,
    valid: Rate,
    test: Rate,
    folds: Natural,
    groups: str | None,
    copies: Literal["similar", "same"],
    on_duplicates: Literal["keep", "drop"],
    seed: Seed,
    extend: str | None,
    overwrite: bool,
) -> None:
    """Write `metadata.csv`, `label2id.json` and `report.txt`: every class keeps its share, and copies stay together.

    Every file is decoded once; one that is no JPEG, PNG, WebP, BMP or TIFF, or is damaged, is listed and left out.
    The same files, seed and shares give the same bytes. Paths are relative where root lies in out, else absolute.

    Args:
        root: folder with one folder for each class, or with such folders of splits, or a CSV table with the columns
            path and label.
        out: folder for the three files; is created if needed.
        valid, test, folds, groups, copies, on_duplicates, seed: see `Division`.
        extend: an earlier metadata.csv, whose pictures keep their split, fold and group; the new ones of root are
            added.
        overwrite: replace files that are already there and differ.

    Raises:
        InputError: if root cannot be divided, see `divide_pictures`, no folder is named, or files would be replaced.
    """
    require_named(out)
    source, target = Path(root), Path(out)
    with _explained(target):  # before the pictures are read, which may take minutes; nothing is made yet
        nearest = next((folder for folder in (target, *target.parents) if folder.exists()), target)
        tempfile.TemporaryFile(dir=nearest).close()
    if not root:
        raise InputError(Fault("missing folder", "root=", "no such folder or table", ROOT))
    division = Division(
        valid=valid, test=test, folds=folds, groups=groups, copies=copies, on_duplicates=on_duplicates, seed=seed
    )
    own = [target / name for name in FILES]
    earlier = Path(extend) if extend else None
    table, report = divide_pictures(source, division, folder=target, own=own, track=track, extend=earlier)
    label2id = json.dumps(table.label2id, indent=2, ensure_ascii=False) + "\n"
    contents = (csv_text([table.columns, *table.rows]), label2id, report.text(shortened=False))
    _write({target / name: text for name, text in zip(FILES, contents, strict=True)}, overwrite=overwrite)
    _print(report, target)


def _write(contents: dict[Path, str], *, overwrite: bool) -> None:
    for path, text in contents.items():
        if path.exists() and path.read_bytes() != text.encode("utf-8") and not overwrite:
            extend = f"; with extend={path} its pictures stay in their splits" if path.name == FILES[0] else ""
            hint = f"choose another out=<folder>, or overwrite=true{extend}"
            raise InputError(Fault("file would be replaced", str(path), "it is there with another content", hint))
    for path, text in contents.items():
        with _explained(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "choose another one with out=<folder>"
        raise InputError(Fault("unusable folder", f"out={out}", error.strerror or str(error), hint)) from error


def _print(report: Report, out: Path) -> None:
    pair = [f"data.metadata={out / FILES[0]}", f"data.label2id={out / FILES[1]}"]
    command = shlex.join(["python", "train.py", "data=metadata", *pair])
    show(report.text(shortened=True), f"{out / FILES[2]} lists everything. Train with:\n  {command}")


if __name__ == "__main__":
    from hybridnet.launch import call

    call("prepare")
