"""Random crops, flips, rotations, colour changes and mixing: their limits and their spread over many draws, and their
formulas by hand."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hybridnet import config
from hybridnet.data.augment import CROP_TRIES, NUM_RANDOMS, Augment, Changes, centre_boxes

DRAWS = 4000
PRESETS = sorted((Path(__file__).parents[2] / "conf" / "data" / "augment").glob("*.yaml"))
SCALARS = (
    *("horizontal_flip", "vertical_flip", "rotation", "shift"),
    *("brightness", "contrast", "saturation", "erase", "mixup", "cutmix"),
)
AREA = (0.02, 0.33)
# Where the numbers behind the crops' are used.
PARTS = ((0, 2), (2, 5), (5, 6), (6, 11), (11, 13), (13, 18))
FLIPS, COLOUR, ANGLE, MIXING, SHIFT, HOLE = (4 * CROP_TRIES + np.arange(*part) for part in PARTS)


def augment(**settings: Any) -> Augment:
    """With neutral values for what is not given."""
    neutral = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "erase_area": AREA, "mix_probability": 1.0}
    neutral |= dict.fromkeys(SCALARS, 0.0)
    return Augment(**neutral | settings)


@functools.cache
def preset(name: str) -> Augment:
    return config.build(config.compose("train", ["data=metadata", f"data/augment={name}"]).data.augment)


def randoms(num: int = DRAWS) -> np.ndarray:
    return np.random.default_rng(0).random((num, NUM_RANDOMS))


def drawn(change: Augment, *, size: tuple[int, int] = (60, 80), num: int = DRAWS, aspect: float = 1.0) -> Changes:
    """The changes of `num` pictures of one size (height, width)."""
    return change.draw(randoms(num), np.tile(size, (num, 1)), aspect=aspect)


def assert_evenly_spread(values: np.ndarray, low: float, high: float, what: str = "") -> None:
    """Ten bins hold equal numbers, within 4.5 standard deviations; nothing lies outside."""
    counts = np.histogram((values - low) / (high - low), bins=10, range=(-1e-6, 1 + 1e-6))[0]
    assert counts.sum() == len(values), what
    assert np.abs(counts - len(values) / 10).max() < 4.5 * (len(values) / 10) ** 0.5, what


# Crops


@pytest.mark.parametrize("size", [(2000, 3000), (3000, 2000), (2570, 1290)], ids=str)
@pytest.mark.parametrize("aspect", [1.0, 2.0, 0.6])
def test_crops_keep_their_limits(size: tuple[int, int], aspect: float) -> None:
    """Large pictures, where rounding to pixels does not show."""
    change = augment(scale=(0.1, 0.3), ratio=(0.75, 1.3333))
    left, top, right, bottom = drawn(change, size=size, aspect=aspect).boxes.T
    width, height = right - left, bottom - top
    assert (left >= 0).all() and (top >= 0).all() and (right <= size[1]).all() and (bottom <= size[0]).all()
    share, shape = width * height / (size[0] * size[1]), width / height / aspect
    assert 0.0995 <= share.min() < 0.105 and 0.295 < share.max() <= 0.3005
    assert 0.7475 <= shape.min() < 0.76 and 1.31 < shape.max() <= 1.336


SIZES = [(1, 1), (1, 2), (2, 1), (1, 5000), (5000, 1), (3, 3), (2, 7), (17, 400), (40, 30), (333, 1001)]


@pytest.mark.parametrize("aspect", [1.0, 0.3, 4.0])
@pytest.mark.parametrize("name", [file.stem for file in PRESETS])
def test_crops_lie_inside_of_any_picture(name: str, aspect: float) -> None:
    """One draw for pictures of all sizes at once: none takes another's."""
    sizes = np.repeat(SIZES, 300, axis=0)
    boxes = preset(name).draw(randoms(len(sizes)), sizes, aspect=aspect).boxes
    assert (boxes.shape, boxes.dtype) == ((3000, 4), np.int64)
    left, top, right, bottom = boxes.T
    assert (left >= 0).all() and (top >= 0).all()
    assert (left < right).all() and (top < bottom).all(), "at least one pixel"
    assert (right <= sizes[:, 1]).all() and (bottom <= sizes[:, 0]).all()


