"""From uint8 pixels to the model's input, against float64 by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hybridnet.data.batch import Batch, Normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
B, H, W = 2, 5, 7


def batch_of(colour: np.ndarray | None = None) -> Batch:
    rng = np.random.default_rng(0)
    matrices = np.tile(np.eye(3, 4), (B, 1, 1)) if colour is None else colour
    return Batch(
        images=torch.from_numpy(rng.integers(0, 256, (B, H, W, 3)).astype(np.uint8)),
        colour=torch.from_numpy(matrices.astype(np.float32)),
        labels=torch.tensor([2, 0]),
    )


def by_hand(batch: Batch) -> Tensor:
    result = torch.empty(B, 3, H, W, dtype=torch.float64)
    for b, i, j in np.ndindex(B, H, W):
        rgb = [int(value) / 255 for value in batch.images[b, i, j]]
        for channel, row in enumerate(batch.colour[b].tolist()):
            value = row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2] + row[3]
            value = min(max(value, 0.0), 1.0)
            result[b, channel, i, j] = (value - MEAN[channel]) / STD[channel]
    return result


def test_equals_the_formula_without_a_colour_change() -> None:
    batch = batch_of()
    found = Normalize(MEAN, STD)(batch, torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), by_hand(batch), rtol=0, atol=1e-6)


def test_equals_the_formula_with_another_colour_change_for_each_picture() -> None:
    colour = np.random.default_rng(1).normal(0.2, 0.8, (B, 3, 4))
    batch = batch_of(colour)
    expected = by_hand(batch)
    ends = torch.tensor([[-m / s, (1 - m) / s] for m, s in zip(MEAN, STD, strict=True)], dtype=torch.float64)
    for end in range(2):
        assert torch.isclose(expected, ends[:, end].view(1, 3, 1, 1)).sum() > 9, "clamping must be seen at both ends"
    torch.testing.assert_close(Normalize(MEAN, STD)(batch, torch.float32).double(), expected, rtol=0, atol=2e-6)


def test_value_by_hand() -> None:
    images = torch.tensor([51, 102, 204], dtype=torch.uint8).view(1, 1, 1, 3)
    colour = torch.tensor([[[0.0, 1.0, 0.0, 0.1], [0.0, 0.0, 0.5, 0.0], [2.0, 0.0, 0.0, 0.0]]])
    found = Normalize((0.5, 0.4, 0.0), (0.25, 0.1, 2.0))(Batch(images, colour, torch.tensor([0])), torch.float32)
    # 0.4 + 0.1 -> (0.5 - 0.5) / 0.25;  0.8 / 2 -> (0.4 - 0.4) / 0.1;  2 · 0.2 -> 0.4 / 2
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0.0, 0.2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_type_and_memory(dtype: torch.dtype) -> None:
    batch = batch_of()
    pixels = batch.images.clone()
    found = Normalize(MEAN, STD)(batch, dtype)
    assert (found.shape, found.dtype) == ((B, 3, H, W), dtype)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), by_hand(batch), rtol=torch.finfo(dtype).eps, atol=1e-6)
    assert torch.equal(batch.images, pixels) and torch.equal(batch.colour, torch.eye(3, 4).expand(B, 3, 4))


def test_undo_gives_back_every_value() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    images = torch.stack([levels, levels.flip(0), levels.roll(100)], dim=-1).view(1, 8, 32, 3)
    batch = Batch(images, torch.eye(3, 4)[None], torch.tensor([0]))
    normalize = Normalize(MEAN, STD)
    found = normalize.undo(normalize(batch, torch.float32))
    assert found.dtype == torch.uint8
    assert torch.equal(found, images)


def test_undo_clamps() -> None:
    found = Normalize(MEAN, STD).undo(torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2))
    assert torch.equal(found, torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).expand(1, 1, 2, 3))


def test_length_and_copy() -> None:
    batch = batch_of()
    assert len(batch) == B
    copy = batch.to(torch.device("cpu"))
    assert torch.equal(copy.images, batch.images)
    assert torch.equal(copy.colour, batch.colour)
    assert torch.equal(copy.labels, batch.labels)


@pytest.mark.gpu
def test_gpu_equals_cpu() -> None:
    batch = batch_of(np.random.default_rng(1).normal(0.3, 0.6, (B, 3, 4)))
    pinned = batch.pin_memory()
    assert pinned.images.is_pinned() and pinned.colour.is_pinned() and pinned.labels.is_pinned()
    moved = pinned.to(torch.device("cuda"))
    assert {t.device.type for t in (moved.images, moved.colour, moved.labels)} == {"cuda"}
    normalize = Normalize(MEAN, STD)
    found = normalize(moved, torch.float32)
    assert found.is_cuda and found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.cpu().double(), by_hand(batch), rtol=0, atol=2e-6)
