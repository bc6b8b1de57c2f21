"""CIFAR-10: from the network, or from a local copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hybridnet.data.progress import Track
from hybridnet.data.rows import read_rows
from hybridnet.data.source import Source, Table
from hybridnet.data.split import split_groups
from hybridnet.errors import Fault, InputError
from hybridnet.settings import Rate, checked

SPLIT_SEED = 42  # not the experiment's seed: runs with different seeds are compared on the same pictures
ARCHIVE = "cifar-10-batches-py"
DOWNLOAD = "download"


class Cifar10(Source):
    """60,000 pictures of 32×32 pixels in ten classes; the official test pictures are the split `test`.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        root: a folder with `train/<class>` and `test/<class>`, whose pictures are used where they are; or a folder with
            torchvision's `cifar-10-batches-py`; null downloads that (170 MB).
        valid: share of the official training pictures that is held out for validation. With 0 the official test
            pictures are the validation: choosing an epoch by them is common, and flatters.
    """

    name = "cifar10"
    content = "valid"

    @checked
    def __init__(self, *, root: str | None, valid: Rate) -> None:
        self.root = Path(root) if root else None
        self.valid = valid

    def require_files(self) -> None:
        if self.root and not self.root.is_dir():
            raise InputError(Fault("no CIFAR-10", f"data.root={self.root}", "no such folder", _HINT))

    def state(self) -> dict[str, Any]:
        root = str(self.root.resolve()) if self.root else None
        return {"source": "cifar10", "root": root, "valid": self.valid}

    def fill(self, folder: Path, *, track: Track) -> Table:
        if self.root and (self.root / "train").is_dir() and (self.root / "test").is_dir():
            return self._divided(list(_in_folders(self.root)))
        found = list(track(self._written(folder), "Writing CIFAR-10", 60_000))
        shutil.rmtree(folder / DOWNLOAD, ignore_errors=True)
        return self._divided(found)

    def extend(self, earlier: Path, folder: Path, *, track: Track) -> Table:
        home = earlier.parent.resolve()
        return self._divided(
            [(str(home / row.path), row.label, Path(row.path).parts[-3]) for row in read_rows(earlier)[0]]
        )

    def _divided(self, found: Sequence[tuple[str, str, str]]) -> Table:
        classes = sorted({label for _, label, _ in found})
        if len(classes) != 10:
            cause = f"{len(classes)} classes with pictures, expected 10"
            raise InputError(Fault("no CIFAR-10", f"data.root={self.root}", cause, _HINT))
        train, test = ([row for row in found if row[2] == split] for split in ("train", "test"))
        if self.valid:
            labels = [label for _, label, _ in train]
            shares = {"train": 1 - self.valid, "valid": self.valid}
            splits = split_groups(labels, range(len(train)), shares, seed=SPLIT_SEED)
            rows = [(path, label, split) for (path, label, _), split in zip(train, splits, strict=True)] + test
        else:
            rows = train + [(path, label, "valid") for path, label, _ in test]
        return Table(rows, {label: index for index, label in enumerate(classes)})

    def _written(self, folder: Path) -> Iterator[tuple[str, str, str]]:
        """The pictures of torchvision's archive as PNG files."""
        from torchvision.datasets import CIFAR10

        for split in ("train", "test"):
            try:
                home = self.root or folder / DOWNLOAD
                pictures = CIFAR10(str(home), train=split == "train", download=self.root is None)
            except Exception as error:  # no network, a broken download, no archive there
                cause = " ".join(str(error).split()) or type(error).__name__
                raise InputError(Fault("no CIFAR-10", f"data.root={self.root or 'null'}", cause, _HINT)) from error
            for number, (pixels, label) in enumerate(zip(pictures.data, pictures.targets, strict=True)):
                name = pictures.classes[label]
                path = f"images/{split}/{name}/{number:05d}.png"
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.asarray(pixels)).save(folder / path)
                yield path, name, split


_HINT = f"data.root=<folder with train/<class> and test/<class>, or with {ARCHIVE}>"


def _in_folders(root: Path) -> Iterator[tuple[str, str, str]]:
    root = root.resolve()  # not every picture, which would take a second
    for split in ("train", "test"):
        for file in sorted((root / split).glob("[!.]*/[!.]*")):  # without hidden ones, such as .DS_Store
            yield str(file), file.parent.name, split
