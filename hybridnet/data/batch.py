"""A batch on its way to the model: uint8 pixels, labels, and the colour change that the device applies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Batch:
    """Some pictures of one split.

    Attributes:
        images: uint8 (B, H, W, 3); a quarter of the bytes of float32 on the way to the device.
        colour: float32 (B, 3, 4), an affine map of RGB in [0, 1] for each picture.
        labels: int64 (B,).
    """

    images: Tensor
    colour: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from which copies to a GPU do not wait."""
        return Batch(self.images.pin_memory(), self.colour.pin_memory(), self.labels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same on `device`; does not wait for the copy."""
        moved = (tensor.to(device, non_blocking=True) for tensor in (self.images, self.colour, self.labels))
        return Batch(*moved)


class Normalize:
    """Makes the model's input from a batch, on the batch's device: colour change, then (x - mean) / std.

    Args:
        mean: of each channel, in [0, 1].
        std: of each channel, in [0, 1].

    Shape:
        Batch of B pictures -> (B, 3, H, W), channels last in memory.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def __call__(self, batch: Batch, dtype: torch.dtype) -> Tensor:
        b, h, w, _ = batch.images.shape
        matrix, offset = batch.colour[:, :, :3] / 255, batch.colour[:, None, :, 3]
        pixels = batch.images.view(b, h * w, 3).to(torch.float32)
        coloured = torch.baddbmm(offset, pixels, matrix.transpose(1, 2)).clamp_(0, 1)  # (B, H·W, 3)
        mean, std = self.mean.to(coloured.device), self.std.to(coloured.device)
        return coloured.sub_(mean).div_(std).to(dtype).view(b, h, w, 3).permute(0, 3, 1, 2)

    def undo(self, images: Tensor) -> Tensor:
        """The pictures that the model sees, for people: (B, 3, H, W) -> uint8 (B, H, W, 3)."""
        pixels = images.float().permute(0, 2, 3, 1).cpu() * self.std + self.mean
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
