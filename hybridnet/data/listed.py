"""Batches of files as a trained model sees them, each decoded once; what cannot be decoded is left out and listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hybridnet.data.loader import Loader, Request, Samples
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.errors import InputError


@dataclass
class ListedBatch:
    """Some of the pictures.

    Attributes:
        images: uint8 (B, H, W, 3).
        indices: int64 (B,), places of the pictures in the list, on the CPU.
    """

    images: Tensor
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def pin_memory(self) -> ListedBatch:
        """The same in page-locked memory, from which copies to a GPU do not wait."""
        return ListedBatch(self.images.pin_memory(), self.indices)


class ListedImages(Samples):
    """Pictures of a list: files, or arrays uint8 (H, W, 3).

    Args:
        pictures: the list.
        preprocessing: of the model.

    Attributes:
        causes: why pictures were left out, by their place in the list; filled while the batches are read.
    """

    def __init__(self, pictures: Sequence[Path | np.ndarray], preprocessing: Preprocessing) -> None:
        self.pictures = pictures
        self.preprocessing = preprocessing
        self.causes: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.pictures)

    def batches(self, *, batch_size: int, device: torch.device) -> Iterator[ListedBatch]:
        """All pictures in their order; a batch may be shorter by those that were left out, and empty."""
        loader = Loader(
            self,
            batch_size=batch_size,
            num_workers="auto",
            pin_memory=device.type == "cuda",
            is_ahead=device.type != "cpu",
        )
        return loader.epoch(0, np.arange(len(self)))

    def make(self, request: Request, pool: ThreadPoolExecutor | None = None) -> ListedBatch:
        indices = request.indices.tolist()
        images = dict(zip(indices, (pool.map if pool else map)(self._image, indices), strict=True))
        good = [index for index in indices if images[index] is not None]
        pixels = np.stack([images[index] for index in good]) if good else np.empty((0, *self.size, 3), np.uint8)
        return ListedBatch(torch.from_numpy(pixels), np.array(good, dtype=np.int64))

    def will_need(self, request: Request) -> None:
        """Nothing: the files are read at once, and once."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return self.preprocessing.image_size

    def _image(self, index: int) -> np.ndarray | None:
        try:
            return self.preprocessing.cropped(self._read(self.pictures[index]))
        except InputError as error:
            self.causes[index] = error.faults[0].cause
            return None

    def _read(self, picture: Path | np.ndarray) -> np.ndarray:
        if isinstance(picture, np.ndarray):
            return self.preprocessing.reduced(picture)
        return self.preprocessing.reduction.load(picture)
