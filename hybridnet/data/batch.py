"""A batch on its way to the model: uint8 pixels, labels, and the changes that the training device makes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

# Pixels in one row of the colour product: a product of three columns would run at a fifth of the speed.
BLOCK = 8

P = TypeVar("P", bound="Batch | Mixing | Crops")


@dataclass
class Crops:
    """Which parts of a device's own pictures make a batch.

    Attributes:
        rows: int64 (B,), place of each picture.
        boxes: int64 (B, 4): left, top, right, bottom in pixels.
        flips: bool (B, 2): mirrored left-right, top-bottom.
        size: height and width of the result.
    """

    rows: Tensor
    boxes: Tensor
    flips: Tensor
    size: tuple[int, int]


@dataclass
class Mixing:
    """How every picture is mixed with its partner, the one at the same place counted from the batch's end.

    Attributes:
        blends: float32 (B,), share of the picture's own values.
        patches: int64 (B, 4): left, top, right, bottom of the part that is the partner's, in pixels.
        shares: float32 (B,), of the picture's own label.
    """

    blends: Tensor
    patches: Tensor
    shares: Tensor


@dataclass
class Batch:
    """Some pictures of one split.

    Attributes:
        images: uint8 (B, H, W, 3), a quarter of the bytes of float32 on the way to the device; None where `crops` says
            from which pictures of the device they are cut.
        colour: float32 (B, 3, 4), an affine map of RGB in [0, 1] for each picture.
        labels: int64 (B,).
        num_images: B, or, of a batch of which other processes have other parts, that of all of it.
        angles: float32 (B,), counter-clockwise rotation in degrees; None where nothing is rotated.
        shifts: int64 (B, 2), pixels to the right and down; None where nothing is shifted.
        holes: int64 (B, 4): left, top, right, bottom of the part that is erased, in pixels; None where nothing is.
        mixing: None where nothing is mixed.
    """

    images: Tensor | None
    colour: Tensor
    labels: Tensor
    num_images: int
    angles: Tensor | None = None
    shifts: Tensor | None = None
    holes: Tensor | None = None
    mixing: Mixing | None = None
    crops: Crops | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from which copies to a GPU do not wait."""
        return _mapped(self, Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        """The same on `device`; does not wait for the copy to a CUDA GPU, which keeps pinned memory until it is done.

        MPS would go on reading memory that is given away already (pytorch/pytorch#189690).
        """
        return _mapped(self, lambda tensor: tensor.to(device, non_blocking=device.type == "cuda"))

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, in the order of the fields."""
        found: list[Tensor] = []
        _mapped(self, lambda tensor: found.append(tensor) or tensor)
        return found

    def with_tensors(self, tensors: Sequence[Tensor]) -> Batch:
        """The same with others in their place."""
        others = iter(tensors)
        return _mapped(self, lambda tensor: next(others))

    @property
    def layout(self) -> Hashable:
        """All that is in no tensor: which fields there are, and the size of the crops."""
        return _layout(self)

    def targets(self, num_classes: int) -> Tensor:
        """The share of each class in each picture, (B, num_classes)."""
        # F.one_hot would read the labels, to check them.
        own = torch.zeros(len(self), num_classes, device=self.labels.device).scatter_(1, self.labels[:, None], 1.0)
        return own if self.mixing is None else own.flip(0).lerp(own, self.mixing.shares[:, None])


class Normalize:
    """Colour change, then (x - mean) / std, for a batch at once and in the model's format.

    Args:
        mean: of each channel, in [0, 1].
        std: of each channel, in [0, 1].

    Shape:
        images uint8 (B, H, W, 3), colour (B, 3, 4) -> (B, 3, H, W), channels last in memory.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self._constants: dict[tuple[int, torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def __call__(self, images: Tensor, colour: Tensor, dtype: torch.dtype) -> Tensor:
        b, h, w, _ = images.shape
        block = math.gcd(h * w, BLOCK)
        scale, shift, low, high = self._constants_for(w, images.device, dtype)
        eye = torch.eye(block, device=images.device)
        # The scale is part of the product: one pass less, and one rounding less.
        matrix = torch.einsum("ij,bdc,d->bicjd", eye, colour[:, :, :3], scale).reshape(b, 3 * block, 3 * block)
        offset = (255 * scale * colour[:, :, 3] + shift)[:, None].repeat(1, 1, block)
        pixels = images.reshape(b, h * w // block, 3 * block).to(dtype)
        result = torch.baddbmm(offset.to(dtype), pixels, matrix.to(dtype)).view(b * h, w * 3)
        return torch.clamp(result, low, high, out=result).view(b, h, w, 3).permute(0, 3, 1, 2)

    def _constants_for(self, width: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Scale and shift of each channel; the least and the largest values of one row of a picture.

        Of a whole row, for three columns alone would not fill a vector register.
        """
        key = (width, device, dtype)
        if key not in self._constants:  # copying them to a GPU waits for it
            scale, shift = 1 / (255 * self.std), -self.mean / self.std
            ends = (end.repeat(width).to(device, dtype) for end in (shift, 255 * scale + shift))
            self._constants[key] = scale.to(device), shift.to(device), *ends
        return self._constants[key]

    def undo(self, images: Tensor) -> Tensor:
        """The pictures that the model sees, for people: (B, 3, H, W) -> uint8 (B, H, W, 3)."""
        pixels = images.float().permute(0, 2, 3, 1).cpu() * self.std + self.mean
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)


def model_input(images: Tensor, batch: Batch, *, normalize: Normalize, dtype: torch.dtype) -> Tensor:
    """Make all changes that a batch asks for: shift, rotation, colour and normalisation, erasing, mixing.

    Args:
        images: of the batch, on its device.
        batch: says what is done to them.
        normalize: of the data set.
        dtype: of the model's input.

    Shape:
        uint8 (B, H, W, 3) -> (B, 3, H, W).
    """
    if batch.shifts is not None:
        images = shifted(images, batch.shifts)
    if batch.angles is not None:
        images = rotated(images, batch.angles)
    inputs = normalize(images, batch.colour, dtype)
    if batch.holes is not None:
        inputs = erased(inputs, batch.holes)
    return inputs if batch.mixing is None else mixed(inputs, batch.mixing)


def rotated(images: Tensor, angles: Tensor) -> Tensor:
    """Turn every picture about its centre; what lies outside is filled by reflection.

    Args:
        angles: (B,), counter-clockwise, in degrees.

    Shape:
        uint8 (B, H, W, 3) -> uint8 (B, H, W, 3).
    """
    h, w = images.shape[1:3]
    sine, cosine = torch.deg2rad(angles).sin(), torch.deg2rad(angles).cos()
    zero = torch.zeros_like(sine)
    # affine_grid's coordinates run from -1 to 1 on both axes, whatever the picture's shape.
    rows = [torch.stack([cosine, -sine * h / w, zero], dim=1), torch.stack([sine * w / h, cosine, zero], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), [len(images), 3, h, w], align_corners=False)
    pixels = images.permute(0, 3, 1, 2).float()
    turned = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return turned.round_().to(torch.uint8).permute(0, 2, 3, 1)


def shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift every picture; what comes in from outside is its mirror image.

    Args:
        shifts: int64 (B, 2), pixels to the right and down, at most the picture's width and height.

    Shape:
        uint8 (B, H, W, 3) -> uint8 (B, H, W, 3).
    """
    b, h, w = images.shape[:3]
    columns, rows = (_mirrored(n, shift) for n, shift in zip((w, h), shifts.T, strict=True))
    return images[torch.arange(b, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _mirrored(size: int, shift: Tensor) -> Tensor:
    """Which of `size` places comes to each place, (B, size)."""
    places = torch.arange(size, device=shift.device) - shift[:, None]
    places = torch.where(places < 0, -1 - places, places)
    return torch.where(places < size, places, 2 * size - 1 - places)


def erased(images: Tensor, holes: Tensor) -> Tensor:
    """Put the mean colour, which is 0 after `Normalize`, into a part of every picture: (B, 3, H, W) -> (B, 3, H, W)."""
    return torch.where(_is_inside(holes, images)[:, None], 0.0, images)


def mixed(images: Tensor, mixing: Mixing) -> Tensor:
    """Mix every picture with its partner: (B, 3, H, W) -> (B, 3, H, W)."""
    own = torch.where(_is_inside(mixing.patches, images), 0.0, mixing.blends[:, None, None])[:, None].to(images.dtype)
    return images.flip(0).lerp(images, own).contiguous(memory_format=torch.channels_last)


def _is_inside(boxes: Tensor, images: Tensor) -> Tensor:
    """Which pixels lie within each picture's box (left, top, right, bottom): (B, 4) -> bool (B, H, W)."""
    h, w = images.shape[2:]
    left, top, right, bottom = boxes.T[..., None, None]  # each (B, 1, 1)
    x, y = torch.arange(w, device=images.device), torch.arange(h, device=images.device)[:, None]
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)


def _mapped(part: P, change: Callable[[Tensor], Tensor]) -> P:
    """The same dataclass with every tensor in it changed."""
    found = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            value = change(value)
        elif dataclasses.is_dataclass(value):
            value = _mapped(value, change)
        found[field.name] = value
    return type(part)(**found)


def _layout(part: Batch | Mixing | Crops) -> Hashable:
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return tuple(
        (name, _layout(value) if dataclasses.is_dataclass(value) else value)
        for name, value in fields.items()
        if not isinstance(value, Tensor)
    )
