from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from hybridnet.comparison.differences import BOOTSTRAP, MCNEMAR, SIGN_FLIP, Comparison, compared, only_one
from hybridnet.comparison.groups import grouped
from hybridnet.comparison.paired import paired
from hybridnet.comparison.significance import sign_flip
from hybridnet.comparison.trained import read_all
from hybridnet.inference.calibration import accuracy_interval
from tests.comparison.folders import CLASSES, answers, compare, read, write_run, write_study


def _two(folder: Path, first: list[int], second: list[int]) -> list[Path]:
    """Plain and ca, of which 1 is right and 0 wrong."""
    labels = [0] * len(first)
    told = ([1 - value for value in values] for values in (first, second))
    return [
        write_run(folder / model, labels, own, model=model) for model, own in zip(("plain", "ca"), told, strict=True)
    ]


def test_two_runs_by_hand(tmp_path: Path) -> None:
    """Of 20 pictures only the first gets 1 right, only the second 9: p = 22 / 1024, the difference 8 / 20."""
    first, second = [1] + [0] * 9 + [1] * 10, [0] + [1] * 9 + [1] * 10
    comparison = compare(_two(tmp_path, first, second), num_draws=4_000)
    (pair,) = comparison.pairs
    assert (pair.first, pair.second, pair.only_first, pair.only_second) == (1, 0, 9, 1)
    assert pair.difference == pytest.approx(0.4) and pair.test == MCNEMAR
    assert pair.p == pair.p_holm == pytest.approx(22 / 1024) and pair.p_pictures == pytest.approx(22 / 1024)
    assert (pair.p_runs, pair.t_test, pair.is_same, pair.is_beyond_chance) == (None, "", False, True)
    assert pair.low == pytest.approx(0.1, abs=0.051) and pair.high == pytest.approx(0.65, abs=0.051)
    assert comparison.accuracies[0].spread == (0.55, None, 1)
    assert comparison.accuracies[0].low < 0.55 < comparison.accuracies[0].high <= 1
    assert comparison.against_baseline(1) is pair and comparison.against_baseline(0) is None