def test_crops_are_spread_evenly() -> None:
    """Where every box fits at once, share and place are uniform and the shape is uniform in its logarithm."""
    change = augment(scale=(0.04, 0.16), ratio=(0.5, 2.0))
    left, top, right, bottom = drawn(change, size=(1000, 3000), aspect=3.0).boxes.T
    width, height = right - left, bottom - top
    unit = {
        "share": (width * height / 3e6 - 0.04) / 0.12,
        "shape": (np.log(width / height / 3) / math.log(2) + 1) / 2,
        "left": left / (3000 - width),
        "top": top / (1000 - height),
    }
    for name, values in unit.items():
        assert_evenly_spread(values.clip(0, 1) if name in ("share", "shape") else values, 0, 1, name)
    assert np.abs(np.corrcoef(list(unit.values())) - np.eye(4)).max() < 0.08


def test_every_place_is_equally_likely_in_a_small_picture() -> None:
    """A box of 2×2 in 4×5 pixels has 12 places; the last row and column must not be rarer."""
    left, top, right, bottom = drawn(augment(scale=(0.2, 0.2)), size=(4, 5)).boxes.T
    assert set(right - left) == set(bottom - top) == {2}
    counts = np.histogram2d(left, top, bins=(4, 3), range=[(-0.5, 3.5), (-0.5, 2.5)])[0]
    assert counts.sum() == DRAWS and np.abs(counts - DRAWS / 12).max() < 4.5 * (DRAWS / 12) ** 0.5


def test_the_first_crop_that_fits_is_taken() -> None:
    """A square of the whole area does not fit into 100×400 pixels; the third try is one of a quarter of it."""
    numbers = np.full((1, NUM_RANDOMS), 0.5)
    tries = numbers[:, : 4 * CROP_TRIES].reshape(CROP_TRIES, 4)
    tries[:, 0] = 0.999
    tries[2] = (0.0, 0.5, 0.999, 0.0)
    tries[5] = (0.0, 0.5, 0.0, 0.0)
    box = augment(scale=(0.25, 1.0)).draw(numbers, np.array([[100, 400]]), aspect=1.0).boxes[0]
    assert box.tolist() == [300, 0, 400, 100]


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [
        ((10, 1000), 1.0, (495, 0, 505, 10)),
        ((1000, 10), 1.0, (0, 495, 10, 505)),
        ((10, 1000), 4.0, (480, 0, 520, 10)),
        ((1000, 10), 0.5, (0, 490, 10, 510)),
    ],
)
def test_very_long_picture_is_cropped_in_the_middle(
    size: tuple[int, int], aspect: float, expected: tuple[int, ...]
) -> None:
    boxes = drawn(preset("photo"), size=size, aspect=aspect, num=50).boxes
    assert boxes.tolist() == [list(expected)] * 50


@pytest.mark.parametrize(
    ("size", "aspect", "share", "expected"),
    [
        ((60, 100), 1.0, 1.0, (20, 0, 80, 60)),
        ((100, 60), 1.0, 1.0, (0, 20, 60, 80)),
        ((60, 100), 1.0, 0.5, (35, 15, 65, 45)),
        ((60, 100), 2.0, 1.0, (0, 5, 100, 55)),
        ((60, 100), 0.5, 0.8, (38, 6, 62, 54)),
        ((64, 64), 1.0, 1.0, (0, 0, 64, 64)),
        ((63, 37), 1.0, 1.0, (0, 13, 37, 50)),
        ((63, 37), 37 / 63, 1.0, (0, 0, 37, 63)),
        ((5, 8), 1.0, 0.5, (3, 1, 5, 3)),  # 2.5 pixels are 2, to the left of the middle
        ((256, 256), 1.0, 0.875, (16, 16, 240, 240)),
        ((1, 1), 3.0, 0.1, (0, 0, 1, 1)),
        ((1, 900), 0.2, 1.0, (449, 0, 450, 1)),
    ],
)
def test_centre_boxes(size: tuple[int, int], aspect: float, share: float, expected: tuple[int, ...]) -> None:
    assert centre_boxes(np.array([size, size]), aspect=aspect, share=share).tolist() == [list(expected)] * 2


