from __future__ import annotations

import math

import numpy as np
import pytest

from hybridnet.sweep.design import Judged, designed, editions, have_pictures_in_common, mean, on_common_folds


def _runs(*values: float, folds: str = "", digests: bool = False) -> list[Judged]:
    """Runs of the folds that are named by a letter each; without letters there are none."""
    places = folds or "-" * len(values)
    return [Judged(v, fold, f"digest {fold}" if digests else None) for v, fold in zip(values, places, strict=True)]


def test_runs_of_the_same_pictures_are_compared_by_their_seeds() -> None:
    """Squares 0.0008 and 0.00005 over 2 and 1 degrees."""
    first, second = _runs(0.90, 0.92, 0.94), _runs(0.80, 0.81)
    design = designed([first, second])
    assert design.noise == pytest.approx((0.0168325, 3, 2), rel=1e-5)
    assert not design.is_by_fold
    assert (design.inverse_n(first), design.inverse_n(second)) == pytest.approx((1 / 3, 1 / 2))


@pytest.mark.parametrize("digests", [False, True])
def test_what_a_fold_makes_of_all_settings_is_no_noise(digests: bool) -> None:
    """0.9, 0.6, 0.3 in one, and 0.01, 0.03, 0.02 less in the other: residuals ±0.005, ±0.005 and 0 with 2 degrees."""
    first = _runs(0.9, 0.6, 0.3, folds="abc", digests=digests)
    second = _runs(0.28, 0.57, 0.89, folds="cba", digests=digests)
    design = designed([first, second])
    assert design.is_by_fold
    assert design.noise == pytest.approx((np.sqrt(4 * 0.005**2 / 2), 2, 2))
    assert design.inverse_n(first) == pytest.approx(1 / 3)


def test_seeds_of_a_fold_are_one_witness_of_its_pictures() -> None:
    """Their means, 0.9 and 0.5 against 0.8 and 0.5, are what the folds differ in."""
    first, second = _runs(0.91, 0.89, 0.52, 0.48, folds="aabb"), _runs(0.82, 0.78, 0.49, 0.51, folds="aabb")
    design = designed([first, second])
    assert design.is_by_fold and design.noise == pytest.approx((0.05, 1, 2))
    assert design.inverse_n(first) == pytest.approx(1 / 2)
    uneven = _runs(0.9, 0.91, 0.89, 0.5, folds="aaab")
    assert (design.inverse_n(uneven), mean(uneven)) == pytest.approx((1 / 2, 0.7)), "a failed seed is no harder fold"
    assert designed([uneven, second]).noise == pytest.approx((0.05, 1, 2))


@pytest.mark.parametrize("digests", [False, True])
@pytest.mark.parametrize(
    ("settings", "counted"),
    [
        ("abc abc ab", "ab ab ab"),  # a job has failed: 2 degrees of freedom and 6 results either way
        ("abc abc abc ab", "abc abc abc -"),  # 4 degrees of freedom against 3
        ("abc ab ab", "ab ab ab"),  # the sweep was in its third round
        ("abc ab", "ab ab"),
        ("abc a", "abc -"),  # the second setting has just begun
        ("ab ac bc", "ab - -"),
        ("ab bc", "b b"),
        ("aab ab aabb", "aab ab aabb"),  # seeds
        ("ab ab cd c d", "ab ab c c -"),  # of two tables
        ("a a b", "a a b"),
        ("ab", "ab"),
    ],
)
def test_settings_are_compared_on_folds_that_all_of_them_have(settings: str, counted: str, digests: bool) -> None:
    runs = [_runs(*[0.5] * len(folds), folds=folds, digests=digests) for folds in settings.split()]
    found = on_common_folds(runs)
    chosen = [
        "".join(run.fold for run, is_counted in zip(of_setting, own, strict=True) if is_counted) or "-"
        for of_setting, own in zip(runs, found, strict=True)
    ]
    assert " ".join(chosen) == counted
    assert on_common_folds([]) == []


def test_runs_whose_pictures_are_not_known_are_compared_by_their_folds() -> None:
    first, second = _runs(0.9, 0.6, folds="ab", digests=True), _runs(0.8, 0.7, folds="ab")
    assert on_common_folds([first, second]) == [[True, True]] * 2
    design = designed([first, second])
    assert design.is_by_fold and design.noise == pytest.approx((0.1, 1, 2))
    moved = [Judged(run.value, run.fold, f"other {run.fold}") for run in second]
    assert designed([first, moved]).noise == design.noise, "left out was the run that told that they are the same"


def test_one_setting_has_nobody_to_share_its_folds_with() -> None:
    design = designed([_runs(0.9, 0.6, folds="ab")])
    assert design.is_by_fold and design.noise is None
    assert designed([]).noise is None


@pytest.mark.parametrize("fold_std", [0, 5])
@pytest.mark.parametrize(("num_settings", "least", "most"), [(2, 0.02, 0.075), (6, 0.01, 0.05)])
def test_without_a_difference_any_setting_is_worse_than_the_best_in_5_of_100_at_most(
    num_settings: int, least: float, most: float, fold_std: float
) -> None:
    """Four folds of two seeds, 500 trials; the folds' own spread is up to five times that of the runs."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(500):
        values = rng.normal(0, 1, (num_settings, 4, 2)) + rng.normal(0, fold_std, (1, 4, 1))
        runs = [_runs(*of_setting.ravel(), folds="aabbccdd") for of_setting in values]
        design = designed(runs)
        assert design.noise is not None
        pairs = math.comb(num_settings, 2)
        found += np.ptp(values.mean(axis=(1, 2))) > design.noise.margin(
            2 * design.inverse_n(runs[0]), num_comparisons=pairs
        )
    assert least <= found / 500 <= most


def test_digests_tell_which_pictures_are_the_same_and_folds_where_there_are_none() -> None:
    known, other, unknown = Judged(0.9, "0", "x"), Judged(0.9, "0", "y"), Judged(0.9, "0", None)
    assert not have_pictures_in_common([known], [other])
    assert have_pictures_in_common([known], [other, Judged(0.9, "null", "x")])
    assert not have_pictures_in_common([known, unknown], [other, unknown]), "what is known decides"
    assert have_pictures_in_common([known], [unknown]) and have_pictures_in_common([unknown], [other])
    assert not have_pictures_in_common([unknown], [Judged(0.9, "1", None)])


def test_the_same_fold_with_other_pictures_is_another_edition() -> None:
    runs = [("0", "a"), ("1", "b"), ("0", "c"), ("1", None), ("0", "a"), ("1", "d")]
    assert editions(runs) == [0, 0, 1, 0, 0, 1]
