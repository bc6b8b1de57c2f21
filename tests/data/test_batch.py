"""From uint8 pixels to the model's input: colour and scale against float64 by hand, rotation, and mixing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hybridnet.data.batch import Batch, Crops, Mixing, Normalize, erased, mixed, model_input, rotated, shifted

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
B, H, W = 2, 5, 7
EYE = torch.eye(3, 4)


def pixels(*shape: int, seed: int = 0) -> Tensor:
    """Random bytes (…, 3)."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8))


def colours(*, spread: float = 0.8, num: int = B) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(0.2, spread, (num, 3, 4)).astype(np.float32))


def complete() -> Batch:
    """A batch with something in every field."""
    shares = torch.tensor([0.75, 1.0])
    mixing = Mixing(torch.tensor([1.0, 0.6]), torch.tensor([[1, 0, 3, 2], [0, 0, 0, 0]]), shares)
    crops = Crops(
        torch.tensor([4, 1]), torch.tensor([[0, 0, 9, 9], [2, 3, 4, 5]]), torch.eye(2, dtype=torch.bool), (H, W)
    )
    moves = {"angles": torch.tensor([10.0, -20.0]), "shifts": torch.tensor([[1, 0], [-2, 3]])}
    moves["holes"] = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0]])
    return Batch(pixels(B, H, W), colours(), torch.tensor([2, 0]), 2, **moves, mixing=mixing, crops=crops)


def tensors(part: Batch | Mixing | Crops, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a batch with its name."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            yield name + field.name, value
        elif dataclasses.is_dataclass(value):
            yield from tensors(value, f"{field.name}.")


# Colour and scale


def by_hand(images: Tensor, colour: Tensor) -> Tensor:
    b, h, w, _ = images.shape
    result = torch.empty(b, 3, h, w, dtype=torch.float64)
    for n, i, j in np.ndindex(b, h, w):
        rgb = [int(value) / 255 for value in images[n, i, j]]
        for channel, row in enumerate(colour[n].tolist()):
            value = row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2] + row[3]
            value = min(max(value, 0.0), 1.0)
            result[n, channel, i, j] = (value - MEAN[channel]) / STD[channel]
    return result


# Eight pixels are changed by one row of the product where their number is a multiple of it: 35, 12, 10 and 1 are not.
SHAPES = [(5, 7), (8, 3), (4, 6), (4, 3), (2, 5), (1, 1), (16, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_formula_without_a_colour_change(shape: tuple[int, int]) -> None:
    images = pixels(B, *shape)
    found = Normalize(MEAN, STD)(images, EYE.expand(B, 3, 4), torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), by_hand(images, EYE.expand(B, 3, 4)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_formula_with_another_colour_change_for_each_picture(shape: tuple[int, int]) -> None:
    images, colour = pixels(B, *shape), colours()
    found = Normalize(MEAN, STD)(images, colour, torch.float32)
    torch.testing.assert_close(found.double(), by_hand(images, colour), rtol=0, atol=3e-6)


def test_colours_are_clamped_at_both_ends() -> None:
    """Or the comparisons above would not see it."""
    expected = by_hand(pixels(B, H, W), colours())
    for end in (0, 1):
        values = torch.tensor([(end - m) / s for m, s in zip(MEAN, STD, strict=True)], dtype=torch.float64)
        assert torch.isclose(expected, values.view(1, 3, 1, 1)).sum() > 9


def test_value_by_hand() -> None:
    images = torch.tensor([51, 102, 204], dtype=torch.uint8).view(1, 1, 1, 3)
    colour = torch.tensor([[[0.0, 1.0, 0.0, 0.1], [0.0, 0.0, 0.5, 0.0], [2.0, 0.0, 0.0, 0.0]]])
    found = Normalize((0.5, 0.4, 0.0), (0.25, 0.1, 2.0))(images, colour, torch.float32)
    # 0.4 + 0.1 -> (0.5 - 0.5) / 0.25;  0.8 / 2 -> (0.4 - 0.4) / 0.1;  2 · 0.2 -> 0.4 / 2
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0.0, 0.2]), rtol=0, atol=1e-6)


