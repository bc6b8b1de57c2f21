"""Batches from decoded pictures: the same pixels as Pillow's, and what the training device is told to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hybridnet.data.augment import Augment, Changes
from hybridnet.data.batch import Batch
from hybridnet.data.loader import Request
from hybridnet.data.samples import ImageSamples, _mixing, resized
from hybridnet.data.sizes import Sizes

SIZES = [(20, 30), (64, 48), (33, 90), (12, 16), (1, 40), (150, 7)]
NEUTRAL = {
    "scale": (1.0, 1.0),
    "ratio": (1.0, 1.0),
    "horizontal_flip": 0.0,
    "vertical_flip": 0.0,
    "rotation": 0.0,
    "shift": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "erase": 0.0,
    "erase_area": (0.02, 0.33),
    "mixup": 0.0,
    "cutmix": 0.0,
    "mix_probability": 1.0,
}
RANDOM = {"scale": (0.2, 1.0), "ratio": (0.7, 1.4), "horizontal_flip": 0.5, "vertical_flip": 0.5, "brightness": 0.3}
IN_MEMORY = Callable[..., Any]
CONSTANT = Sizes((12, 16), early=[], num_epochs=4)
PROGRESSIVE = Sizes((12, 16), early=[(6, 8), (7, 5)], num_epochs=3)


def samples_of(pictures: Any, augment: dict[str, Any] | None, **settings: Any) -> ImageSamples:
    defaults = {"center_crop": 1.0, "seed": 5, "first_row": None}
    change = None if augment is None else Augment(**NEUTRAL | augment)
    sizes = settings.pop("sizes", CONSTANT)
    labels = np.arange(len(pictures.sizes), dtype=np.int64) % 3
    return ImageSamples(pictures, labels, sizes, augment=change, **defaults | settings)


def request(*indices: int, epoch: int = 1, repeats: tuple[int, ...] | None = None) -> Request:
    return Request(epoch, np.array(indices), np.array(repeats or [0] * len(indices)), len(indices))


def pillows(picture: np.ndarray, box: tuple[int, ...], size: tuple[int, int]) -> np.ndarray:
    """Pillow's resize of the part that was cut out, which sees nothing beyond the box."""
    part = Image.fromarray(picture).crop(box)
    return np.asarray(part.resize(size[::-1], Image.Resampling.BILINEAR))


# Cutting out


def test_resized_equals_pillow(noise: Callable[..., np.ndarray]) -> None:
    """Reduced, enlarged, and one of them on each axis."""
    rng = np.random.default_rng(0)
    num_equal = num = 0
    for number in range(150):
        height, width = rng.integers(1, 90, 2)
        picture = noise(height, width, seed=number)
        (left, right), (top, bottom) = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in (width, height))
        size = tuple(rng.integers(1, 50, 2).tolist())
        box = (int(left), int(top), int(right), int(bottom))
        found, expected = resized(picture, box, size), pillows(picture, box, size)
        assert (found.shape, found.dtype) == ((*size, 3), np.uint8)
        assert np.abs(found.astype(int) - expected).max() <= 1, (box, size)
        num_equal, num = num_equal + (found == expected).sum(), num + found.size
    assert num_equal / num > 0.95, "a level of difference must be rare"


def test_a_box_of_the_wanted_size_is_not_resampled(noise: Callable[..., np.ndarray]) -> None:
    picture = noise(30, 40)
    found = resized(picture, (3, 5, 19, 17), (12, 16))
    np.testing.assert_array_equal(found, picture[5:17, 3:19])
    found[:] = 0
    np.testing.assert_array_equal(picture, noise(30, 40), "the picture in the store must stay as it is")


def test_a_picture_that_cannot_be_written_is_cut_too(noise: Callable[..., np.ndarray]) -> None:
    picture = noise(30, 40)
    picture.flags.writeable = False
    assert resized(picture, (0, 0, 40, 30), (6, 8)).shape == (6, 8, 3)


# Batches


def test_evaluation_is_the_resized_centre_and_nothing_else(in_memory: IN_MEMORY) -> None:
    pictures = in_memory((20, 30), (64, 48), (24, 32))
    batch = samples_of(pictures, None, center_crop=0.5).make(request(1, 0, 2, epoch=0))
    boxes = {1: (12, 23, 36, 41), 0: (8, 5, 21, 15), 2: (8, 6, 24, 18)}
    for image, (index, box) in zip(batch.images.numpy(), boxes.items(), strict=True):
        assert np.abs(image - pillows(pictures[index], box, (12, 16)).astype(int)).max() <= 1
    np.testing.assert_array_equal(batch.images[2], pictures[2][6:18, 8:24])
    assert torch.equal(batch.colour, torch.eye(3, 4).expand(3, 3, 4))
    assert batch.labels.tolist() == [1, 0, 2]
    assert [batch.angles, batch.shifts, batch.holes, batch.mixing, batch.crops] == [None] * 5