def test_the_interval_of_one_run_is_that_of_evaluate(tmp_path: Path) -> None:
    """360 of 360, and the same in 90 groups of four pictures: 1 / (1 + 1.96² / n)."""
    runs = _two(tmp_path, [1] * 360, [1] * 350 + [0] * 10)
    right, wrong = compare(runs).accuracies
    assert (right.low, right.high) == pytest.approx((360 / (360 + 1.96**2), 1.0), abs=1e-5)
    assert (wrong.low, wrong.high) == accuracy_interval([True] * 350 + [False] * 10, [""] * 360)
    (right, _) = compare(runs, {f"{number}.png": str(number // 4) for number in range(360)}).accuracies
    assert (right.low, right.high) == pytest.approx((90 / (90 + 1.96**2), 1.0), abs=1e-5)


def test_several_runs_that_are_always_right_may_err_on_other_pictures(tmp_path: Path) -> None:
    """They have seen 60 pictures, not 180; in three folds, 180."""
    labels = [0] * 60
    runs = [write_run(tmp_path / f"plain{seed}", labels, labels, seed=seed, classes=CLASSES) for seed in range(3)]
    runs.append(write_run(tmp_path / "ca", labels, [1, *labels[1:]], model="ca"))
    several = compare(runs).accuracies[0]
    assert (several.low, several.high) == pytest.approx((60 / (60 + 1.96**2), 1.0), abs=1e-5)
    for fold, model in itertools.product(range(3), ("plain", "ca")):
        names = [f"{fold}/{number}.png" for number in range(60)]
        runs.append(write_run(tmp_path / f"{model}-{fold}", labels, labels, model=model, fold=fold, paths=names))
    of_folds = compare(runs[4:]).accuracies[0]
    assert (of_folds.low, of_folds.high) == pytest.approx((180 / (180 + 1.96**2), 1.0), abs=1e-5)


def test_the_interval_of_several_runs_has_the_other_seeds_in_it(tmp_path: Path) -> None:
    """Right on all pictures, or on none: no other pictures would show that, but other seeds."""
    labels = [0] * 40
    runs = [write_run(tmp_path / f"plain{seed}", labels, [seed % 2] * 40, seed=seed) for seed in range(4)]
    runs.append(write_run(tmp_path / "ca", labels, labels, model="ca"))
    accuracy = compare(runs, num_draws=2_000).accuracies[0]
    assert accuracy.low == 0 and accuracy.high == 1


def test_identical_runs_do_not_differ(tmp_path: Path) -> None:
    values = [1, 0, 1, 1, 1, 0]
    (pair,) = compare(_two(tmp_path, values, values)).pairs
    assert (pair.difference, pair.low, pair.high, pair.p, pair.p_pictures) == (0, 0, 0, 1, 1)
    assert pair.is_same and not pair.is_beyond_chance


def test_pictures_of_one_group_count_as_one(tmp_path: Path) -> None:
    """Nine pictures that only the second gets right, but of two groups: whole groups flip, p = 2 / 2^2."""
    first, second = [0] * 9 + [1] * 11, [1] * 20
    units = {f"{number}.png": "a" if number < 5 else "b" for number in range(9)}
    (pair,) = compare(_two(tmp_path, first, second), units).pairs
    assert pair.test == SIGN_FLIP and pair.p == pytest.approx(0.5) and not pair.is_beyond_chance


def test_groups_over_seeds(tmp_path: Path) -> None:
    comparison = compare(write_study(tmp_path, {"plain": 0.6, "hybrid": 0.9}), num_draws=2_000)
    (pair,) = comparison.pairs
    means = [[np.mean(row) for row in comparison.paired.folds[0].cells[group].correct] for group in (1, 0)]
    differences = np.subtract(*means)
    t = differences.mean() / (differences.std(ddof=1) / 3**0.5)
    assert pair.difference == pytest.approx(differences.mean()) and pair.low < pair.difference < pair.high
    assert pair.p_runs == pytest.approx(1 - t / math.sqrt(t**2 + 2)), "Student's t with 2 degrees"
    assert (pair.t_test, pair.test) == ("paired by seed", BOOTSTRAP[True, False])
    assert pair.p < 0.01 and pair.p_pictures < 0.001 and pair.is_beyond_chance
    accuracy = comparison.accuracies[1]
    assert accuracy.spread == pytest.approx((np.mean(means[0]), np.std(means[0], ddof=1), 3))
    assert accuracy.low < accuracy.spread.mean < accuracy.high


def test_runs_of_the_same_fold_are_paired_on_a_test_split(tmp_path: Path) -> None:
    """In whatever order they are named: 0.1 better in four of five folds, which differ by more; t = 4, 4 degrees."""
    labels = np.zeros(100, dtype=int)
    runs = []
    for model, plus in (("plain", 0), ("hybrid", 10)):
        for fold in range(5):
            told = (np.arange(100) >= 30 + 12 * fold + plus * (fold > 0)).astype(int)
            folder = tmp_path / f"{model}{fold}"
            runs.append(write_run(folder, labels, told, model=model, fold=fold, classes=CLASSES))
            (folder / "evaluation" / "test").mkdir(parents=True)
            (folder / "predictions.csv").rename(folder / "evaluation" / "test" / "predictions.csv")
    found = []
    for order in (runs, [*runs[:5], *runs[:4:-1]]):
        groups, _ = grouped(read_all(order, "test"))
        (pair,) = compared(paired(groups, None)[0], baseline=0, pairs="baseline", num_draws=2_000, seed=0).pairs
        found.append(pair)
    assert found[0] == found[1]
    assert found[0].t_test == "paired by fold and seed" and found[0].p_runs == pytest.approx(0.01613, rel=1e-3)
    assert found[0].p < 0.05


def test_other_numbers_of_seeds(tmp_path: Path) -> None:
    """Without pairs Welch's test; 3 and 2 runs make sixths, and p of the pictures stays that of whole numbers."""
    runs = write_study(tmp_path, {"plain": 0.6, "ca": 0.8})
    (pair,) = compare(runs[:5]).pairs
    assert pair.t_test == "Welch" and pair.p_runs is not None
    hits = [cell.correct.sum(axis=0) for cell in read(runs[:5]).folds[0].cells]
    assert pair.p_pictures == sign_flip(3 * hits[1] - 2 * hits[0]) < 1
    (alone,) = compare([runs[0], *runs[3:]]).pairs
    assert (alone.p_runs, alone.t_test, alone.test) == (None, "", BOOTSTRAP[True, False])


def test_other_pictures_and_seeds_are_no_surer_than_other_pictures_alone(tmp_path: Path) -> None:
    """Four pictures of 360 differ, the same ones with every seed: half of a half of a half of a half, two-sided."""
    labels = [0] * 360
    runs = [write_run(tmp_path / f"plain{seed}", labels, [1] * 4 + labels[4:], seed=seed) for seed in range(3)]
    runs += [write_run(tmp_path / f"ca{seed}", labels, labels, model="ca", seed=seed) for seed in range(3)]
    (pair,) = compare(runs).pairs
    assert pair.p == pair.p_pictures == pytest.approx(0.125) and pair.test == BOOTSTRAP[True, False]


def test_few_runs_tell_no_difference_larger_than_all_pictures(tmp_path: Path) -> None:
    labels = [0, 1] * 20
    wrong = [1, 0] * 20
    runs = [write_run(tmp_path / f"plain{seed}", labels, labels, seed=seed) for seed in range(2)]
    runs += [write_run(tmp_path / f"ca{seed}", labels, [wrong, labels][seed], model="ca", seed=seed) for seed in (0, 1)]
    (pair,) = compare(runs).pairs
    assert (pair.low, pair.high) == (-1, 1)


def test_folds_are_paired(tmp_path: Path) -> None:
    """Every picture counts once: folds of 20, 30 and 40 pictures."""
    runs, right = [], {}
    for number, model in enumerate(("plain", "ca")):
        for fold in range(3):
            labels = np.arange(20 + 10 * fold) % 3
            told = answers(labels, 0.5 + 0.4 * number, seed=10 * number + fold)
            right[model, fold] = told == labels
            names = [f"{fold}/{place}" for place in range(len(labels))]
            runs.append(write_run(tmp_path / f"{model}{fold}", labels, told, model=model, fold=fold, paths=names))
    comparison = compare(runs, num_draws=2_000)
    (pair,) = comparison.pairs
    shares = [np.concatenate([right[model, fold] for fold in range(3)]).mean() for model in ("ca", "plain")]
    assert pair.difference == pytest.approx(shares[0] - shares[1])
    assert comparison.accuracies[1].spread.mean == pytest.approx(shares[0])
    assert (pair.t_test, pair.test) == ("paired by fold", BOOTSTRAP[False, True])
    differences = [right["ca", fold].mean() - right["plain", fold].mean() for fold in range(3)]
    t = np.mean(differences) / (np.std(differences, ddof=1) / 3**0.5)
    assert pair.p_runs == pytest.approx(1 - t / math.sqrt(t**2 + 2))


def test_all_pairs_are_corrected_together(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"plain": 0.6, "ca": 0.7, "hybrid": 0.9}, seeds=1)
    few, many = compare(runs), compare(runs, pairs="all")
    assert [(pair.first, pair.second) for pair in many.pairs] == [(1, 0), (2, 0), (1, 2)]
    assert _of(many, 2).p == _of(few, 2).p and _of(many, 2).p_holm >= _of(few, 2).p_holm > _of(few, 2).p


def test_many_pairs_have_draws_enough_to_be_beyond_chance(tmp_path: Path) -> None:
    """15 pairs after Holm: with 500 draws that all agree p would be 15 · 2 / 501 = 0.06."""
    labels, runs = [0] * 60, []
    for number in range(6):
        told = [0] * (10 * number) + [1] * (60 - 10 * number)
        for seed in (0, 1):
            typed = {"model.heads": number}
            folder = tmp_path / f"{number}-{seed}"
            runs.append(write_run(folder, labels, told, seed=seed, typed=typed, classes=CLASSES))
    few, many = compare(runs), compare(runs, pairs="all")
    assert (few.num_draws, len(many.pairs), many.num_draws) == (500, 15, 1_500)
    assert many.pairs[4].p == pytest.approx(2 / 1501) and many.pairs[4].p_holm == pytest.approx(30 / 1501)
    assert many.pairs[4].is_beyond_chance


def _of(comparison: Comparison, group: int) -> object:
    return comparison.against_baseline(group)


def test_most_of_the_runs_decide_who_is_right() -> None:
    mine, its = np.array([1.0, 2 / 3, 0.5, 0.4, 1.0, 1.0]), np.array([0.0, 1 / 3, 0.0, 1.0, 1.0, 0.5])
    first, second = only_one(mine, its)
    assert first.tolist() == [True, True, False, False, False, False]  # a tie is neither right nor wrong
    assert second.tolist() == [False, False, False, True, False, False], "half of them are not most"