# Largest error in grey levels: bf16 has 8 bits, for the factor, the summand and the result; fp16 has 11.
LEVELS = {torch.float32: 1e-3, torch.float16: 0.2, torch.bfloat16: 1.4}


@pytest.mark.parametrize("shape", [(5, 7), (8, 16)], ids=str)
@pytest.mark.parametrize("dtype", LEVELS, ids=str)
def test_precision_and_memory(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    images, colour = pixels(B, *shape), EYE.repeat(B, 1, 1)
    before = images.clone()
    found = Normalize(MEAN, STD)(images, colour, dtype)
    assert (found.shape, found.dtype) == ((B, 3, *shape), dtype)
    assert found.is_contiguous(memory_format=torch.channels_last)
    error = (found.double() - by_hand(images, colour)).abs() * torch.tensor(STD).view(3, 1, 1) * 255
    assert error.max() < LEVELS[dtype]
    assert error.mean() < LEVELS[dtype] / 3
    assert torch.equal(images, before) and torch.equal(colour, EYE.expand(B, 3, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_colour_changes_in_half_precision(dtype: torch.dtype) -> None:
    """The factors are rounded too: a level more."""
    images = pixels(B, 8, 16)
    colour = EYE + colours(spread=0.1) - 0.2
    found = Normalize(MEAN, STD)(images, colour, dtype)
    error = (found.double() - by_hand(images, colour)).abs() * torch.tensor(STD).view(3, 1, 1) * 255
    assert error.max() < 1 + 2 * LEVELS[dtype] and error.mean() < LEVELS[dtype] / 2


def test_undo_gives_back_every_value() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    images = torch.stack([levels, levels.flip(0), levels.roll(100)], dim=-1).view(1, 8, 32, 3)
    normalize = Normalize(MEAN, STD)
    found = normalize.undo(normalize(images, EYE[None], torch.float32))
    assert found.dtype == torch.uint8
    assert torch.equal(found, images)


def test_undo_clamps() -> None:
    found = Normalize(MEAN, STD).undo(torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2))
    assert torch.equal(found, torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).expand(1, 1, 2, 3))


# Rotation


def smooth(height: int, width: int) -> Tensor:
    """Waves of three directions, one for each colour: nothing changes fast, and nothing is symmetric."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(0.11 * x + 0.05 * y), np.sin(0.07 * y - 0.13 * x + 1), np.cos(0.15 * y + 0.02 * x)]
    return torch.from_numpy((127.5 + 120 * np.stack(waves, axis=-1)).round().astype(np.uint8))


def test_no_angle_changes_nothing() -> None:
    images = pixels(3, 11, 17)
    assert torch.equal(rotated(images, torch.zeros(3)), images)


@pytest.mark.parametrize("quarters", [-1, 1, 2, 3])
def test_quarter_turns_of_a_square(quarters: int) -> None:
    images = pixels(2, 12, 12)
    found = rotated(images, torch.full((2,), 90.0 * quarters))
    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    assert (found.int() - images.rot90(quarters, (1, 2)).int()).abs().max() <= 1


@pytest.mark.parametrize("shape", [(60, 90), (90, 61)], ids=str)
@pytest.mark.parametrize("angle", [-25.0, 10.0, 73.0])
def test_rotation_is_pillows(angle: float, shape: tuple[int, int]) -> None:
    """Where Pillow has a source for every pixel; it turns counter-clockwise too."""
    picture = smooth(*shape)
    found = rotated(picture[None], torch.tensor([angle]))[0].numpy().astype(int)
    turn = {"angle": angle, "resample": Image.Resampling.BILINEAR}
    expected = np.asarray(Image.fromarray(picture.numpy()).rotate(**turn)).astype(int)
    inside = np.asarray(Image.new("L", shape[::-1], 255).rotate(**turn)) == 255
    assert inside.mean() > 0.5
    assert np.abs(found - expected)[inside].max() <= 1


def test_a_disc_stays_a_disc() -> None:
    """A picture that is not square must not shear."""
    y, x = np.mgrid[:40, :100]
    radius = np.hypot(y - 19.5, x - 49.5)
    disc = (255 * (2 - radius / 8).clip(0, 1)).astype(np.uint8)  # soft from 8 to 16 pixels
    picture = torch.from_numpy(np.repeat(disc[..., None], 3, axis=2))
    found = rotated(picture.expand(4, 40, 100, 3), torch.tensor([20.0, 45.0, 90.0, 137.0]))
    near = torch.from_numpy(radius < 24)  # beyond, the disc is seen again by reflection
    assert (found.int() - picture.int()).abs()[:, near].max() <= 16, "half a pixel of the soft edge"


def test_corners_are_filled_by_reflection() -> None:
    """All columns of one colour: whatever is reflected has it too."""
    picture = torch.full((1, 9, 20, 3), 200, dtype=torch.uint8)
    assert (rotated(picture, torch.tensor([33.0])) == 200).all()


def test_each_picture_has_its_own_angle() -> None:
    images, angles = pixels(3, 11, 17), torch.tensor([30.0, 0.0, -75.0])
    together = rotated(images, angles)
    for number in range(3):
        alone = rotated(images[number : number + 1], angles[number : number + 1])
        assert torch.equal(together[number : number + 1], alone)


# Shift


def test_shift_by_hand() -> None:
    """Two columns to the right and a row up; three to the left and two down; three down."""
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    picture = torch.stack([rows, columns, rows + columns], dim=2).to(torch.uint8)
    found = shifted(picture.expand(3, 3, 4, 3), torch.tensor([[2, -1], [-3, 2], [0, 3]]))
    columns, rows = [[1, 0, 0, 1], [3, 3, 2, 1], [0, 1, 2, 3]], [[1, 2, 2], [1, 0, 0], [2, 1, 0]]
    assert found[:, 0, :, 1].tolist() == columns
    assert found[:, :, 0, 0].tolist() == rows
    assert torch.equal(found[..., 2], found[..., 0] + found[..., 1])


def test_a_shift_by_the_whole_picture_is_its_mirror_image() -> None:
    images = pixels(2, 5, 7)
    found = shifted(images, torch.tensor([[7, 0], [0, -5]]))
    assert torch.equal(found, torch.stack([images[0].flip(1), images[1].flip(0)]))


# Mixing


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_erasing_by_hand(dtype: torch.dtype) -> None:
    """Columns 1 and 2 of row 0 of the first picture get the mean, the second one loses nothing, the third one all."""
    images = torch.randn(3, 3, 2, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    found = erased(images, torch.tensor([[1, 0, 3, 1], NO_PATCH, [0, 0, 4, 2]]))
    expected = before.clone()
    expected[0, :, 0, 1:3] = 0
    expected[2] = 0
    assert torch.equal(found, expected) and torch.equal(images, before)
    assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)


def mixing(blends: list[float], patches: list[list[int]]) -> Mixing:
    return Mixing(torch.tensor(blends), torch.tensor(patches), torch.ones(len(blends)))


NO_PATCH = [0, 0, 0, 0]


def test_mixup_by_hand() -> None:
    """0.75 · 8 + 0.25 · 4, and its partner 1 · 4 + 0 · 8."""
    images = torch.tensor([8.0, 4.0]).view(2, 1, 1, 1).expand(2, 3, 2, 3)
    found = mixed(images, mixing([0.75, 1.0], [NO_PATCH, NO_PATCH]))
    assert found.tolist() == torch.tensor([7.0, 4.0]).view(2, 1, 1, 1).expand(2, 3, 2, 3).tolist()


def test_cutmix_by_hand() -> None:
    """Columns 1 and 2 of row 0 are the partner's; the partner keeps all of its own."""
    images = torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4)
    found = mixed(images, mixing([1.0, 1.0], [[1, 0, 3, 1], NO_PATCH]))
    expected = images.clone()
    expected[0, :, 0, 1:3] = images[1, :, 0, 1:3]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mixing_equals_a_loop_over_pixels(dtype: torch.dtype) -> None:
    num, height, width = 5, 4, 6
    images = torch.randn(num, 3, height, width).to(dtype).contiguous(memory_format=torch.channels_last)
    plan = mixing([0.5, 1.0, 0.75, 1.0, 1.0], [NO_PATCH, [2, 1, 6, 4], NO_PATCH, [0, 0, 1, 4], [1, 1, 2, 3]])
    found = mixed(images, plan)
    assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
    for b, y, x in np.ndindex(num, height, width):
        left, top, right, bottom = plan.patches[b].tolist()
        own = 0.0 if left <= x < right and top <= y < bottom else plan.blends[b].item()
        expected = own * images[b, :, y, x].double() + (1 - own) * images[num - 1 - b, :, y, x].double()
        error = 2 * torch.finfo(dtype).eps
        torch.testing.assert_close(found[b, :, y, x].double(), expected, rtol=error, atol=error)


