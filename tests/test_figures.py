from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridnet import figures


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def _has_colour(pixels: np.ndarray, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(pixels - wanted).sum(axis=2) < 12).any())


def _history(num_epochs: int) -> list[dict[str, float]]:
    names = ("train_loss", "train_acc", "valid_loss", "valid_acc", "lr", "head_lr")
    return [{"epoch": n} | dict.fromkeys(names, 0.1 * n / num_epochs) for n in range(1, num_epochs + 1)]


@pytest.mark.parametrize("num_epochs", [1, 3, 40])
def test_the_curves_show_training_and_validation(tmp_path: Path, num_epochs: int) -> None:
    path = tmp_path / "training_plot.png"
    figures.plot_history(path, _history(num_epochs), best_epoch=1, title="hybrid")
    pixels = _pixels(path)
    assert pixels.shape[1] > pixels.shape[0]
    assert _has_colour(pixels, figures.TRAIN) and _has_colour(pixels, figures.VALID)


@pytest.mark.parametrize("num_classes", [2, 12, 45, 100])
def test_a_confusion_matrix_of_any_size_is_drawn(tmp_path: Path, num_classes: int) -> None:
    path = tmp_path / "confusion_matrix.png"
    counts = np.eye(num_classes, dtype=int) * 9
    counts[0] = 0  # a class without pictures must not divide by zero
    names = [f"a class with a long name {i}" for i in range(num_classes)]
    figures.plot_confusion(path, counts, classes=names, title="hybrid: 90.00% of 99")
    assert min(_pixels(path).shape[:2]) > 300


@pytest.mark.parametrize(("num_images", "shape"), [(1, (40, 60)), (3, (60, 40)), (40, (64, 64))])
def test_samples_are_shown_in_their_colours(tmp_path: Path, num_images: int, shape: tuple[int, int]) -> None:
    path = tmp_path / "samples.png"
    images = np.zeros((num_images, *shape, 3), dtype=np.uint8)
    images[..., 0] = 200
    figures.plot_samples(path, images, labels=["x"] * num_images, title="batch")
    assert _has_colour(_pixels(path), "#c80000")
