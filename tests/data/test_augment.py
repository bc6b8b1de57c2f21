"""Random crops, flips and colour changes: their limits over many draws, and their formulas by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hybridnet import config
from hybridnet.data.augment import Augment, centre_box

DRAWS = 2000
PRESETS = sorted((Path(__file__).parents[2] / "conf" / "data" / "augment").glob("*.yaml"))


def augment(**settings: Any) -> Augment:
    """With neutral values for what is not given."""
    colour = dict.fromkeys(("brightness", "contrast", "saturation"), 0.0)
    flips = {"horizontal_flip": 0.0, "vertical_flip": 0.0}
    return Augment(**{"scale": (1.0, 1.0), "ratio": (1.0, 1.0)} | flips | colour | settings)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (257, 129)], ids=str)
@pytest.mark.parametrize("aspect", [1.0, 2.0, 0.6])
def test_crops_keep_their_limits(size: tuple[int, int], aspect: float) -> None:
    change = augment(scale=(0.1, 0.3), ratio=(0.75, 1.3333))
    generator = rng()
    boxes = np.array([change.draw_crop(generator, size, aspect=aspect) for _ in range(DRAWS)])
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    assert (left >= 0).all() and (top >= 0).all()
    assert (right <= size[0] + 1e-9).all() and (bottom <= size[1] + 1e-9).all()
    share, shape = width * height / (size[0] * size[1]), width / height / aspect
    assert 0.1 - 1e-9 <= share.min() < 0.11 and 0.29 < share.max() <= 0.3 + 1e-9
    assert 0.75 - 1e-9 <= shape.min() < 0.77 and 1.3 < shape.max() <= 1.3333 + 1e-9


def test_crops_are_spread_evenly() -> None:
    """Where every box fits at once, share and place are uniform and the shape is uniform in its logarithm."""
    change = augment(scale=(0.04, 0.16), ratio=(0.5, 2.0))
    generator = rng()
    left, top, right, bottom = np.array([change.draw_crop(generator, (300, 100), aspect=3.0) for _ in range(DRAWS)]).T
    width, height = right - left, bottom - top
    unit = {
        "share": (width * height / 30000 - 0.04) / 0.12,
        "shape": (np.log(width / height / 3) / math.log(2) + 1) / 2,
        "left": left / (300 - width),
        "top": top / (100 - height),
    }
    for name, drawn in unit.items():
        expected = DRAWS / 10
        counts = np.histogram(drawn, bins=10, range=(-1e-9, 1 + 1e-9))[0]
        assert counts.sum() == DRAWS, name
        assert np.abs(counts - expected).max() < 4.5 * expected**0.5, name  # 4.5 σ
    assert np.abs(np.corrcoef(list(unit.values())) - np.eye(4)).max() < 0.1


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [
        ((1000, 10), 1.0, (495, 0, 505, 10)),
        ((10, 1000), 1.0, (0, 495, 10, 505)),
        ((1000, 10), 4.0, (480, 0, 520, 10)),
        ((10, 1000), 0.5, (0, 490, 10, 510)),
    ],
)
def test_very_long_picture_is_cropped_in_the_middle(
    size: tuple[int, int], aspect: float, expected: tuple[float, ...]
) -> None:
    change = augment(scale=(0.35, 1.0), ratio=(0.75, 1.3333))
    assert change.draw_crop(rng(), size, aspect=aspect) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("size", "aspect", "share", "expected"),
    [
        ((100, 60), 1.0, 1.0, (20, 0, 80, 60)),
        ((60, 100), 1.0, 1.0, (0, 20, 60, 80)),
        ((100, 60), 1.0, 0.5, (35, 15, 65, 45)),
        ((100, 60), 2.0, 1.0, (0, 5, 100, 55)),
        ((100, 60), 0.5, 0.8, (38, 6, 62, 54)),
        ((64, 64), 1.0, 1.0, (0, 0, 64, 64)),
    ],
)
def test_centre_box(size: tuple[int, int], aspect: float, share: float, expected: tuple[float, ...]) -> None:
    assert centre_box(size, aspect=aspect, share=share) == pytest.approx(expected)


@pytest.mark.parametrize(("horizontal", "vertical"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_certain_flips(horizontal: float, vertical: float) -> None:
    change = augment(horizontal_flip=horizontal, vertical_flip=vertical)
    generator = rng()
    assert {change.draw_flips(generator) for _ in range(200)} == {(horizontal == 1, vertical == 1)}


def test_flips_are_independent_and_as_frequent_as_asked() -> None:
    change = augment(horizontal_flip=0.5, vertical_flip=0.2)
    generator = rng()
    horizontal, vertical = np.array([change.draw_flips(generator) for _ in range(DRAWS)]).T
    assert horizontal.mean() == pytest.approx(0.5, abs=0.045)  # 4 σ
    assert vertical.mean() == pytest.approx(0.2, abs=0.036)
    assert (horizontal & vertical).mean() == pytest.approx(0.1, abs=0.027)


class Dice:
    """Gives the wanted numbers, and remembers the limits it was asked for."""

    def __init__(self, *wanted: float) -> None:
        self.wanted, self.limits = list(wanted), []

    def uniform(self, low: float, high: float) -> float:
        self.limits.append((low, high))
        return self.wanted.pop(0)


def changed(matrix: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return np.array([[sum(row[k] * colour[k] for k in range(3)) + row[3] for row in matrix] for colour in colours])


def by_hand(colours: np.ndarray, saturation: float, brightness: float, contrast: float) -> np.ndarray:
    result = []
    for red, green, blue in colours:
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        for value in (red, green, blue):
            value = saturation * value + (1 - saturation) * grey
            value = brightness * value
            result.append(contrast * value + (1 - contrast) * 0.5)
    return np.array(result).reshape(-1, 3)


@pytest.mark.parametrize(
    ("saturation", "brightness", "contrast"),
    [(1.0, 1.0, 1.0), (0.0, 1.0, 1.0), (1.3, 1.0, 1.0), (1.0, 0.6, 1.0), (1.0, 1.0, 1.7), (0.7, 1.2, 0.8)],
)
def test_colour_equals_the_formula(saturation: float, brightness: float, contrast: float) -> None:
    change = augment(saturation=0.9, brightness=0.8, contrast=1.5)
    dice = Dice(saturation, brightness, contrast)
    matrix = change.draw_colour(dice)
    assert (matrix.shape, matrix.dtype) == ((3, 4), np.float32)
    assert dice.limits == [pytest.approx((0.1, 1.9)), pytest.approx((0.2, 1.8)), (0.0, 2.5)]
    colours = rng().random((20, 3))
    expected = by_hand(colours, saturation, brightness, contrast)
    np.testing.assert_allclose(changed(matrix, colours), expected, atol=1e-6)


def test_no_colour_change_is_the_identity() -> None:
    np.testing.assert_array_equal(augment().draw_colour(rng()), np.eye(3, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": (0.8, 0.5)}, r"scale \(\[0.8, 0.5\]\) must be \[smallest, largest\]"),
        ({"scale": (0.5, 1.1)}, r"scale \(\[0.5, 1.1\]\) .* largest <= 1"),
        ({"scale": (0.0, 1.0)}, "scale: must be > 0, got 0"),
        ({"scale": 0.5}, "scale: expected .*, got 0.5"),
        ({"ratio": (1.3, 0.7)}, r"ratio \(\[1.3, 0.7\]\) must be \[narrowest, widest\]"),
        ({"ratio": (0.7, 1.0, 1.3)}, "ratio: expected .*, got 3 values"),
        ({"horizontal_flip": 1.1}, "horizontal_flip: must be >= 0 and <= 1, got 1.1"),
        ({"vertical_flip": -0.1}, "vertical_flip: must be >= 0 and <= 1, got -0.1"),
        ({"brightness": -0.1, "contrast": "much"}, "brightness: must be >= 0, got -0.1; contrast: expected a number"),
        ({"saturation": float("nan")}, "saturation: expected a number, got nan"),
    ],
)
def test_wrong_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment(**settings)


def test_there_are_presets() -> None:
    assert {"none", "gentle", "photo"} <= {file.stem for file in PRESETS}


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_preset_builds_as_written(file: Path) -> None:
    change = config.build(config.compose("train", ["data=metadata", f"data/augment={file.stem}"]).data.augment)
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    written.pop("_target_")
    assert {name: value if np.isscalar(value) else list(value) for name, value in vars(change).items()} == written


@pytest.mark.parametrize("size", [(64, 64), (63, 37), (1001, 333), (4000, 2251)], ids=str)
def test_none_takes_the_whole_picture_where_it_has_the_shape_of_the_input(size: tuple[int, int]) -> None:
    change = config.build(config.compose("train", ["data=metadata", "data/augment=none"]).data.augment)
    whole = pytest.approx((0, 0, *size), abs=1e-9)
    assert all(change.draw_crop(rng(seed), size, aspect=size[0] / size[1]) == whole for seed in range(20))


@pytest.mark.parametrize(
    ("size", "aspect", "expected"), [((100, 60), 1.0, (20, 0, 80, 60)), ((60, 100), 2.0, (0, 35, 60, 65))]
)
def test_none_takes_the_largest_centred_box_of_another_picture(
    size: tuple[int, int], aspect: float, expected: tuple[float, ...]
) -> None:
    change = config.build(config.compose("train", ["data=metadata", "data/augment=none"]).data.augment)
    assert all(change.draw_crop(rng(seed), size, aspect=aspect) == pytest.approx(expected) for seed in range(20))