def test_the_middle_picture_of_an_odd_batch_is_its_own_partner() -> None:
    images = torch.randn(3, 3, 4, 6)
    found = mixed(images, mixing([0.5, 0.6, 0.7], [[1, 1, 3, 3]] * 3))
    assert torch.equal(found[1], images[1])
    assert not torch.equal(found[0], images[0]) and not torch.equal(found[2], images[2])


# The batch


def test_targets_without_mixing() -> None:
    found = Batch(None, colours(), torch.tensor([2, 0]), num_images=2).targets(4)
    assert found.dtype == torch.float32
    assert found.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


def test_targets_with_mixing() -> None:
    """Each picture's partner is the one at the same place from the end."""
    labels = torch.tensor([2, 0, 1, 1, 3])
    plan = Mixing(torch.ones(5), torch.zeros(5, 4).long(), torch.tensor([0.75, 1.0, 0.5, 0.625, 0.5]))
    found = Batch(None, colours(num=5), labels, num_images=5, mixing=plan).targets(4)
    assert found.tolist() == [
        [0, 0, 0.75, 0.25],
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0.375, 0.625, 0, 0],
        [0, 0, 0.5, 0.5],
    ]
    torch.testing.assert_close(found.sum(dim=1), torch.ones(5))


# All changes


def test_what_a_batch_asks_for_is_done_in_this_order() -> None:
    batch, normalize = complete(), Normalize(MEAN, STD)
    turned = rotated(shifted(batch.images, batch.shifts), batch.angles)
    wanted = mixed(erased(normalize(turned, batch.colour, torch.float32), batch.holes), batch.mixing)
    found = model_input(batch.images, batch, normalize=normalize, dtype=torch.float32)
    assert found.shape == (B, 3, H, W) and torch.equal(found, wanted)


