"""Random pictures, for measuring speed where no data are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hybridnet.data.progress import Track
from hybridnet.data.source import Source, Table
from hybridnet.data.threads import in_threads
from hybridnet.settings import Count, checked

COARSE = 16  # pixels of the pattern that is scaled up: a JPEG of plain noise would be five times a photo's size
GRAIN = 6.0  # grey levels of noise on it


class Synthetic(Source):
    """JPEG files of random pixels with random labels. Their accuracy means nothing.

    Args:
        num_train, num_valid: number of pictures.
        num_classes: of the labels.
        picture_size: height and width in pixels.
    """

    notice = "data=synthetic are random pixels, for measuring speed: their accuracy means nothing"

    @checked
    def __init__(
        self, *, num_train: Count, num_valid: Count, num_classes: Count, picture_size: tuple[Count, Count]
    ) -> None:
        if num_train < num_classes:
            raise ValueError(f"num_train ({num_train}) must be at least num_classes ({num_classes})")
        self.num_train, self.num_valid = num_train, num_valid
        self.num_classes = num_classes
        self.picture_size = tuple(picture_size)

    def state(self) -> dict[str, Any]:
        return {"source": "synthetic", **vars(self)}

    def fill(self, folder: Path, *, track: Track) -> Table:
        (folder / "images").mkdir()
        height, width = self.picture_size
        grain = np.random.default_rng(0).normal(0, GRAIN, (2 * height, 2 * width, 3)).astype(np.float32)

        def write(number: int) -> tuple[str, str, str]:
            rng = np.random.default_rng([1, number])
            pattern = Image.fromarray(rng.integers(0, 256, (COARSE, COARSE, 3)).astype(np.uint8))
            pixels = np.asarray(pattern.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
            top, left = rng.integers(0, height), rng.integers(0, width)
            noisy = pixels + grain[top : top + height, left : left + width]
            path = f"images/{number:06d}.jpg"
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / path, quality=85)
            return path, str(number % self.num_classes), "train" if number < self.num_train else "valid"

        num_pictures = self.num_train + self.num_valid
        rows = list(track(in_threads(write, range(num_pictures)), "Writing pictures", num_pictures))
        return Table(rows, {str(index): index for index in range(self.num_classes)})
