"""scikit-learn's handwritten digits as PNG files with their CSV + JSON pair: data that every machine has."""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from hybridnet.data.metadata import MetadataImages
from hybridnet.errors import Fault, InputError
from hybridnet.files import write_json

VALID_SHARE = 0.2
SPLIT_SEED = 42  # not the experiment's seed: runs with different seeds are compared on the same pictures


class Digits(MetadataImages):
    """1,797 handwritten digits of 8×8 pixels, written below the folder of `metadata` at first use.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    Arguments as MetadataImages.
    """

    def setup(self) -> None:
        in_one_folder = self.metadata.parent == self.label2id_file.parent
        if in_one_folder and not self.metadata.exists() and not self.label2id_file.exists():
            write_digits(self.metadata.parent, metadata=self.metadata.name, label2id=self.label2id_file.name)
        super().setup()


def write_digits(folder: Path, *, metadata: str, label2id: str) -> None:
    """Write the pictures and the pair, whole or not at all; when two processes do so at once, one of them wins."""
    from sklearn.datasets import load_digits  # costs a second: only when the files are missing
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    numbers = np.arange(len(digits.target))
    _, valid = train_test_split(numbers, test_size=VALID_SHARE, random_state=SPLIT_SEED, stratify=digits.target)
    is_valid = np.isin(numbers, valid)

    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        with (unfinished / metadata).open("w", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(["path", "label", "split"])
            for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
                path = f"images/{label}/{number:04d}.png"
                (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(unfinished / path)
                rows.writerow([path, label, "valid" if is_valid[number] else "train"])
        write_json(unfinished / label2id, {str(name): int(name) for name in digits.target_names})
        _move(unfinished, folder, metadata=metadata)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _move(unfinished: Path, folder: Path, *, metadata: str) -> None:
    try:
        unfinished.rename(folder)
    except OSError as error:
        if (folder / metadata).exists():  # another process was first
            return
        hint = "choose an empty folder with data.metadata=<folder>/metadata.csv data.label2id=<folder>/label2id.json"
        cause = f"the digits cannot be written there ({error.strerror})"
        raise InputError(Fault("unusable folder", str(folder), cause, hint)) from error