def test_types(in_memory: IN_MEMORY) -> None:
    augment = RANDOM | {"rotation": 20.0, "shift": 0.5, "erase": 1.0, "mixup": 0.4, "cutmix": 1.0}
    batch = samples_of(in_memory(*SIZES), augment).make(request(*range(6)))
    shapes = {"images": (6, 12, 16, 3), "colour": (6, 3, 4), "labels": (6,), "angles": (6,), "shifts": (6, 2)}
    shapes["holes"] = (6, 4)
    types = {"images": torch.uint8, "colour": torch.float32, "labels": torch.int64, "angles": torch.float32}
    types["shifts"] = types["holes"] = torch.int64
    assert {name: tuple(getattr(batch, name).shape) for name in shapes} == shapes
    assert {name: getattr(batch, name).dtype for name in types} == types
    mixing = batch.mixing
    assert (mixing.blends.dtype, mixing.patches.dtype, mixing.shares.dtype) == (
        torch.float32,
        torch.int64,
        torch.float32,
    )


@pytest.mark.parametrize(
    ("horizontal", "vertical", "change"),
    [
        (0.0, 0.0, lambda a: a),
        (1.0, 0.0, np.fliplr),
        (0.0, 1.0, np.flipud),
        (1.0, 1.0, lambda a: np.fliplr(np.flipud(a))),
    ],
)
def test_flips(horizontal: float, vertical: float, change: Callable, in_memory: IN_MEMORY) -> None:
    pictures = in_memory((12, 16), (24, 32))
    batch = samples_of(pictures, {"horizontal_flip": horizontal, "vertical_flip": vertical}).make(request(0, 1))
    np.testing.assert_array_equal(batch.images[0], change(pictures[0]))
    expected = change(pillows(pictures[1], (0, 0, 32, 24), (12, 16)).astype(int))
    assert np.abs(batch.images[1].numpy() - expected).max() <= 1


def flattened(batch: Batch) -> dict[str, torch.Tensor]:
    parts = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    parts |= {name: getattr(parts["mixing"], name) for name in ("blends", "patches", "shares")}
    return {name: value for name, value in parts.items() if isinstance(value, torch.Tensor)}


def test_a_sample_depends_on_epoch_index_and_repeat_alone(in_memory: IN_MEMORY) -> None:
    augment = RANDOM | {"rotation": 20.0, "shift": 0.5, "saturation": 0.4, "mixup": 0.4, "cutmix": 1.0, "erase": 1.0}
    samples = samples_of(in_memory(*SIZES), augment)
    indices, repeats = (3, 0, 3, 5, 1), (0, 0, 1, 0, 0)
    together = flattened(samples.make(request(*indices, repeats=repeats)))
    assert len(together) == 9
    for place, (index, repeat) in enumerate(zip(indices, repeats, strict=True)):
        alone = flattened(samples.make(request(index, repeats=(repeat,))))
        assert all(torch.equal(together[name][place : place + 1], alone[name]) for name in alone)
    for name in ("images", "colour", "angles", "shifts", "holes", "shares"):
        assert not torch.equal(together[name][0], together[name][2]), "the second time must differ"


@pytest.mark.parametrize("other", [{"epoch": 2}, {"seed": 6}], ids=str)
def test_epoch_and_seed_change_what_is_drawn(other: dict[str, int], in_memory: IN_MEMORY) -> None:
    pictures = in_memory(*SIZES[:4])  # the others have few crops to choose from
    augment = RANDOM | {"rotation": 20.0}
    one = samples_of(pictures, augment).make(request(*range(4)))
    samples = samples_of(pictures, augment, seed=other.get("seed", 5))
    two = samples.make(request(*range(4), epoch=other.get("epoch", 1)))
    for first, second in ((one.images, two.images), (one.colour, two.colour), (one.angles, two.angles)):
        assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_without_rotation_shift_erasing_and_mixing_nothing_is_left_to_do(in_memory: IN_MEMORY) -> None:
    """Else every step of such a training would rotate by 0° and mix with nothing."""
    batch = samples_of(in_memory(*SIZES), RANDOM).make(request(*range(6)))
    assert [batch.angles, batch.shifts, batch.holes, batch.mixing, batch.crops] == [None] * 5


def test_shifts_are_whole_pixels_of_the_result(in_memory: IN_MEMORY) -> None:
    """Up to half of 16 columns and 12 rows."""
    shifts = samples_of(in_memory(*[(40, 50)] * 400), {"shift": 0.5}).make(request(*range(400))).shifts
    assert shifts.min(dim=0).values.tolist() == [-8, -6]
    assert shifts.max(dim=0).values.tolist() == [8, 6]


