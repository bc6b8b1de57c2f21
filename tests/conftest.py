from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybridnet.files import write_json

ROOT = Path(__file__).parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


# The tests' tensors are small: a second thread costs more than it gains, and fights with whatever else runs.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Stores of decoded pictures go to the session's own folder, never the user's; of its subprocesses as well."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def root() -> Path:
    """The top level of the project."""
    return ROOT


@pytest.fixture
def command(tmp_path: Path) -> Run:
    """Runs `python <arguments>` in an empty folder, as a user types it; `train.py` is the project's."""

    def run(*arguments: str, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
        words = [str(ROOT / word) if word == "train.py" else word for word in arguments]
        inherited = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=inherited | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """A folder with metadata.csv and label2id.json: 24 training and 9 validation pictures of three kinds of stripes.

    Horizontal, vertical or none, 36×28 pixels on random patches: learned in a few steps, and not by colour; no two
    are copies of each other.
    """
    folder = tmp_path / "stripes"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,label,split"]
    for number in range(33):
        label = ("horizontal", "none", "vertical")[number % 3]
        pixels = rng.integers(40, 160, (4, 4, 3)).repeat(7, axis=0).repeat(9, axis=1)
        if label == "horizontal":
            pixels[::4] = 250
        if label == "vertical":
            pixels[:, ::4] = 250
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{label},{'train' if number < 24 else 'valid'}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    write_json(folder / "label2id.json", {"horizontal": 0, "none": 1, "vertical": 2})
    return folder


@pytest.fixture
def small(stripes: Path) -> list[str]:
    """Overrides for an experiment that takes a second or two."""
    return [
        "data=metadata",
        f"data.metadata={stripes / 'metadata.csv'}",
        f"data.label2id={stripes / 'label2id.json'}",
        "data.image_size=[40,48]",
        "data.batch_size=6",
        "data.augment.horizontal_flip=0",
        "model.size=lite",
        "trainer.epochs=2",
    ]
