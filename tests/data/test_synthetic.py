"""Random pictures for measuring speed."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from hybridnet import config
from hybridnet.data.image import load_image, read_header
from hybridnet.data.metadata import MetadataImages
from hybridnet.data.synthetic import Synthetic

FEW = ["data.num_train=9", "data.num_valid=4", "data.num_classes=3", "data.picture_size=[30,42]", "data.image_size=16"]


def synthetic(folder: Path, *overrides: str) -> MetadataImages:
    pair = [f"data.metadata={folder / 'metadata.csv'}", f"data.label2id={folder / 'label2id.json'}"]
    data = config.build(config.compose("train", ["data=synthetic", *pair, *FEW, *overrides]).data)
    data.setup()
    return data


def test_numbers_and_sizes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = synthetic(tmp_path / "s")
    assert "accuracy means nothing" in caplog.text
    assert (len(data.train), len(data.valid), data.classes) == (9, 4, ["0", "1", "2"])
    assert np.bincount(data.train.labels).tolist() == [3, 3, 3]
    for file in (*data.train.files, *data.valid.files):
        assert read_header(file) == (42, 30, "RGB", "JPEG")
    pixels = [load_image(file).tobytes() for file in data.train.files]
    assert len(set(pixels)) == 9 and data.num_leaked == 0
    assert load_image(data.train.files[0]).std() > 20, "neither flat nor black"


def test_other_settings_make_other_pictures(tmp_path: Path) -> None:
    assert len(synthetic(tmp_path / "s").train) == 9
    assert len(synthetic(tmp_path / "s", "data.num_train=12").train) == 12


def test_size_is_that_of_a_photo(tmp_path: Path) -> None:
    """A JPEG of plain noise would have 300 kB, and would take three times as long to decode."""
    data = synthetic(tmp_path / "s", "data.picture_size=[480,640]")
    sizes = [file.stat().st_size for file in data.train.files]
    assert 30_000 < np.mean(sizes) < 100_000


def test_every_class_needs_a_picture() -> None:
    with pytest.raises(ValueError, match=r"num_train \(2\) must be at least num_classes \(3\)"):
        Synthetic(num_train=2, num_valid=1, num_classes=3, picture_size=(30, 42))
