"""The loaders of training and validation pictures, as the device that trains wants them."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch

from hybridnet.data.augment import Augment
from hybridnet.data.decoded import Pictures
from hybridnet.data.loader import Loader
from hybridnet.data.samples import ImageSamples
from hybridnet.data.sizes import Sizes

# A GPU answers small batches slowly, and keeps nothing of them for a backward pass.
VALID_BATCH_SIZE, VALID_FACTOR = 256, 4  # up to so many pictures, and so many times the training's


def make_loaders(
    pictures: tuple[Pictures, Pictures],
    labels: tuple[np.ndarray, np.ndarray],
    sizes: Sizes,
    *,
    device: torch.device,
    is_resident: bool,
    center_crop: float,
    augment: Augment,
    seed: int,
    batch_size: int,
    num_workers: int | Literal["auto"],
    pin_memory: bool,
) -> tuple[Loader, Loader]:
    """The loaders of both splits.

    Args:
        pictures: of each split.
        labels: int64 (N,), of each split.
        sizes: of the training pictures in each epoch.
        device: that trains.
        is_resident: whether it has the pictures and cuts them itself; it then wants no worker processes.
        center_crop, augment, seed: see `ImageSamples`; only training pictures are changed.
        batch_size: of the training.
        num_workers, pin_memory: see `Loader`; only for a GPU of CUDA batches are pinned.
    """
    make_samples = partial(ImageSamples, sizes=sizes, center_crop=center_crop, seed=seed)
    first_rows = (0, len(labels[0])) if is_resident else (None, None)
    train = make_samples(pictures[0], labels[0], augment=augment, first_row=first_rows[0])
    valid = make_samples(pictures[1], labels[1], augment=None, first_row=first_rows[1])
    on_cpu = device.type == "cpu"
    num_workers = 0 if is_resident and num_workers == "auto" else num_workers
    # Where the CPU trains beside a GPU, which may be full, pinning would take a few hundred MB of that one's memory.
    pin_memory = pin_memory and device.type == "cuda"
    make = partial(Loader, num_workers=num_workers, pin_memory=pin_memory, is_ahead=not on_cpu)
    valid_batch_size = batch_size if on_cpu else max(batch_size, min(VALID_FACTOR * batch_size, VALID_BATCH_SIZE))
    return make(train, batch_size=batch_size), make(valid, batch_size=valid_batch_size)