@pytest.mark.parametrize("aspect", [1.0, 0.4, 2.5])
@pytest.mark.parametrize("share", [1.0, 0.875, 0.01])
def test_centre_boxes_of_many_sizes(aspect: float, share: float) -> None:
    """Inside, in the middle within half a pixel, of the wanted size within half a pixel."""
    sizes = np.random.default_rng(0).integers(1, 300, (2000, 2))
    left, top, right, bottom = centre_boxes(sizes, aspect=aspect, share=share).T
    height, width = sizes.T
    assert (left >= 0).all() and (top >= 0).all() and (right <= width).all() and (bottom <= height).all()
    assert (np.abs(left + right - width) <= 1).all() and (np.abs(top + bottom - height) <= 1).all()
    wanted_width = np.minimum(width, height * aspect) * share
    for found, wanted in ((right - left, wanted_width), (bottom - top, wanted_width / aspect)):
        assert (np.abs(found - wanted) <= np.maximum(0.5, 1 - wanted) + 1e-9).all(), "at least one pixel"


@pytest.mark.parametrize("size", [(64, 64), (37, 63), (333, 1001), (2251, 4000)], ids=str)
def test_none_takes_the_whole_picture_where_it_has_the_shape_of_the_input(size: tuple[int, int]) -> None:
    boxes = drawn(preset("none"), size=size, aspect=size[1] / size[0], num=50).boxes
    assert boxes.tolist() == [[0, 0, size[1], size[0]]] * 50


@pytest.mark.parametrize(
    ("size", "aspect", "expected"), [((60, 100), 1.0, (20, 0, 80, 60)), ((100, 60), 2.0, (0, 35, 60, 65))]
)
def test_none_takes_the_largest_centred_box_of_another_picture(
    size: tuple[int, int], aspect: float, expected: tuple[int, ...]
) -> None:
    assert drawn(preset("none"), size=size, aspect=aspect, num=50).boxes.tolist() == [list(expected)] * 50


# Flips, rotation and shift


