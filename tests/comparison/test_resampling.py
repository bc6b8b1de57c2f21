from __future__ import annotations

import numpy as np
import pytest

from hybridnet.comparison.paired import Cell, Fold
from hybridnet.comparison.resampling import accuracy_draws, interval, probability_of_zero


class _Run:
    def __init__(self, seed: int) -> None:
        self.seed = str(seed)


def _fold(*groups: np.ndarray, units: np.ndarray | None = None, seeds: list[list[int]] | None = None) -> Fold:
    """Of correct answers (R, N) of each group."""
    num = groups[0].shape[1]
    seeds = seeds or [list(range(len(correct))) for correct in groups]
    cells = [
        Cell(tuple(_Run(seed) for seed in own), correct.astype(int), correct.astype(bool))  # type: ignore[misc]
        for correct, own in zip(groups, seeds, strict=True)
    ]
    return Fold(None, ("",) * num, np.ones(num, int), np.arange(num) if units is None else units, tuple(cells))


def _random(shape: tuple[int, int], share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


def test_one_run_each_is_the_plain_bootstrap_of_pictures() -> None:
    """As with drawing the pictures one by one; the variance is that of the differences divided by their number."""
    first, second = _random((1, 150), 0.9, 0), _random((1, 150), 0.8, 1)
    draws = accuracy_draws([_fold(first, second)], num_draws=20_000, seed=0)
    rng = np.random.default_rng(5)
    places = rng.integers(0, 150, (20_000, 150))
    naive = first[0][places].mean(axis=1), second[0][places].mean(axis=1)
    assert draws[:, 0].std() == pytest.approx(naive[0].std(), rel=0.03)
    difference = draws[:, 0] - draws[:, 1]
    assert difference.std() == pytest.approx((first[0].astype(int) - second[0]).std() / 150**0.5, rel=0.03)
    assert interval(difference) == pytest.approx(interval(naive[0] - naive[1]), abs=0.008)


def test_the_same_answers_never_differ() -> None:
    correct = _random((3, 40), 0.8, 0)
    draws = accuracy_draws([_fold(correct, correct), _fold(correct[:2], correct[:2])], num_draws=200, seed=0)
    assert (draws[:, 0] == draws[:, 1]).all()
    assert probability_of_zero(draws[:, 0] - draws[:, 1]) == 1.0


def test_units_are_drawn_whole() -> None:
    """Every picture four times: four times the variance, as if there were a quarter of them."""
    correct = _random((1, 60), 0.7, 0)
    repeated, units = np.repeat(correct, 4, axis=1), np.repeat(np.arange(60), 4)
    whole, alone = (
        accuracy_draws([_fold(repeated, repeated, units=own)], num_draws=20_000, seed=0)[:, 0].std()
        for own in (units, np.arange(240))
    )
    assert whole == pytest.approx(2 * alone, rel=0.04)
    assert whole == pytest.approx(correct.std() / 60**0.5, rel=0.04)


def test_units_of_different_sizes_are_weighted_by_their_pictures() -> None:
    """A unit of 3 right pictures, one of 1 wrong one: 0, 3/4 or 1 in a quarter, half and a quarter of the draws."""
    fold = _fold(np.array([[1, 1, 1, 0]]), np.array([[1, 1, 1, 0]]), units=np.array([0, 0, 0, 1]))
    values, counts = np.unique(accuracy_draws([fold], num_draws=8_000, seed=0)[:, 0], return_counts=True)
    assert values.tolist() == [0, 0.75, 1] and counts / 8_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


def test_runs_add_their_own_variance() -> None:
    """Runs that are right on all pictures, or on none: s² / n with s² of n - 1, and nothing from the pictures."""
    correct = np.repeat(np.array([[1], [0], [0], [1], [1]]), 20, axis=1)
    other = np.ones((1, 20))
    draws = accuracy_draws([_fold(correct, other)], num_draws=40_000, seed=0)
    assert draws[:, 0].mean() == pytest.approx(0.6, abs=0.01)
    assert draws[:, 0].var() == pytest.approx(0.3 / 5, rel=0.05)
    assert (draws[:, 1] == 1).all()


def test_runs_of_the_same_seeds_are_drawn_together() -> None:
    """Two groups that differ by the same in every seed; with other seeds the same runs are independent."""
    worse = np.array([[1] * a + [0] * (100 - a) for a in (50, 60, 90)])
    better = np.array([[1] * (a + 5) + [0] * (95 - a) for a in (50, 60, 90)])
    matched, apart = (
        np.subtract(*accuracy_draws([_fold(better, worse, seeds=seeds)], num_draws=2_000, seed=0).T).std()
        for seeds in ([[0, 1, 2], [0, 1, 2]], [[0, 1, 2], [3, 4, 5]])
    )
    assert matched < 0.05 < 0.15 < apart


def test_folds_are_drawn_as_well_and_weighted_by_their_pictures() -> None:
    """Two folds of 30 and 10 pictures, all right and all wrong: drawn twice the one, both, twice the other."""
    folds = [_fold(np.ones((1, 30)), np.ones((1, 30))), _fold(np.zeros((1, 10)), np.zeros((1, 10)))]
    draws = accuracy_draws(folds, num_draws=4_000, seed=0)[:, 0]
    values, counts = np.unique(draws.round(9), return_counts=True)
    assert values == pytest.approx([0.75 - 2**0.5 * 0.75, 0.75, 0.75 + 2**0.5 * 0.25])
    assert counts / 4_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


@pytest.mark.parametrize(
    ("num_runs", "run_effect", "expected"), [(1, 0.0, (0.92, 0.98)), (3, 0.05, (0.9, 0.99)), (5, 0.05, (0.92, 1.0))]
)
def test_intervals_hold_the_truth_as_often_as_they_say(
    num_runs: int, run_effect: float, expected: tuple[float, float]
) -> None:
    """Pictures of different difficulty, and runs that are better or worse as a whole; the true difference is 0."""
    rng = np.random.default_rng(0)
    held = []
    for trial in range(300):
        difficulty = rng.normal(0, 0.08, 200)
        groups = [
            rng.random((num_runs, 200)) < 0.8 + difficulty + rng.normal(0, run_effect, (num_runs, 1)) for _ in range(2)
        ]
        draws = accuracy_draws([_fold(*groups)], num_draws=400, seed=trial)
        low, high = interval(draws[:, 0] - draws[:, 1])
        held.append(low <= 0 <= high)
    assert expected[0] <= np.mean(held) <= expected[1]


def test_the_probability_of_zero() -> None:
    assert probability_of_zero(np.array([-1.0] * 2 + [1.0] * 97)) == pytest.approx(2 * 3 / 100)
    assert probability_of_zero(np.array([0.3, -0.1, -0.2]) * 1e-16) == 1.0, "a sum of thirds is no exact 0"


def test_the_same_seed_draws_the_same() -> None:
    fold = _fold(_random((2, 30), 0.7, 0), _random((3, 30), 0.7, 1))
    first, again, other = (accuracy_draws([fold], num_draws=50, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