def test_holes_are_whole_pixels_of_the_result(in_memory: IN_MEMORY) -> None:
    """Of 12 rows and 16 columns, at any place; as many of them as the share says."""
    change = {"erase": 1.0, "erase_area": (0.1, 0.1)}
    left, top, right, bottom = samples_of(in_memory(*[(40, 50)] * 400), change).make(request(*range(400))).holes.T
    assert (left.min(), top.min(), right.max(), bottom.max()) == (0, 0, 16, 12)
    areas = ((right - left) * (bottom - top)).double()
    assert areas.mean().item() == pytest.approx(0.1 * 12 * 16, rel=0.05)


# Of another size in each epoch


def test_an_epoch_has_the_pictures_of_its_size(in_memory: IN_MEMORY) -> None:
    """Bit for bit those of samples that have no other size: cut straight from the picture, and not resized twice."""
    augment = RANDOM | {"rotation": 20.0, "mixup": 0.4, "cutmix": 1.0}
    pictures = in_memory(*SIZES)
    samples = samples_of(pictures, augment, sizes=PROGRESSIVE)
    for epoch, size in {1: (6, 8), 2: (7, 5), 3: (12, 16)}.items():
        found = samples.make(request(*range(6), epoch=epoch))
        alone = samples_of(pictures, augment, sizes=Sizes(size, early=[], num_epochs=3))
        expected = alone.make(request(*range(6), epoch=epoch))
        assert found.images.shape == (6, *size, 3)
        assert torch.equal(found.mixing.patches, expected.mixing.patches)
        for one, other in zip(flattened(found).values(), flattened(expected).values(), strict=True):
            assert torch.equal(one, other)
        there = samples_of(pictures, augment, sizes=PROGRESSIVE, first_row=0).make(request(*range(6), epoch=epoch))
        assert there.crops.size == size
    assert samples_of(pictures, None, sizes=PROGRESSIVE).make(request(1, epoch=0)).images.shape == (1, 12, 16, 3)


# Mixing


def mixing_of(patches: list[list[float]], blends: list[float], size: tuple[int, int]) -> Any:
    changes = Changes(*[None] * 6, blends=np.array(blends, np.float32), patches=np.array(patches, np.float32))
    return _mixing(changes, size)


def test_patches_in_pixels() -> None:
    """Of 10×20 pixels: 6 wide and 3 high; then none, with the label's share of mixup."""
    mixing = mixing_of([[0.1, 0.5, 0.4, 0.8], [0, 0, 0, 0]], [1.0, 0.75], (10, 20))
    left, top, right, bottom = mixing.patches[0].tolist()
    assert (left, top) == (2, 5)
    assert right - left in (5, 6) and bottom - top in (2, 3), "0.3 in float32 is a little more or less"
    assert mixing.patches[1].tolist() == [0, 0, 0, 0]
    own = 1 - (right - left) * (bottom - top) / 200
    assert mixing.shares.tolist() == pytest.approx([own, 0.75])
    assert mixing.blends.tolist() == [1.0, 0.75]


@pytest.mark.parametrize("size", [(3, 3), (5, 4), (7, 31), (224, 224), (1, 1)], ids=str)
def test_every_picture_keeps_half_of_its_pixels_and_its_label(size: tuple[int, int], in_memory: IN_MEMORY) -> None:
    """With rounding to pixels too; the label's share is that of the pixels."""
    samples = samples_of(in_memory((9, 9)), {"cutmix": 20.0, "mixup": 0.5})
    many = Request(1, np.zeros(2000, dtype=int), np.arange(2000), 2000)
    mixing = _mixing(samples._drawn(many, np.full((2000, 2), 9), size), size)
    height, width = size
    left, top, right, bottom = mixing.patches.T
    assert (left >= 0).all() and (top >= 0).all() and (right <= width).all() and (bottom <= height).all()
    assert (left <= right).all() and (top <= bottom).all()
    own = mixing.blends * (1 - (right - left) * (bottom - top) / (height * width))
    torch.testing.assert_close(mixing.shares, own)
    assert own.min() >= 0.5 - 1e-6
    assert mixing.shares.dtype == torch.float32


# Cut by the training device


@pytest.mark.parametrize("augment", [None, RANDOM], ids=["evaluation", "training"])
def test_the_device_is_told_where_to_cut(augment: dict[str, Any] | None, in_memory: IN_MEMORY) -> None:
    """Rows count from the split's first; boxes and flips are those of the pictures that are cut here."""
    pictures = in_memory(*SIZES)
    here = samples_of(pictures, augment).make(request(4, 2, 0))
    there = samples_of(pictures, augment, first_row=100).make(request(4, 2, 0))
    assert there.images is None and here.crops is None
    assert there.crops.rows.tolist() == [104, 102, 100]
    assert torch.equal(there.colour, here.colour) and torch.equal(there.labels, here.labels)
    for image, index, box, (horizontal, vertical) in zip(
        here.images.numpy(), (4, 2, 0), there.crops.boxes.tolist(), there.crops.flips.tolist(), strict=True
    ):
        cut = resized(pictures[index], box, (12, 16))
        np.testing.assert_array_equal(image, cut[:: -1 if vertical else 1, :: -1 if horizontal else 1])
