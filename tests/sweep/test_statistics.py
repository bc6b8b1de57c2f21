from __future__ import annotations

import math

import numpy as np
import pytest

from hybridnet.sweep.statistics import Spread, blocked, figure, pooled, spread


def test_a_spread_is_that_of_the_sample() -> None:
    assert spread([0.90, 0.92, 0.94]) == pytest.approx((0.92, 0.02, 3))
    assert spread([0.5]) == Spread(0.5, None, 1)


def test_noise_is_pooled_over_groups_of_two_or_more() -> None:
    """Squares 0.0008 and 0.00005 over 2 and 1 degrees: the root of 0.00085 / 3. Student's t at 3 is 3.1824463."""
    noise = pooled([[0.90, 0.92, 0.94], [0.80, 0.81], [0.5]])
    assert noise is not None
    assert noise == pytest.approx((0.0168325, 3, 2), rel=1e-5)
    margin = noise.margin(1 / 3 + 1 / 2, num_comparisons=1)
    assert margin == pytest.approx(3.1824463 * 0.0168325 * 0.9128709, rel=1e-5)
    margin = noise.margin(1 / 3 + 1 / 2, num_comparisons=10)
    assert margin == pytest.approx(7.4533185 * 0.0168325 * 0.9128709, rel=1e-5), "t at 1 - 0.0025"
    assert pooled([[0.1], [0.2], []]) is None
    assert pooled([[0.1, 0.1, 0.1], [0.3, 0.3], [0.2]]) is None, "they agree by chance"
    assert pooled([[0.1, 0.1], [0.3, 0.5]]) == pytest.approx((0.1, 2, 2))


def test_what_moves_all_rows_alike_is_no_noise() -> None:
    """Rows 0.5, 0.3 and columns 0.8, 0.3, 0.1: residuals 0.1, 0, -0.1 and -0.1, 0, 0.1 with (2 - 1)(3 - 1) degrees."""
    assert blocked([[1.0, 0.4, 0.1], [0.6, 0.2, 0.1]]) == pytest.approx((np.sqrt(0.04 / 2), 2, 2))
    assert blocked([[0.9, 0.3], [0.7, 0.1], [0.8, 0.2]]) is None, "but for rounding"


@pytest.mark.parametrize("num_settings", [2, 8, 24])
def test_the_best_and_the_worst_of_equal_settings_are_within_noise(num_settings: int) -> None:
    """Three seeds each, 400 trials. Taken as any two, those of 8 are not in 46 % of them, of 24 in 91 %."""
    values = np.random.default_rng(0).standard_normal((400, num_settings, 3))
    margins = [
        pooled(trial.tolist()).margin(2 / 3, num_comparisons=math.comb(num_settings, 2))  # type: ignore[union-attr]
        for trial in values
    ]
    is_beyond = np.ptp(values.mean(axis=2), axis=1) > margins
    assert 0.01 < is_beyond.mean() <= 0.055


@pytest.mark.parametrize(
    ("value", "text"), [(0.93456, "0.9346"), (0.0, "0.0000"), (0.000123456, "0.000123"), (123456.7, "1.23e+05")]
)
def test_figures_are_short_and_never_nothing(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_mean_and_its_deviation_have_the_same_digits() -> None:
    assert Spread(0.9312, 0.00041, 3).text() == "0.9312 ± 0.0004"
    assert Spread(0.00012, 0.00001, 3).text() == "0.00012 ± 1e-05"
    assert Spread(0.9312, None, 1).text() == "0.9312"