@pytest.mark.parametrize("name", ["shifts", "angles", "holes", "mixing"])
def test_what_a_batch_does_not_ask_for_is_not_done(name: str) -> None:
    batch, normalize = complete(), Normalize(MEAN, STD)
    everything, plain = (
        model_input(some.images, some, normalize=normalize, dtype=torch.float32)
        for some in (batch, Batch(batch.images, batch.colour, batch.labels, B))
    )
    less = dataclasses.replace(batch, **{name: None})
    assert not torch.equal(model_input(less.images, less, normalize=normalize, dtype=torch.float32), everything)
    torch.testing.assert_close(plain, normalize(batch.images, batch.colour, torch.float32))


def test_a_moved_batch_has_every_field() -> None:
    batch = complete()
    found = batch.to(torch.device("cpu"))
    assert len(found) == len(batch) == B
    before, after = dict(tensors(batch)), dict(tensors(found))
    assert len(before) == 12 and set(after) == set(before)
    assert found.crops.size == (H, W)
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype and torch.equal(after[name], tensor), name


def test_to_moves_every_tensor() -> None:
    """The device without memory shows which tensors went there."""
    found = dict(tensors(complete().to(torch.device("meta"))))
    assert len(found) == 12
    assert {name for name, tensor in found.items() if tensor.device.type != "meta"} == set()


