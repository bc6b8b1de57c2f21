"""scikit-learn's handwritten digits: pictures that every machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hybridnet.data.progress import Track
from hybridnet.data.source import Source, Table

VALID_SHARE = 0.2
SPLIT_SEED = 42  # not the experiment's seed: runs with different seeds are compared on the same pictures


class Digits(Source):
    """1,797 handwritten digits of 8×8 pixels, written as PNG files.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    """

    def state(self) -> dict[str, Any]:
        return {"source": "digits"}

    def fill(self, folder: Path, *, track: Track) -> Table:
        from sklearn.datasets import load_digits  # costs a second: only when the files are missing
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        numbers = np.arange(len(digits.target))
        _, valid = train_test_split(numbers, test_size=VALID_SHARE, random_state=SPLIT_SEED, stratify=digits.target)
        is_valid = np.isin(numbers, valid)
        rows = []
        for number in track(numbers, "Writing digits", len(numbers)):
            pixels, label = digits.images[number], digits.target[number]
            path = f"images/{label}/{number:04d}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * (255 / 16)).round().astype(np.uint8)).save(folder / path)
            rows.append((path, label, "valid" if is_valid[number] else "train"))
        return Table(rows, {str(name): int(name) for name in digits.target_names})
