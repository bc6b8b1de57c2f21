"""What the data tests share: small pictures, folders of them with a table, their store, and data as conf/ builds."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from hybridnet import config
from hybridnet.data import processes
from hybridnet.data.decoded import Reduction
from hybridnet.data.metadata import MetadataImages
from hybridnet.data.store import Store, open_store
from hybridnet.files import write_json
from tests.data.stores import REDUCTION, Noise, Open, untracked

LABELS = ("leaf", "root", "stem")


@pytest.fixture(scope="session")
def noise() -> Callable[..., np.ndarray]:
    """Random pixels (H, W, 3): no two pictures alike, none symmetric."""

    def make(height: int, width: int, *, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)

    return make


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture is enough for processes to read it."""
    monkeypatch.setattr(processes, "LEAST_ITEMS", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


class PicturesInMemory:
    """Decoded pictures, as samples want them."""

    def __init__(self, pixels: Sequence[np.ndarray]) -> None:
        self.pixels = pixels
        self.sizes = np.array([picture.shape[:2] for picture in pixels], dtype=np.int64)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.pixels[index]


@pytest.fixture(scope="session")
def in_memory(noise: Callable[..., np.ndarray]) -> Callable[..., PicturesInMemory]:
    """Pictures of noise with the given sizes (height, width)."""

    def make(*sizes: tuple[int, int]) -> PicturesInMemory:
        return PicturesInMemory([noise(*size, seed=number) for number, size in enumerate(sizes)])

    return make


@pytest.fixture
def write_pair(tmp_path: Path) -> Callable[..., Path]:
    """Writes metadata.csv from its lines, and label2id.json; returns their folder."""

    def write(lines: Sequence[str], labels: Sequence[str] = LABELS, *, heading: str = "path,label,split") -> Path:
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        (folder / "metadata.csv").write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")
        write_json(folder / "label2id.json", {label: index for index, label in enumerate(labels)})
        return folder

    return write


@pytest.fixture
def make_folder(write_pair: Callable[..., Path], noise: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Writes noise pictures whose labels take turns, training before validation, and the pair.

    There are three classes, or fewer where there are not as many training pictures.
    """

    def make(*, train: int = 14, valid: int = 5, height: int = 20, width: int = 30) -> Path:
        labels = LABELS[:train]
        rows = [
            (f"{number:02d}.png", labels[number % len(labels)], "train" if number < train else "valid")
            for number in range(train + valid)
        ]
        folder = write_pair([",".join(row) for row in rows], labels)
        for number, (name, _, _) in enumerate(rows):
            Image.fromarray(noise(height, width, seed=number)).save(folder / name)
        return folder

    return make


@pytest.fixture(scope="session")
def build() -> Callable[..., MetadataImages]:
    """The data of a folder with the defaults of conf/ and overrides as a user types them, ready to use."""

    @functools.cache  # a fifth of a second each time
    def compose(*groups: str) -> DictConfig:
        return config.compose("train", ["data=metadata", *groups])

    def make(folder: Path, *overrides: str) -> MetadataImages:
        groups = [override for override in overrides if "/" in override.partition("=")[0]]
        pair = [f"data.metadata={folder / 'metadata.csv'}", f"data.label2id={folder / 'label2id.json'}"]
        values = OmegaConf.from_dotlist(pair + [override for override in overrides if override not in groups])
        data = config.build(OmegaConf.merge(compose(*groups), values).data)
        data.setup()
        return data

    return make


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_in(cache: Path, tmp_path: Path) -> Open:
    """`open_store` with everything but the files given."""

    def call(files: Sequence[Path], reduction: Reduction = REDUCTION, **settings: Any) -> Store:
        default = {"cache_dir": cache, "table": tmp_path / "metadata.csv", "keep_pixels": True, "track": untracked}
        return open_store(files, reduction, **default | settings)

    return call


@pytest.fixture
def files(tmp_path: Path, noise: Noise) -> list[Path]:
    """Five pictures of different shapes, one of them a BMP in spite of its name."""
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.fromarray(noise(20 + 11 * number, 30 + 7 * number, seed=number)).save(
            path, "BMP" if number == 1 else "PNG"
        )
    return paths


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    done: list[Path] = []
    load = Reduction.load

    def recorded(self: Reduction, file: Path) -> np.ndarray:
        done.append(file)
        return load(self, file)

    monkeypatch.setattr(Reduction, "load", recorded)
    return done
