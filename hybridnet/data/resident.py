"""The decoded pictures in the training device's memory: crops are cut there, and nothing but numbers travels."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hybridnet.data.batch import Crops
from hybridnet.data.decoded import Pictures
from hybridnet.errors import Fault, InputError
from hybridnet.files import in_bytes

log = logging.getLogger(__name__)

ALIGNMENT = 8  # pixels; the products of tensor cores want sides that are a multiple of it
LARGEST_SHARE = 0.5  # of the device's free memory; the rest is the model's
BLOCK = 128  # pictures that are copied to the device at a time


class ResidentPictures:
    """Pictures of different sizes, padded to one, on a device.

    Args:
        parts: where they are read from; rows are counted through all of them.
        device: where they are kept.

    Attributes:
        pixels: uint8 (N, H, 3, W), in the order in which two matrix products resize without a copy between them.
    """

    def __init__(self, parts: Sequence[Pictures], *, device: torch.device) -> None:
        height, width = _largest(parts)
        self.pixels = torch.empty((len(_sizes(parts)), height, 3, width), dtype=torch.uint8, device=device)
        pictures = (part[index] for part in parts for index in range(len(part.sizes)))
        for rows in self.pixels.split(BLOCK):
            block = np.zeros(rows.shape, dtype=np.uint8)
            for place, picture in zip(block, pictures, strict=False):
                place[: picture.shape[0], :, : picture.shape[1]] = picture.transpose(0, 2, 1)
            rows.copy_(torch.from_numpy(block))

    @staticmethod
    def num_bytes(parts: Sequence[Pictures]) -> int:
        """Memory that the pictures would take."""
        return len(_sizes(parts)) * math.prod(_largest(parts)) * 3

    def cut(self, crops: Crops) -> Tensor:
        """Cut out and resize every box, with the filter of the pictures that are cut on the host.

        Shape:
            B crops -> uint8 (B, H, W, 3).
        """
        left, top, right, bottom = crops.boxes.T
        height, width = crops.size
        dtype = torch.float32 if self.pixels.device.type == "cpu" else torch.float16  # holds 0 to 255 exactly
        pixels = self.pixels[crops.rows].to(dtype)
        b, h, c, w = pixels.shape
        columns = _filters(left, right, width, w, flip=crops.flips[:, 0], dtype=dtype)
        rows = _filters(top, bottom, height, h, flip=crops.flips[:, 1], dtype=dtype)
        narrow = torch.bmm(pixels.view(b, h * c, w), columns.transpose(1, 2))  # (B, H · 3, width)
        cut = torch.bmm(rows, narrow.view(b, h, c * width)).view(b, height, c, width)
        # Means of 0 to 255, whose rounding errors are far below a half: they cannot leave that range.
        result = torch.empty((b, height, width, c), dtype=torch.uint8, device=cut.device)
        return result.copy_(cut.round_().transpose(2, 3))


def keep_pictures(
    parts: Sequence[Pictures], *, device: torch.device, wanted: bool | Literal["auto"], are_stored: bool
) -> ResidentPictures | None:
    """The pictures in the device's memory, or None where they stay on the host.

    Args:
        parts: of the pictures.
        device: that trains.
        wanted: `auto` for a GPU that has room, if they are stored.
        are_stored: whether their pixels are in a store.

    Raises:
        InputError: if they are wanted there whatever their size, and there is no room.
    """
    if wanted == "auto":
        wanted = device.type == "cuda" and are_stored and _fit(parts, device)
    try:
        return ResidentPictures(parts, device=device) if wanted else None
    except torch.OutOfMemoryError as error:
        cause = f"the pictures take {in_bytes(ResidentPictures.num_bytes(parts))}, which {device} does not have free"
        hint = "data.resident=auto keeps them there only where half of what is free is enough"
        raise InputError(Fault("out of memory", "data.resident", cause, hint)) from error


def _fit(parts: Sequence[Pictures], device: torch.device) -> bool:
    num_bytes, free = ResidentPictures.num_bytes(parts), torch.cuda.mem_get_info(device)[0]
    fits = num_bytes <= LARGEST_SHARE * free
    log.info(f"the pictures take {in_bytes(num_bytes)} of {in_bytes(free)} on {device}{'' if fits else ': too much'}")
    return fits


def _sizes(parts: Sequence[Pictures]) -> np.ndarray:
    return np.concatenate([pictures.sizes for pictures in parts])


def _largest(parts: Sequence[Pictures]) -> tuple[int, int]:
    height, width = (-(-_sizes(parts).max(axis=0) // ALIGNMENT) * ALIGNMENT).tolist()
    return height, width


def _filters(start: Tensor, end: Tensor, size: int, length: int, *, flip: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights of the antialiased linear resize of [start, end) to `size` pixels, (B, size, length) in `dtype`.

    The triangle filter of Pillow's and torch's `antialias=True`: as wide as a target pixel, where that is wider than a
    source pixel, and cut off at the box's ends. Only the few weights within the widest triangle are computed.
    """
    scale = (end - start)[:, None, None] / size
    place = torch.arange(size, device=start.device)[None, :, None]
    place = torch.where(flip[:, None, None], size - 1 - place, place)
    centre = start[:, None, None] + (place + 0.5) * scale  # (B, size, 1)
    num_taps = min(length, math.ceil(2 * max(1.0, length / size)) + 1)
    first = (centre - scale.clamp(min=1) - 0.5).ceil_().clamp_(0, length - num_taps).long()
    source = first + torch.arange(num_taps, device=start.device)  # (B, size, num_taps)
    weights = (1 - (source + 0.5 - centre).abs_() / scale.clamp(min=1)).clamp_(min=0)
    weights *= (source >= start[:, None, None]) & (source < end[:, None, None])
    weights /= weights.sum(dim=2, keepdim=True)
    filters = torch.zeros(len(start), size, length, dtype=dtype, device=start.device)
    return filters.scatter_(2, source, weights.to(dtype))
