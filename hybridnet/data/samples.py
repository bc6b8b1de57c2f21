"""From decoded pictures to batches: cut out, resized and mirrored here; the rest is left to the training device."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn import functional as F

from hybridnet.data.augment import NUM_RANDOMS, Augment, Changes, Size, centre_boxes
from hybridnet.data.batch import Batch, Crops, Mixing
from hybridnet.data.decoded import Pictures
from hybridnet.data.draws import uniforms
from hybridnet.data.loader import MOST_THREADS, Request, Samples
from hybridnet.data.sizes import Sizes


class ImageSamples(Samples):
    """The pictures of one split as batches. What is in one depends on nothing but the request.

    Args:
        pictures: decoded.
        labels: int64 (N,).
        sizes: of the result in each epoch.
        center_crop: share of the picture, along the side that limits it, that evaluation looks at.
        augment: random changes, or None for evaluation.
        seed: of the random changes.
        first_row: where the device has the pictures and cuts them itself: the row of the first one there; else None.
    """

    def __init__(
        self,
        pictures: Pictures,
        labels: np.ndarray,
        sizes: Sizes,
        *,
        center_crop: float,
        augment: Augment | None,
        seed: int,
        first_row: int | None,
    ) -> None:
        self.pictures = pictures
        self.labels = labels
        self.sizes = sizes
        self.center_crop = center_crop
        self.augment = augment
        self.seed = seed
        self.first_row = first_row

    def make(self, request: Request, pool: ThreadPoolExecutor | None = None) -> Batch:
        indices, size = request.indices, self.sizes.in_epoch(request.epoch)
        whole = self.pictures.sizes[indices]
        changes = self._drawn(request, whole, size) if self.augment else self._centred(whole, size)
        return Batch(
            images=self._cut(indices, changes, size, pool) if self.first_row is None else None,
            colour=torch.from_numpy(changes.colour),
            labels=torch.from_numpy(self.labels[indices]),
            num_images=request.num_images,
            angles=torch.from_numpy(changes.angles) if changes.angles.any() else None,
            shifts=_shifts(changes, size) if changes.shifts.any() else None,
            holes=_holes(changes, size) if changes.holes.any() else None,
            mixing=_mixing(changes, size) if (changes.blends < 1).any() or changes.patches.any() else None,
            crops=None if self.first_row is None else self._crops(indices, changes, size),
        )

    def _drawn(self, request: Request, whole: np.ndarray, size: Size) -> Changes:
        height, width = size
        randoms = uniforms(self.seed, request.epoch, request.indices, request.repeats, num=NUM_RANDOMS)
        return self.augment.draw(randoms, whole, aspect=width / height)

    def _centred(self, whole: np.ndarray, size: Size) -> Changes:
        height, width = size
        return Changes(
            boxes=centre_boxes(whole, aspect=width / height, share=self.center_crop),
            flips=np.zeros((len(whole), 2), dtype=bool),
            colour=np.tile(np.eye(3, 4, dtype=np.float32), (len(whole), 1, 1)),
            angles=np.zeros(len(whole), dtype=np.float32),
            shifts=np.zeros((len(whole), 2), dtype=np.float32),
            holes=np.zeros((len(whole), 4), dtype=np.float32),
            blends=np.ones(len(whole), dtype=np.float32),
            patches=np.zeros((len(whole), 4), dtype=np.float32),
        )

    def will_need(self, request: Request) -> None:
        if self.first_row is None:
            self.pictures.will_need(request.indices)

    def _cut(self, indices: np.ndarray, changes: Changes, size: Size, pool: ThreadPoolExecutor | None) -> torch.Tensor:
        images = np.empty((len(indices), *size, 3), dtype=np.uint8)
        boxes, flips = changes.boxes.tolist(), changes.flips.tolist()

        def cut(places: range) -> None:
            for place in places:
                horizontal, vertical = flips[place]
                part = resized(self.pictures[indices[place]], boxes[place], size)
                # As items of three bytes: mirroring single bytes takes twice as long.
                images[place].view("V3")[:] = part.view("V3")[:: -1 if vertical else 1, :: -1 if horizontal else 1]

        shares = [range(first, len(indices), MOST_THREADS) for first in range(MOST_THREADS)]
        for _ in (pool.map if pool else map)(cut, shares):
            pass
        return torch.from_numpy(images)

    def _crops(self, indices: np.ndarray, changes: Changes, size: Size) -> Crops:
        rows = torch.from_numpy(self.first_row + indices)
        return Crops(rows, torch.from_numpy(changes.boxes), torch.from_numpy(changes.flips), size)


def _shifts(changes: Changes, size: Size) -> torch.Tensor:
    """In whole pixels, which keep the picture sharp."""
    return torch.from_numpy(np.rint(changes.shifts * size[::-1]).astype(np.int64))


def _holes(changes: Changes, size: Size) -> torch.Tensor:
    return torch.from_numpy(np.rint(changes.holes * np.tile(size[::-1], 2)).astype(np.int64))


def _mixing(changes: Changes, size: Size) -> Mixing:
    width_height = np.array(size[::-1])
    start, end = changes.patches[:, :2] * width_height, changes.patches[:, 2:] * width_height
    sides = np.floor(end - start)  # down, so that no picture loses more than half of itself
    patches = np.concatenate([np.rint(start), np.rint(start) + sides], axis=1).astype(np.int64)
    own = 1 - sides.prod(axis=1) / width_height.prod()
    shares = (changes.blends * own).astype(np.float32)
    return Mixing(torch.from_numpy(changes.blends), torch.from_numpy(patches), torch.from_numpy(shares))


def resized(picture: np.ndarray, box: Sequence[int], size: Size) -> np.ndarray:
    """The part of a picture in `box` (left, top, right, bottom), at `size`: Pillow's `resize`, within a grey level.

    torch's resize of uint8 is four times as fast as Pillow's, and copies nothing to another layout.
    """
    left, top, right, bottom = box
    part = picture[top:bottom, left:right].copy()
    if part.shape[:2] == size:
        return part
    with_batch = torch.from_numpy(part)[None].permute(0, 3, 1, 2)  # (1, 3, H, W), channels last
    return F.interpolate(with_batch, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