@pytest.mark.parametrize(("horizontal", "vertical"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_certain_flips(horizontal: float, vertical: float) -> None:
    flips = drawn(augment(horizontal_flip=horizontal, vertical_flip=vertical), num=200).flips
    assert flips.dtype == bool
    assert flips.tolist() == [[horizontal == 1, vertical == 1]] * 200


def test_flips_are_independent_and_as_frequent_as_asked() -> None:
    horizontal, vertical = drawn(augment(horizontal_flip=0.5, vertical_flip=0.2)).flips.T
    assert horizontal.mean() == pytest.approx(0.5, abs=0.032)  # 4 σ
    assert vertical.mean() == pytest.approx(0.2, abs=0.026)
    assert (horizontal & vertical).mean() == pytest.approx(0.1, abs=0.019)


@pytest.mark.parametrize("rotation", [0.0, 15.0, 180.0])
def test_angles(rotation: float) -> None:
    angles = drawn(augment(rotation=rotation)).angles
    assert angles.dtype == np.float32
    if rotation:
        assert_evenly_spread(angles, -rotation, rotation)
    assert np.abs(angles).max() <= rotation


@pytest.mark.parametrize("shift", [0.0, 0.125, 1.0])
def test_shifts(shift: float) -> None:
    right, down = drawn(augment(shift=shift)).shifts.T
    for shifts in (right, down):
        assert shifts.dtype == np.float32 and np.abs(shifts).max() <= shift
        if shift:
            assert_evenly_spread(shifts, -shift, shift)
    assert not shift or abs(np.corrcoef(right, down)[0, 1]) < 0.07  # 4 σ


# Colour


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


# A number from 0 to 1 and the factor it stands for.
SATURATIONS = [(0.0, 0.1), (0.5, 1.0), (0.75, 1.45)]  # 0.9 to either side
BRIGHTNESSES = [(0.5, 1.0), (0.25, 0.6), (1.0, 1.8)]  # 0.8
CONTRASTS = [(0.5, 1.25), (0.0, 0.0), (0.4, 1.0)]  # 1.5, but never below 0


@pytest.mark.parametrize("saturation", SATURATIONS, ids=str)
@pytest.mark.parametrize("brightness", BRIGHTNESSES, ids=str)
@pytest.mark.parametrize("contrast", CONTRASTS, ids=str)
def test_colour_equals_the_formula(
    saturation: tuple[float, float], brightness: tuple[float, float], contrast: tuple[float, float]
) -> None:
    numbers = randoms(2)
    numbers[1, COLOUR] = saturation[0], brightness[0], contrast[0]
    change = augment(saturation=0.9, brightness=0.8, contrast=1.5)
    matrices = change.draw(numbers, np.array([[5, 7], [5, 7]]), aspect=1.0).colour
    assert (matrices.shape, matrices.dtype) == ((2, 3, 4), np.float32)
    colours = np.random.default_rng(0).random((20, 3))
    expected = by_hand(colours, saturation[1], brightness[1], contrast[1])
    np.testing.assert_allclose(changed(matrices[1], colours), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "column"), [("saturation", 0), ("brightness", 1), ("contrast", 2)])
def test_each_colour_change_has_its_own_number(name: str, column: int) -> None:
    numbers = np.full((2, NUM_RANDOMS), 0.5)
    numbers[1, COLOUR[column]] = 0.9
    colour = augment(**{name: 0.5}).draw(numbers, np.array([[5, 7], [5, 7]]), aspect=1.0).colour
    np.testing.assert_array_equal(colour[0], np.eye(3, 4))
    assert not np.array_equal(colour[1], np.eye(3, 4))


def test_no_colour_change_is_the_identity() -> None:
    np.testing.assert_array_equal(drawn(augment(), num=50).colour, np.tile(np.eye(3, 4), (50, 1, 1)))


# Erasing


def sides(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, top, right, bottom = boxes.T.astype(float)
    return right - left, bottom - top


@pytest.mark.parametrize("erase", [0.25, 1.0])
def test_so_many_pictures_lose_a_part(erase: float) -> None:
    holes = drawn(augment(erase=erase)).holes
    assert holes.dtype == np.float32
    is_erased = holes.any(axis=1)
    assert is_erased.mean() == pytest.approx(erase, abs=0.028)  # 4 σ
    width, height = sides(holes[is_erased])
    assert (width > 0).all() and (height > 0).all()


def test_holes_lie_inside_with_the_area_the_shape_and_the_place_of_the_paper() -> None:
    """Of up to 0.2, of which none is longer than the picture."""
    holes = drawn(augment(erase=1.0, erase_area=(0.05, 0.2))).holes
    left, top = holes.T[:2].astype(float)
    assert (holes >= 0).all() and (holes <= 1 + 1e-6).all()
    width, height = sides(holes)
    assert_evenly_spread(width * height, 0.05, 0.2, "area")
    assert_evenly_spread(np.log(width / height), np.log(0.3), -np.log(0.3), "shape")
    assert_evenly_spread(left / (1 - width), 0, 1, "left")
    assert_evenly_spread(top / (1 - height), 0, 1, "top")
    independent = np.corrcoef([left / (1 - width), top / (1 - height), width * height, np.log(width / height)])
    assert np.abs(independent - np.eye(4)).max() < 0.07  # 4 σ


def test_a_hole_is_not_longer_than_the_picture() -> None:
    holes = drawn(augment(erase=1.0, erase_area=(0.9, 1.0))).holes
    assert (holes >= 0).all() and holes.max() == 1
    width, height = sides(holes)
    assert (np.maximum(width, height) == 1).mean() > 0.9
    assert (width * height).max() <= 1 and (width * height).min() < 0.6


def test_without_erasing_there_is_no_hole() -> None:
    assert not drawn(augment(scale=(0.3, 1.0), mixup=1.0)).holes.any()


# Mixing


def own_shares(changes: Changes) -> np.ndarray:
    left, top, right, bottom = changes.patches.T.astype(float)
    return (changes.blends * (1 - (right - left) * (bottom - top))).astype(np.float32)


def larger_part(alpha: float) -> np.ndarray:
    """max(p, 1 - p) of p ~ Beta(alpha, alpha), from two Gamma distributions; in float32 many are 1."""
    one, other = np.random.default_rng(5).gamma(alpha, size=(2, 50_000))
    return (np.maximum(one, other) / (one + other)).astype(np.float32)


def largest_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Between the distribution functions of two samples (Kolmogorov and Smirnov)."""
    both = np.sort(np.concatenate([one, other]))
    shares = [np.searchsorted(np.sort(x), both, side="right") / len(x) for x in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_picture_keeps_the_larger_part_of_a_beta_distribution(kind: str, alpha: float) -> None:
    changes = drawn(augment(**{kind: alpha}))
    shares = own_shares(changes)
    assert shares.min() >= 0.5 - 1e-6 and shares.max() <= 1
    assert largest_distance(shares, larger_part(alpha)) < 1.95 * DRAWS**-0.5  # exceeded by chance once in 1000
    assert (changes.blends.dtype, changes.patches.dtype) == (np.float32, np.float32)


def test_mixup_alone_has_no_patches() -> None:
    changes = drawn(augment(mixup=0.5))
    assert not changes.patches.any() and (changes.blends < 1).any()


def test_patches_of_cutmix_lie_inside_and_keep_the_pictures_shape() -> None:
    changes = drawn(augment(cutmix=1.0))
    left, top, right, bottom = changes.patches.T.astype(float)
    assert (changes.blends == 1).all()
    assert (changes.patches >= 0).all() and (changes.patches <= 1 + 1e-6).all()
    np.testing.assert_allclose(right - left, bottom - top, atol=1e-6)
    some = right - left < 0.5
    assert_evenly_spread((left / (1 - (right - left)))[some], 0, 1, "left")
    assert_evenly_spread((top / (1 - (bottom - top)))[some], 0, 1, "top")
    assert abs(np.corrcoef(left, top)[0, 1]) < 0.5, "not along the diagonal"


def test_with_both_each_picture_gets_one_and_each_half_of_them() -> None:
    changes = drawn(augment(mixup=1.0, cutmix=1.0))
    is_blended, is_cut = changes.blends < 1, changes.patches.any(axis=1)
    assert not (is_blended & is_cut).any()
    assert (is_blended | is_cut).all()
    assert is_cut.mean() == pytest.approx(0.5, abs=0.032)  # 4 σ


@pytest.mark.parametrize("kinds", [["mixup"], ["cutmix"], ["mixup", "cutmix"]], ids="-".join)
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_so_many_pictures_are_mixed(probability: float, kinds: list[str]) -> None:
    """The kind and the share of the partner do not depend on it."""
    alphas = dict.fromkeys(kinds, 1.0)
    changes = drawn(augment(**alphas, mix_probability=probability))
    is_blended, is_cut = changes.blends < 1, changes.patches.any(axis=1)
    for kind, is_mixed in {"mixup": is_blended, "cutmix": is_cut}.items():
        expected = probability / len(kinds) if kind in kinds else 0
        assert is_mixed.mean() == pytest.approx(expected, abs=0.032)  # 4 σ
        if is_mixed.any():
            shares = own_shares(changes)[is_mixed]
            assert largest_distance(shares, larger_part(1.0)) < 1.95 * len(shares) ** -0.5


def test_no_mixing_is_exactly_neutral() -> None:
    changes = drawn(augment(scale=(0.3, 1.0), rotation=20.0, brightness=0.2))
    assert (changes.blends == 1).all()
    assert not changes.patches.any(), "else every batch of a training without mixing would be mixed, with nothing"


def test_every_change_has_its_own_numbers() -> None:
    """Changing one number changes one kind of change."""
    change = augment(scale=(0.3, 1.0), ratio=(0.7, 1.4), mixup=1.0, cutmix=1.0, erase=0.5,
                     **dict.fromkeys(SCALARS[:2], 0.5), **dict.fromkeys(SCALARS[2:7], 0.5))  # fmt: skip
    numbers = randoms(200)
    sizes = np.tile((60, 80), (200, 1))
    before = vars(change.draw(numbers, sizes, aspect=1.0))
    parts = {"boxes": np.arange(4), "flips": FLIPS, "colour": COLOUR, "angles": ANGLE, "blends": MIXING[:2]}
    parts |= {"patches": MIXING[2:], "shifts": SHIFT, "holes": HOLE}
    for name, columns in parts.items():
        for column in columns:
            others = numbers.copy()
            others[:, column] = np.random.default_rng(1).random(200)
            after = vars(change.draw(others, sizes, aspect=1.0))
            different = {key for key in before if not np.array_equal(before[key], after[key])}
            assert different - {"patches"} == {name} - {"patches"}, column
            assert name in different, column


# Settings


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
        ({"rotation": 180.5}, r"rotation \(180.5\) must be <= 180 degrees"),
        ({"rotation": -1}, "rotation: must be >= 0, got -1"),
        ({"shift": 1.5}, "shift: must be >= 0 and <= 1, got 1.5"),
        ({"brightness": -0.1, "contrast": "much"}, "brightness: must be >= 0, got -0.1; contrast: expected a number"),
        ({"saturation": float("nan")}, "saturation: expected a number, got nan"),
        ({"erase": 1.5}, "erase: must be >= 0 and <= 1, got 1.5"),
        ({"erase_area": (0.3, 0.2)}, r"erase_area \(\[0.3, 0.2\]\) must be \[smallest, largest\]"),
        ({"erase_area": (0.5, 1.1)}, r"erase_area \(\[0.5, 1.1\]\) .* largest <= 1"),
        ({"erase_area": (0.0, 0.3)}, "erase_area: must be > 0, got 0"),
        ({"mixup": -0.2}, "mixup: must be >= 0, got -0.2"),
        ({"mix_probability": 2}, "mix_probability: must be >= 0 and <= 1, got 2"),
        ({"cutmix": -1, "mixup": True}, "mixup: expected a number, got True; cutmix: must be >= 0, got -1"),
    ],
)
def test_wrong_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment(**settings)


def test_there_are_presets() -> None:
    assert {"none", "gentle", "photo"} <= {file.stem for file in PRESETS}


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_preset_builds_as_written(file: Path) -> None:
    change = preset(file.stem)
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    written.pop("_target_")
    assert set(written) == {"scale", "ratio", *SCALARS, "erase_area", "mix_probability"}
    same = ("rotation", "shift", "brightness", "contrast", "saturation", "erase", "mix_probability")
    found = {name: getattr(change, name) for name in same}
    found |= {name: list(getattr(change, name)) for name in ("scale", "ratio", "erase_area")}
    found |= {"horizontal_flip": change.flips[0], "vertical_flip": change.flips[1]}
    found |= {"mixup": change.mixup.alpha, "cutmix": change.cutmix.alpha}
    assert found == written
