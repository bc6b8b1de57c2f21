"""scikit-learn's digits as files: written once, whole, and with the right pixels."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from hybridnet import config
from hybridnet.data import digits as module
from hybridnet.data.digits import Digits
from hybridnet.errors import InputError


def digits(folder: Path, *overrides: str) -> Digits:
    pair = [f"data.metadata={folder / 'metadata.csv'}", f"data.label2id={folder / 'label2id.json'}"]
    return config.build(config.compose("train", ["data=digits", *pair, *overrides]).data)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def times(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


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


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only 60 digits: enough where the pixels do not matter."""
    everything = load_digits()
    first = Bunch(images=everything.images[:60], target=everything.target[:60], target_names=everything.target_names)
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: first)


def test_split_does_not_depend_on_the_seed_of_the_run(few: None, tmp_path: Path) -> None:
    for seed in (7, 8):
        digits(tmp_path / str(seed), f"seed={seed}").setup()
    assert (tmp_path / "7" / "metadata.csv").read_bytes() == (tmp_path / "8" / "metadata.csv").read_bytes()


def test_second_use_writes_nothing(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "write_digits", None)  # not even to throw it away again
    before = times(written)
    data = digits(written)
    data.setup()
    assert times(written) == before
    assert (len(data.train), len(data.valid)) == (1437, 360)
    assert next(data.valid_batches()).images.shape == (32, 48, 48, 3)
    assert data.classes == [str(digit) for digit in range(10)]


def test_nothing_but_the_folder_is_left(written: Path) -> None:
    assert [path.name for path in written.parent.iterdir()] == ["digits"]
    assert {path.name for path in written.iterdir()} == {"images", "label2id.json", "metadata.csv"}
    assert written.stat().st_mode & 0o777 == 0o755


def after_writing(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen when everything is written and only the renaming is left."""
    write = module.write_json

    def write_then(path: Path, content: Any) -> None:
        write(path, content)
        happens()

    monkeypatch.setattr(module, "write_json", write_then)


def test_another_process_is_faster(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "digits", tmp_path / "elsewhere"
    digits(elsewhere).setup()
    theirs = {}

    def other_process() -> None:
        elsewhere.rename(folder)
        theirs.update(times(folder))

    after_writing(monkeypatch, other_process)
    data = digits(folder)
    data.setup()
    assert len(data.train) == 48
    assert times(folder) == theirs
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_failure_leaves_nothing(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no space left on device")

    after_writing(monkeypatch, fail)
    with pytest.raises(OSError, match="no space left"):
        digits(tmp_path / "digits").setup()
    assert list(tmp_path.iterdir()) == []


def test_half_a_pair_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("path,label,split\n")
    with pytest.raises(InputError, match=r"label2id\.json: no such file"):
        digits(tmp_path).setup()
    assert [path.name for path in tmp_path.iterdir()] == ["metadata.csv"]


def test_folder_in_use_is_named(few: None, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        InputError, match=rf"in {tmp_path}: the digits cannot be written there .*\nhint: .*data\.metadata="
    ):
        digits(tmp_path).setup()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_pair_in_two_folders_is_not_written(tmp_path: Path) -> None:
    data = digits(tmp_path / "a", f"data.label2id={tmp_path / 'b' / 'label2id.json'}")
    with pytest.raises(InputError, match="no such file"):
        data.setup()
    assert list(tmp_path.iterdir()) == []