@pytest.mark.parametrize(("device", "expected"), [("cuda", True), ("mps", False), ("cpu", False)])
def test_only_a_copy_to_cuda_is_not_waited_for(device: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is given away as soon as the next one is asked for, and MPS keeps nothing of it."""
    asked = []
    monkeypatch.setattr(Tensor, "to", lambda tensor, where, *, non_blocking: asked.append(non_blocking) or tensor)
    complete().to(torch.device(device))
    assert asked == [expected] * 12


def test_pin_memory_takes_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU nothing can be pinned: a copy stands for it."""
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    batch = complete()
    found = dict(tensors(batch.pin_memory()))
    assert len(pinned) == len(found) == 12
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors(batch))


def test_a_batch_is_its_tensors_and_its_layout() -> None:
    batch, other = complete(), complete()
    for tensor in other.tensors:
        tensor.zero_()
    assert len(batch.tensors) == 12 and hash(batch.layout) == hash(other.layout) and batch.layout == other.layout
    again = other.with_tensors(batch.tensors)
    assert [*map(id, again.tensors)] == [*map(id, batch.tensors)] and again.layout == batch.layout
    assert (again.num_images, again.crops.size) == (2, (H, W))


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: setattr(batch, "mixing", None),
        lambda batch: setattr(batch, "shifts", None),
        lambda batch: setattr(batch, "holes", None),
        lambda batch: setattr(batch, "crops", None),
        lambda batch: setattr(batch.crops, "size", (H + 1, W)),
    ],
)
def test_what_changes_the_work_changes_the_layout(change: Callable[[Batch], None]) -> None:
    batch = complete()
    change(batch)
    assert batch.layout != complete().layout


@pytest.mark.parametrize("mixing", [None, Mixing(torch.ones(3), torch.zeros(3, 4), torch.tensor([0.75, 1.0, 0.5]))])
def test_targets_by_hand(mixing: Mixing | None) -> None:
    batch = Batch(None, colours()[:3], torch.tensor([1, 0, 3]), num_images=3, mixing=mixing)
    alone, shared = torch.eye(4)[[1, 0, 3]].tolist(), [[0, 0.75, 0, 0.25], [1, 0, 0, 0], [0, 0.5, 0, 0.5]]
    assert batch.targets(4).tolist() == (shared if mixing else alone)


def test_what_is_absent_stays_absent() -> None:
    batch = Batch(None, colours(), torch.tensor([2, 0]), num_images=2).to(torch.device("cpu"))
    assert [batch.images, batch.angles, batch.shifts, batch.holes, batch.mixing, batch.crops] == [None] * 6


@pytest.mark.gpu
def test_gpu_equals_cpu() -> None:
    batch = complete()
    pinned = batch.pin_memory()
    assert all(tensor.is_pinned() for _, tensor in tensors(pinned))
    moved = pinned.to(torch.device("cuda"))
    assert {tensor.device.type for _, tensor in tensors(moved)} == {"cuda"}
    normalize = Normalize(MEAN, STD)
    found = normalize(moved.images, moved.colour, torch.float32)
    assert found.is_cuda and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.cpu().double(), by_hand(batch.images, batch.colour), rtol=0, atol=3e-6)
    turned = rotated(moved.images, moved.angles).cpu().int() - rotated(batch.images, batch.angles).int()
    assert turned.abs().max() <= 1
    assert torch.equal(shifted(moved.images, moved.shifts).cpu(), shifted(batch.images, batch.shifts))
    assert torch.equal(erased(found, moved.holes).cpu(), erased(found.cpu(), batch.holes))
    torch.testing.assert_close(mixed(found, moved.mixing).cpu(), mixed(found.cpu(), batch.mixing))
    torch.testing.assert_close(moved.targets(4).cpu(), batch.targets(4))
