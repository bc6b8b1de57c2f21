from __future__ import annotations

from pathlib import Path

import pytest
import torch

import hybridnet
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.inference.trained import TrainedModel, load_trained


@pytest.fixture(scope="session")
def plain(reference: Path) -> TrainedModel:
    """The model of an uninterrupted run of `tiny`: without attention blocks."""
    return load_trained(reference, extra_targets=["own_parts."])


@pytest.fixture(scope="session")
def hybrid() -> TrainedModel:
    """A small one of 12 classes with everything that can be explained; its zeros are drawn at random."""
    torch.manual_seed(0)
    overrides = ["model.stem=small", "model.heads=2", "model.size=lite"]
    network = hybridnet.create_model("hybrid", num_classes=12, overrides=overrides)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    preprocessing = Preprocessing(image_size=[24, 32], center_crop=0.9, mean=[0.5] * 3, std=[0.25] * 3)
    classes = [f"class {number}" for number in range(12)]
    return TrainedModel(network, model_config={}, classes=classes, preprocessing=preprocessing).eval()
