from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hybridnet.data.loader import Loader
from hybridnet.data.loaders import make_loaders
from hybridnet.data.sizes import Sizes

MakeLoaders = Callable[..., tuple[Loader, Loader]]


@pytest.fixture
def made(in_memory: Callable[..., Any]) -> MakeLoaders:
    """Of five training and two validation pictures; the device without memory stands for a GPU."""

    def make(**changes: Any) -> tuple[Loader, Loader]:
        settings: dict[str, Any] = {
            "device": torch.device("cpu"),
            "is_resident": False,
            "center_crop": 1.0,
            "augment": object(),
            "seed": 7,
            "batch_size": 3,
            "num_workers": "auto",
            "pin_memory": False,
        }
        pictures = in_memory(*[(8, 6)] * 5), in_memory(*[(6, 8)] * 2)
        labels = np.arange(5), np.arange(2)
        return make_loaders(pictures, labels, Sizes((4, 5), early=[], num_epochs=1), **settings | changes)

    return make


@pytest.mark.parametrize(
    ("device", "batch_size", "expected"), [("cpu", 3, 3), ("meta", 3, 12), ("meta", 100, 256), ("meta", 300, 300)]
)
def test_validation_on_a_gpu_has_larger_batches(device: str, batch_size: int, expected: int, made: MakeLoaders) -> None:
    train, valid = made(device=torch.device(device), batch_size=batch_size)
    assert (train.batch_size, valid.batch_size) == (batch_size, expected)
    assert train.is_ahead == valid.is_ahead == (device != "cpu")


@pytest.mark.parametrize(("device", "expected"), [("cuda", True), ("cpu", False), ("mps", False)])
def test_batches_are_pinned_for_the_gpu_that_trains(device: str, expected: bool, made: MakeLoaders) -> None:
    """The machine may have one that does not."""
    loaders = made(device=torch.device(device), pin_memory=True)
    assert [loader.pin_memory for loader in loaders] == [expected] * 2
    assert not any(loader.pin_memory for loader in made(device=torch.device(device)))


def test_only_training_pictures_are_changed(made: MakeLoaders) -> None:
    augment = object()
    train, valid = made(augment=augment)
    assert (train.samples.augment, valid.samples.augment) == (augment, None)
    assert (len(train.samples.labels), len(valid.samples.labels)) == (5, 2)
    assert train.samples.seed == valid.samples.seed == 7


def test_resident_pictures_are_counted_through_both_splits(made: MakeLoaders) -> None:
    assert [loader.samples.first_row for loader in made()] == [None, None]
    assert [loader.samples.first_row for loader in made(is_resident=True)] == [0, 5]


def test_resident_pictures_need_no_workers_unless_they_are_asked_for(made: MakeLoaders) -> None:
    asked = [("auto", False, "auto"), ("auto", True, 0), (2, True, 2)]
    for num_workers, is_resident, expected in asked:
        for loader in made(num_workers=num_workers, is_resident=is_resident):
            assert loader.num_workers == expected
