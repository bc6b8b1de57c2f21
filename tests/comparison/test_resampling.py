from __future__ import annotations

import numpy as np
import pytest

from hybridnet.comparison.paired import Cell, Fold
from hybridnet.comparison.resampling import Resampling, _Drawn, interval, probability_of_zero


class _Run:
    def __init__(self, seed: int) -> None:
        self.replicate = (f"seed={seed}",)


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
    draws = Resampling([_fold(first, second)], num_draws=20_000, seed=0)
    rng = np.random.default_rng(5)
    places = rng.integers(0, 150, (20_000, 150))
    naive = first[0][places].mean(axis=1), second[0][places].mean(axis=1)
    assert draws.accuracy(0).std() == pytest.approx(naive[0].std(), rel=0.03)
    difference = draws.difference(0, 1)
    assert difference == pytest.approx(draws.accuracy(0) - draws.accuracy(1)), "on the same pictures"
    assert difference.std() == pytest.approx((first[0].astype(int) - second[0]).std() / 150**0.5, rel=0.03)
    assert interval(difference) == pytest.approx(interval(naive[0] - naive[1]), abs=0.008)


def test_the_same_answers_never_differ() -> None:
    correct = _random((3, 40), 0.8, 0)
    draws = Resampling([_fold(correct, correct), _fold(correct[:2], correct[:2])], num_draws=200, seed=0)
    assert (draws.difference(0, 1) == 0).all() and draws.accuracy(0).std() > 0
    assert probability_of_zero(draws.difference(0, 1)) == 1.0


def test_units_are_drawn_whole() -> None:
    """Every picture four times: four times the variance, as if there were a quarter of them."""
    correct = _random((1, 60), 0.7, 0)
    repeated, units = np.repeat(correct, 4, axis=1), np.repeat(np.arange(60), 4)
    whole, alone = (
        Resampling([_fold(repeated, repeated, units=own)], num_draws=20_000, seed=0).accuracy(0).std()
        for own in (units, np.arange(240))
    )
    assert whole == pytest.approx(2 * alone, rel=0.04)
    assert whole == pytest.approx(correct.std() / 60**0.5, rel=0.04)


def test_units_of_different_sizes_are_weighted_by_their_pictures() -> None:
    """A unit of 3 right pictures, one of 1 wrong one: 0, 3/4 or 1 in a quarter, half and a quarter of the draws."""
    fold = _fold(np.array([[1, 1, 1, 0]]), np.array([[1, 1, 1, 0]]), units=np.array([0, 0, 0, 1]))
    drawn = _Drawn(fold, np.full(8_000, 0.5**0.5), np.random.default_rng(0)).of_group(0).drawn  # as near as drawn
    values, counts = np.unique(drawn.round(12), return_counts=True)
    assert values.tolist() == [0, 0.75, 1] and counts / 8_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


def test_the_spread_of_few_units_is_little_known() -> None:
    """Six plants of 20 pictures each: 0.6 ± 2.571 s / √6, where a bootstrap alone has ± 1.789 s / √6."""
    right = np.array([6, 8, 12, 14, 14, 18])
    correct = (np.arange(20) < right[:, None]).reshape(1, -1)
    fold = _fold(correct, np.ones((1, 120)), units=np.repeat(np.arange(6), 20))
    expected = 2.571 * right.std(ddof=1) / 20 / 6**0.5
    draws = Resampling([fold], num_draws=40_000, seed=0)
    assert interval(draws.accuracy(0)) == pytest.approx((0.6 - expected, 0.6 + expected), abs=0.025)
    assert interval(draws.difference(0, 1)) == pytest.approx((-0.4 - expected, -0.4 + expected), abs=0.025)


def test_runs_that_differ_by_much_are_students_t() -> None:
    """Right on all pictures, or on none: 0.6 ± 2.776 √(0.3 / 5), and nothing from the pictures."""
    correct = np.repeat(np.array([[1], [0], [0], [1], [1]]), 20, axis=1)
    draws = Resampling([_fold(correct, np.ones((5, 20)))], num_draws=40_000, seed=0)
    expected = 2.776 * (0.3 / 5) ** 0.5
    assert interval(draws.accuracy(0)) == pytest.approx((0.6 - expected, 0.6 + expected), abs=0.03)
    assert (draws.accuracy(1) == 1).all()
    assert interval(draws.difference(0, 1)) == pytest.approx((-0.4 - expected, -0.4 + expected), abs=0.03)


def test_one_run_varies_as_those_do_that_it_is_compared_with() -> None:
    """Five runs against one, which another seed may have made right on none: -0.4 ± 2.776 √(0.3 (1 / 5 + 1))."""
    correct = np.repeat(np.array([[1], [0], [0], [1], [1]]), 20, axis=1)
    draws = Resampling([_fold(correct, np.ones((1, 20)))], num_draws=40_000, seed=0)
    expected = 2.776 * (0.3 * 1.2) ** 0.5
    assert interval(draws.difference(0, 1)) == pytest.approx((-0.4 - expected, -0.4 + expected), abs=0.06)
    assert interval(draws.difference(1, 0)) == pytest.approx((0.4 - expected, 0.4 + expected), abs=0.06)
    assert (draws.accuracy(1) == 1).all(), "of which nothing is known by itself"


