"""CIFAR-10 from folders of pictures, and from torchvision's archive."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hybridnet import config
from hybridnet.data.image import load_image
from hybridnet.data.labels import read_label2id
from hybridnet.data.metadata import MetadataImages
from hybridnet.data.table import read_metadata
from hybridnet.errors import InputError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3)).astype(np.uint8)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A local copy with five training and two test pictures of each class."""
    root = tmp_path / "copy"
    for number in range(70):
        split, label = ("train" if number < 50 else "test"), CLASSES[number % 10]
        (root / split / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(root / split / label / f"{number}.png")
    return root


def cifar10(folder: Path, *overrides: str) -> MetadataImages:
    pair = [f"data.metadata={folder / 'metadata.csv'}", f"data.label2id={folder / 'label2id.json'}"]
    return config.build(config.compose("train", ["data=cifar10", *pair, *overrides]).data)


def splits(folder: Path) -> dict[str, Counter[int]]:
    found = read_metadata(folder / "metadata.csv", read_label2id(folder / "label2id.json"))
    return {name: Counter(split.labels.tolist()) for name, split in found.items()}


@pytest.mark.parametrize("root", ["absolute", "relative"])
def test_local_copy(root: str, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = cifar10(tmp_path / "c", f"data.root={copy if root == 'absolute' else copy.name}", "data.valid=0.2")
    data.setup()
    assert data.classes == CLASSES
    every = {name: dict.fromkeys(range(10), count) for name, count in (("train", 4), ("valid", 1), ("test", 2))}
    assert splits(tmp_path / "c") == every
    assert all(file.is_relative_to(copy / "train") for file in (*data.train.files, *data.valid.files))
    assert next(data.valid_batches()).images.shape == (10, 32, 32, 3)
    assert not list((tmp_path / "c").rglob("*.png")), "pictures that are there already are not copied"


def test_hidden_files_and_folders_of_a_copy_are_no_pictures(copy: Path, tmp_path: Path) -> None:
    """A Mac, or a file browser, leaves them where it was."""
    for name in ("train/cat/.DS_Store", "test/cat/._51.png", "train/.thumbnails/0.png"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"junk")
    cifar10(tmp_path / "c", f"data.root={copy}", "data.valid=0.2").setup()
    every = {name: dict.fromkeys(range(10), count) for name, count in (("train", 4), ("valid", 1), ("test", 2))}
    assert splits(tmp_path / "c") == every


def test_official_test_pictures_as_validation(copy: Path, tmp_path: Path) -> None:
    cifar10(tmp_path / "c", f"data.root={copy}", "data.valid=0").setup()
    every = {name: dict.fromkeys(range(10), count) for name, count in (("train", 5), ("valid", 2), ("test", 0))}
    assert splits(tmp_path / "c") == every | {"test": {}}


class Archive:
    """What torchvision.datasets.CIFAR10 gives."""

    calls: list[SimpleNamespace] = []  # noqa: RUF012

    def __init__(self, root: str, *, train: bool, download: bool) -> None:
        self.calls.append(SimpleNamespace(root=root, train=train, download=download))
        numbers = range(50) if train else range(50, 70)
        self.data = np.stack([pixels(number) for number in numbers])
        self.targets = [number % 10 for number in numbers]
        self.classes = CLASSES


@pytest.mark.parametrize("root", ["null", "here"])
def test_archive(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Archive)
    monkeypatch.setattr(Archive, "calls", [])
    data = cifar10(tmp_path / "c", f"data.root={root}", "data.valid=0.2")
    data.setup()
    assert [call.download for call in Archive.calls] == [root == "null"] * 2
    assert root == "null" or [call.root for call in Archive.calls] == [root] * 2
    numbers = sorted(int(file.stem) for file in (*data.train.files, *data.valid.files))
    assert numbers == list(range(50))
    for file in data.train.files:
        np.testing.assert_array_equal(load_image(file), pixels(int(file.stem)))
        assert file.parent.name == CLASSES[int(file.stem) % 10]


@pytest.mark.parametrize("root", ["archive", "copy"])
def test_another_validation_share_has_its_own_table(
    root: str, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of earlier runs stays, nothing is downloaded twice, and the division is that of a first table."""
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Archive)
    monkeypatch.setattr(Archive, "calls", [])
    chosen = "data.root=null" if root == "archive" else f"data.root={copy}"
    cifar10(tmp_path / "c", chosen, "data.valid=0.2").setup()
    first = (tmp_path / "c" / "metadata.csv").read_bytes()
    for valid in (0, 0.4, 0.2):  # 0.4 extends the table in which the test pictures are the validation
        data, fresh = (cifar10(tmp_path / name, chosen, f"data.valid={valid}") for name in ("c", f"fresh_{valid}"))
        data.setup()
        num_calls = len(Archive.calls)
        fresh.setup()
        del Archive.calls[num_calls:]
        assert data.fingerprint() == fresh.fingerprint()
        assert [file.name for file in data.train.files] == [file.name for file in fresh.train.files]
    assert (tmp_path / "c" / "metadata.csv").read_bytes() == first
    assert sorted(path.name for path in (tmp_path / "c").glob("c*_*")) == ["cifar10_2", "cifar10_3"]
    assert len(Archive.calls) == (2 if root == "archive" else 0)
    assert len(list((tmp_path / "c").rglob("*.png"))) == (70 if root == "archive" else 0)


def test_no_archive_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Dataset not found or corrupted.")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", fail)
    with pytest.raises(InputError, match=r"data\.root=null: Dataset not found.*\nhint: data\.root=<folder with train/"):
        cifar10(tmp_path / "c").setup()
    assert not (tmp_path / "c").exists()


def test_folder_without_all_classes(copy: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (copy / split / "ship").rename(copy / split / "truck" / "ship")
    with pytest.raises(InputError, match="9 classes with pictures, expected 10"):
        cifar10(tmp_path / "c", f"data.root={copy}").setup()
