"""What a trained model's pictures go through: the pixels of validation, and numbers computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hybridnet import config
from hybridnet.data.decoded import Reduction
from hybridnet.data.preprocessing import Preprocessing, of_plain


def preprocessing(*, image_size: tuple[int, int] = (8, 8), center_crop: float = 1.0) -> Preprocessing:
    return Preprocessing(image_size=image_size, center_crop=center_crop, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))


@pytest.mark.parametrize("center_crop", [0.7, 1.0])
def test_pixels_are_those_of_validation(stripes: Path, center_crop: float) -> None:
    pair = [f"data.metadata={stripes / 'metadata.csv'}", f"data.label2id={stripes / 'label2id.json'}"]
    size = ["data.image_size=[20,24]", f"data.center_crop={center_crop}", "data.batch_size=9"]
    data = config.build(config.compose("train", ["data=metadata", *pair, *size]).data)
    data.setup()
    (batch,) = data.valid_batches()
    same = of_plain(data.preprocessing())
    images = np.stack([same.cropped(same.reduction.load(file)) for file in data.valid.files])
    assert np.array_equal(images, batch.images.numpy())
    assert torch.equal(same.normalized(batch.images), data.to_input(batch, torch.float32))


def test_it_says_what_it_does() -> None:
    told = "Preprocessing(image_size=[8, 16], center_crop=0.5, mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 1.0])"
    assert repr(preprocessing(image_size=(8, 16), center_crop=0.5)) == told


@pytest.mark.parametrize(
    ("size", "image_size", "center_crop", "box"),
    [
        ((40, 60), (8, 8), 1.0, (10, 0, 50, 40)),  # landscape: all of the height
        ((60, 40), (8, 8), 0.5, (10, 20, 30, 40)),  # portrait: half of the width
        ((40, 60), (8, 16), 1.0, (0, 5, 60, 35)),  # twice as wide as high
    ],
)
def test_the_box_is_in_the_middle(
    size: tuple[int, int], image_size: tuple[int, int], center_crop: float, box: tuple[int, ...]
) -> None:
    picture = np.zeros((*size, 3), dtype=np.uint8)
    assert preprocessing(image_size=image_size, center_crop=center_crop).box(picture) == box


def test_normalisation_by_hand() -> None:
    images = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(1, 2, 3, 3)  # (B, H, W, RGB)
    inputs = preprocessing().normalized(images)
    assert inputs.shape == (1, 3, 2, 3)
    assert torch.allclose(inputs[0, :, 1, 2], torch.tensor([1.0, -1.0, 0.2]))


def test_only_what_is_larger_than_the_crops_need_is_reduced() -> None:
    same = preprocessing(image_size=(8, 8), center_crop=0.5)  # a short side of 16
    picture = np.random.default_rng(0).integers(0, 255, (16, 30, 3), dtype=np.uint8)
    assert np.array_equal(same.reduced(picture), picture)
    assert same.reduced(np.zeros((64, 32, 3), dtype=np.uint8)).shape == (32, 16, 3)
    wide = preprocessing(image_size=(8, 24), center_crop=0.5)
    assert wide.reduction == Reduction(crop_side=24, short_side=48), "the longer side decides"
    assert wide.reduced(np.zeros((96, 192, 3), dtype=np.uint8)).shape == (48, 96, 3)


def test_plain_types_make_it_again() -> None:
    before = preprocessing(image_size=(8, 12), center_crop=0.9)
    assert of_plain(before.plain()).plain() == before.plain()
    assert before.with_size((16, 24)).plain() == before.plain() | {"image_size": [16, 24]}
    with pytest.raises(KeyError, match="mean"):
        of_plain({"image_size": [8, 8], "center_crop": 1.0, "std": [1, 1, 1]})
