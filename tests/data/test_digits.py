"""scikit-learn's digits as files: written once, whole, and with the right pixels."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from hybridnet import config
from hybridnet.data.metadata import MetadataImages


def digits(folder: Path, *overrides: str) -> MetadataImages:
    pair = [f"data.metadata={folder / 'metadata.csv'}", f"data.label2id={folder / 'label2id.json'}"]
    return config.build(config.compose("train", ["data=digits", *pair, *overrides]).data)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after the first use."""
    folder = tmp_path_factory.mktemp("data") / "below" / "digits"
    digits(folder).setup()
    return folder


def test_pixels_and_labels(written: Path) -> None:
    rows, source = rows_of(written), load_digits()
    assert len(rows) == len(list(written.rglob("*.png"))) == 1797
    for row, pixels, label in zip(rows, source.images, source.target, strict=True):
        assert row["label"] == str(label) == Path(row["path"]).parent.name
        with Image.open(written / row["path"]) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (8, 8))
            np.testing.assert_allclose(np.asarray(image), pixels * 255 / 16, atol=0.5)


def test_labels_are_the_digits(written: Path) -> None:
    labels = json.loads((written / "label2id.json").read_text(encoding="utf-8"))
    assert labels == {str(digit): digit for digit in range(10)}


def test_every_digit_has_a_fifth_for_validation(written: Path) -> None:
    counts = Counter((row["label"], row["split"]) for row in rows_of(written))
    assert sum(n for (_, split), n in counts.items() if split == "valid") == 360
    for digit in map(str, range(10)):
        train, valid = counts[digit, "train"], counts[digit, "valid"]
        assert abs(valid - (train + valid) / 5) <= 1
    assert sum(counts.values()) == 1797 and {split for _, split in counts} == {"train", "valid"}


def test_split_does_not_depend_on_the_seed_of_the_run(written: Path) -> None:
    assert digits(written, "seed=7").source.state() == digits(written, "seed=8").source.state()


def test_what_is_trained_on(written: Path) -> None:
    data = digits(written)
    data.setup()
    assert (len(data.train), len(data.valid)) == (1437, 360)
    assert (data.left_out, data.num_leaked) == ([], 0), "no digit is another one's copy"
    assert next(data.valid_batches()).images.shape == (32, 48, 48, 3)
    assert data.classes == [str(digit) for digit in range(10)]


def test_files_below_the_folder(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == {"images", "label2id.json", "metadata.csv", "source.json"}
    assert written.stat().st_mode & 0o777 == 0o755