def test_what_the_pictures_explain_is_not_added_again() -> None:
    """Equally good runs, each right on 80 % of the pictures by chance: their variance is 0.16 / 100."""
    explained = []
    for trial in range(200):
        drawn = _Drawn(_fold(_random((4, 100), 0.8, trial), np.ones((1, 100))), np.ones(1), np.random.default_rng(0))
        explained.append(drawn.of_group(0).explained())
    assert np.mean(explained) == pytest.approx(0.16 / 100, rel=0.05)
    everywhere = np.repeat(np.array([[1], [0]]), 20, axis=1)
    assert _Drawn(_fold(everywhere), np.ones(1), np.random.default_rng(0)).of_group(0).explained() == 0


def test_more_runs_make_intervals_narrower() -> None:
    widths = []
    for number in (3, 6, 12):
        groups = [_random((number, 400), 0.8, seed) for seed in (0, 1)]
        low, high = interval(Resampling([_fold(*groups)], num_draws=2_000, seed=0).difference(0, 1))
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 1.5 * 2 * 1.96 * (2 * 0.16 / 400 / 12) ** 0.5


def test_runs_of_the_same_seeds_are_drawn_together() -> None:
    """Two groups that differ by the same in every seed; with other seeds, or one seed twice, they are independent."""
    worse = np.array([[1] * a + [0] * (100 - a) for a in (50, 60, 90)])
    better = np.array([[1] * (a + 5) + [0] * (95 - a) for a in (50, 60, 90)])
    matched, apart, twice = (
        np.ptp(interval(Resampling([_fold(better, worse, seeds=seeds)], num_draws=2_000, seed=0).difference(0, 1)))
        for seeds in ([[0, 1, 2], [0, 1, 2]], [[0, 1, 2], [3, 4, 5]], [[0, 0, 2], [0, 0, 2]])
    )
    assert matched < 0.15 < 0.5 < apart and apart == pytest.approx(twice)


def test_folds_are_runs_as_well_and_weighted_by_their_pictures() -> None:
    """Of 30 pictures, all right, and 10, all wrong: 3/4, and half of a t of 1 degree is within 1: √(0.5 · 0.625)."""
    folds = [_fold(np.ones((1, 30)), np.ones((1, 30))), _fold(np.zeros((1, 10)), np.zeros((1, 10)))]
    draws = Resampling(folds, num_draws=8_000, seed=0).accuracy(0)
    assert np.median(draws) == pytest.approx(0.75, abs=0.03)
    assert (np.abs(draws - 0.75) < (0.5 * 0.625) ** 0.5).mean() == pytest.approx(0.5, abs=0.02)


def test_folds_that_differ_by_their_pictures_alone_add_little() -> None:
    folds = [_fold(_random((1, 100), 0.8, seed), _random((1, 100), 0.8, 50 + seed)) for seed in range(10)]
    draws = Resampling(folds, num_draws=4_000, seed=0).difference(0, 1)
    assert draws.std() < 1.5 * (2 * 0.16 / 1000) ** 0.5


@pytest.mark.parametrize(
    ("num_runs", "run_effect", "low"), [(1, 0.0, 0.93), (3, 0.0, 0.95), (3, 0.05, 0.93), (5, 0.05, 0.93)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(num_runs: int, run_effect: float, low: float) -> None:
    """Pictures of different difficulty, and runs that are better or worse as a whole; the true difference is 0."""
    rng = np.random.default_rng(0)
    held = []
    for trial in range(250):
        difficulty = rng.normal(0, 0.08, 200)
        groups = [
            rng.random((num_runs, 200)) < 0.8 + difficulty + rng.normal(0, run_effect, (num_runs, 1)) for _ in range(2)
        ]
        ends = interval(Resampling([_fold(*groups)], num_draws=400, seed=trial).difference(0, 1))
        held.append(ends[0] <= 0 <= ends[1])
    assert low <= np.mean(held) and (np.mean(held) < 0.985 or num_runs == 3)


@pytest.mark.parametrize(("num_runs", "width"), [(2, 0.2), (3, 0.15)])
def test_few_seeds_in_several_folds_are_estimated_together(num_runs: int, width: float) -> None:
    """Each fold's two or three runs alone would say little about other seeds: intervals of 1.2 and 0.21."""
    rng = np.random.default_rng(1)
    ends = []
    for trial in range(100):
        folds = []
        for _ in range(5):
            difficulty = rng.normal(0, 0.08, 110)
            shape = (num_runs, 110)
            groups = (rng.random(shape) < 0.83 + difficulty + rng.normal(0, 0.05, (num_runs, 1)) for _ in range(2))
            folds.append(_fold(*groups))
        ends.append(interval(Resampling(folds, num_draws=400, seed=trial).difference(0, 1)))
    low, high = np.array(ends).T
    assert ((low <= 0) & (high >= 0)).mean() >= 0.95
    assert (high - low).mean() < width


def test_the_probability_of_zero() -> None:
    assert probability_of_zero(np.array([-1.0] * 2 + [1.0] * 97)) == pytest.approx(2 * 3 / 100)
    assert probability_of_zero(np.array([0.3, -0.1, -0.2]) * 1e-16) == 1.0, "a sum of thirds is no exact 0"


def test_the_same_seed_draws_the_same() -> None:
    fold = _fold(_random((2, 30), 0.7, 0), _random((3, 30), 0.7, 1))
    first, again, other = (Resampling([fold], num_draws=50, seed=seed).difference(0, 1) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
