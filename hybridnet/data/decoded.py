"""Decoded pictures of one split: in a store's memory-mapped file, or decoded whenever they are asked for."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from hybridnet.data.image import load_reduced, reduced_size, shrunk
from hybridnet.errors import Fault, InputError


class Pictures(Protocol):
    """Decoded pictures of one split, by their index in it."""

    sizes: np.ndarray  # int64 (N, 2), height and width

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3)."""

    def will_need(self, indices: Sequence[int]) -> None:
        """Let the system read ahead from the disk."""


class Entry(NamedTuple):
    """What the index knows of one content.

    Attributes:
        height, width: in pixels, as reduced.
        offset: of the pixels in the file, in bytes.
        checksum: CRC-32 of the pixels.
        group: pictures with the same number are copies of each other.
        cause: why it cannot be used, or "".
    """

    height: int
    width: int
    offset: int
    checksum: int
    group: int
    cause: str

    @property
    def num_bytes(self) -> int:
        """Of its pixels."""
        return self.height * self.width * 3


@dataclass(frozen=True)
class Reduction:
    """How large pictures are kept: see `load_reduced`."""

    crop_side: int
    short_side: int

    def load(self, file: Path) -> np.ndarray:
        """uint8 (H, W, 3).

        Raises:
            InputError: if the file is no picture, or damaged.
        """
        return load_reduced(file, crop_side=self.crop_side, short_side=self.short_side)

    def shrink(self, image: Image.Image) -> Image.Image:
        """A decoded picture as `load` would return it, but for what a JPEG loses when it is decoded smaller."""
        return shrunk(image, short_side=self.short_side)

    def size(self, file: Path) -> tuple[int, int]:
        """Height and width of what `load` returns, from the file's header."""
        return reduced_size(file, crop_side=self.crop_side, short_side=self.short_side)


class StoredPictures:
    """Pictures in the memory-mapped file. Pickled for a worker process, it is opened there anew."""

    def __init__(self, file: Path, entries: Sequence[Entry]) -> None:
        self.file = file
        self.sizes = np.array([(entry.height, entry.width) for entry in entries], dtype=np.int64)
        self.offsets = [entry.offset for entry in entries]
        self._pixels: np.ndarray | None = None

    def will_need(self, indices: Sequence[int]) -> None:
        mapped = getattr(self._mapped().base, "obj", None)
        if hasattr(mmap, "MADV_WILLNEED") and mapped is not None:
            for index in indices:
                start = self.offsets[index] // mmap.PAGESIZE * mmap.PAGESIZE
                end = self.offsets[index] + int(self.sizes[index].prod()) * 3
                mapped.madvise(mmap.MADV_WILLNEED, start, end - start)

    def _mapped(self) -> np.ndarray:
        if self._pixels is None:
            self._pixels = map_pixels(self.file)
        return self._pixels

    def __getitem__(self, index: int) -> np.ndarray:
        height, width = self.sizes[index]
        start = self.offsets[index]
        return self._mapped()[start : start + height * width * 3].reshape(height, width, 3)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pixels": None}


class LivePictures:
    """Pictures decoded whenever they are asked for."""

    def __init__(self, files: Sequence[Path], sizes: Sequence[tuple[int, int]], reduction: Reduction) -> None:
        self.files = files
        self.sizes = np.array(sizes, dtype=np.int64)
        self.reduction = reduction

    def will_need(self, indices: Sequence[int]) -> None:
        if hasattr(os, "posix_fadvise"):
            for index in indices:
                with (
                    suppress(OSError),
                    self.files[index].open("rb") as stream,
                ):  # a missing file is told when it is read
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def __getitem__(self, index: int) -> np.ndarray:
        picture = self.reduction.load(self.files[index])
        if picture.shape[:2] != tuple(self.sizes[index]):
            raise InputError(
                Fault("changed image", str(self.files[index]), "it was replaced after the run had started")
            )
        return picture


def map_pixels(file: Path) -> np.ndarray:
    """The whole file as uint8, not to be written to: as a copy in the making, none larger than the memory could be."""
    if not file.stat().st_size:  # no picture is usable; an empty file cannot be mapped
        return np.empty(0, dtype=np.uint8)
    with file.open("rb") as stream:
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
