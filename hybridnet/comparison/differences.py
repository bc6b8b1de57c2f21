"""Groups of runs two by two: how much they differ, and how much of it chance would make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from hybridnet.comparison import resampling, significance
from hybridnet.comparison.paired import Paired
from hybridnet.comparison.resampling import Resampling
from hybridnet.inference.calibration import accuracy_interval
from hybridnet.sweep.statistics import Spread, spread

LEVEL = 0.05
FEWEST_DRAWS = 100  # for each pair: p is 2 / (B + 1) at least, and Holm multiplies it by the number of pairs
MCNEMAR = "McNemar, exact"
SIGN_FLIP = "sign flip by groups of pictures, exact"
BOOTSTRAP = {(True, False): "bootstrap over pictures and seeds", (True, True): "bootstrap over pictures, seeds, folds"}
BOOTSTRAP |= {(False, True): "bootstrap over pictures and folds"}
Pairs = Literal["baseline", "all"]


@dataclass(frozen=True)
class Accuracy:
    """Of one group.

    Attributes:
        spread: mean over all pictures and runs, standard deviation of the runs.
        low, high: the interval of the mean: of one run that of `evaluate`; of several no narrower than that of their
            pictures.
    """

    spread: Spread
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two groups.

    Attributes:
        first, second: places of the groups; the first one is compared with the second.
        difference: of their accuracies.
        low, high: its interval.
        p: that decides; of which test, `test` says.
        p_holm: corrected for the number of pairs.
        p_pictures: other pictures might have made the difference, of these very runs.
        p_runs: other seeds (or folds) might have, by Student's t of the runs' accuracies; None where one run is alone.
        t_test: `paired by` seed, fold or both, `Welch`, or "".
        only_first, only_second: pictures that most runs of the first, or of the second, get right, and most of the
            other's wrong.
        is_same: whether both have said the same of every picture.
    """

    first: int
    second: int
    difference: float
    low: float
    high: float
    p: float
    test: str
    p_holm: float
    p_pictures: float
    p_runs: float | None
    t_test: str
    only_first: int
    only_second: int
    is_same: bool

    @property
    def is_beyond_chance(self) -> bool:
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        paired: what was compared.
        baseline: place of a group.
        accuracies: of all groups.
        pairs: every group with the baseline first.
        num_draws: of the bootstrap.
    """

    paired: Paired
    baseline: int
    accuracies: tuple[Accuracy, ...]
    pairs: tuple[Pair, ...]
    num_draws: int

    def against_baseline(self, group: int) -> Pair | None:
        """The pair of a group and the baseline; None for the baseline itself."""
        return next((pair for pair in self.pairs if (pair.first, pair.second) == (group, self.baseline)), None)

    def name(self, group: int) -> str:
        return self.paired.groups[group].name


def compared(paired: Paired, *, baseline: int, pairs: Pairs, num_draws: int, seed: int) -> Comparison:
    """Compare the groups with the baseline, and with each other if `pairs` is `all`.

    Args:
        paired: the runs.
        baseline: place of a group.
        pairs: which of them.
        num_draws: of the bootstrap; 100 for each pair if that is more, or none of many could be beyond chance.
        seed: of the bootstrap.
    """
    others = [place for place in range(len(paired.groups)) if place != baseline]
    chosen = [(place, baseline) for place in others]
    chosen += combinations(others, 2) if pairs == "all" else []
    num_draws = max(num_draws, FEWEST_DRAWS * len(chosen))
    draws = Resampling(paired.folds, num_draws=num_draws, seed=seed)
    found = [_pair(paired, first, second, draws.difference(first, second)) for first, second in chosen]
    corrected = significance.holm([pair.p for pair in found])
    found = [replace(pair, p_holm=p) for pair, p in zip(found, corrected, strict=True)]
    accuracies = [_accuracy(paired, group, draws.accuracy(group)) for group in range(len(paired.groups))]
    return Comparison(paired, baseline, tuple(accuracies), tuple(found), num_draws)


def _accuracy(paired: Paired, group: int, draws: np.ndarray) -> Accuracy:
    of_runs = spread(paired.accuracies(group))
    low, high = _of_pictures(paired, group)
    if of_runs.n > 1:  # a bootstrap alone has no width where all answers are right
        ends = resampling.interval(draws.clip(0, 1))
        low, high = min(low, ends[0]), max(high, ends[1])
    return Accuracy(of_runs._replace(mean=float(paired.shares(group).mean())), low, high)


def _of_pictures(paired: Paired, group: int) -> tuple[float, float]:
    """The interval that other pictures make of a group's accuracy; its runs' answers to a picture are one unit."""
    is_right, units = [], []
    for place, fold in enumerate(paired.folds):
        correct = fold.cells[group].correct  # (R, N)
        is_right += correct.ravel().tolist()
        units += [f"{place}/{unit}" for unit in fold.units.tolist()] * len(correct)
    return accuracy_interval(is_right, units)


def _pair(paired: Paired, first: int, second: int, draws: np.ndarray) -> Pair:
    mine, its = paired.shares(first), paired.shares(second)
    only_first, only_second = (int(found.sum()) for found in only_one(mine, its))
    low, high = resampling.interval(draws.clip(-1, 1))
    p_pictures = significance.sign_flip(_whole_differences(paired, first, second))
    most_runs = max(len(fold.cells[group].runs) for fold in paired.folds for group in (first, second))
    over_runs, over_folds = most_runs > 1, len(paired.folds) > 1
    if over_runs or over_folds:
        # Where few pictures differ the draws alone are too sure; more than the pictures can vary, and not less.
        p, test = max(p_pictures, resampling.probability_of_zero(draws)), BOOTSTRAP[over_runs, over_folds]
    elif paired.num_units < paired.num_pictures:
        p, test = p_pictures, SIGN_FLIP
    else:
        p, test = significance.mcnemar(only_first, only_second), MCNEMAR
    p_runs, t_test = _of_runs(paired, first, second)
    difference = float((mine - its).mean())
    is_same = paired.has_same_answers(first, second)
    return Pair(
        *(first, second, difference, low, high, p, test, p, p_pictures, p_runs, t_test),
        *(only_first, only_second, is_same),
    )


def only_one(mine: np.ndarray, its: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures most runs of one group get right and most of the other get wrong.

    A tie is neither right nor wrong, or it would count against the group with an even number of runs.

    Args:
        mine, its: of every picture, which share of a group's runs are right.

    Returns:
        bool (N,) each.
    """
    return (mine > 0.5) & (its < 0.5), (its > 0.5) & (mine < 0.5)


def _whole_differences(paired: Paired, first: int, second: int) -> np.ndarray:
    """Of each unit, how many times more often the first group is right, in a part of a run that makes them whole."""
    cells = [(fold, fold.cells[first].correct, fold.cells[second].correct) for fold in paired.folds]
    parts = math.lcm(*(len(correct) for _, *both in cells for correct in both))
    found = []
    for fold, mine, its in cells:
        of_pictures = mine.sum(axis=0) * (parts // len(mine)) - its.sum(axis=0) * (parts // len(its))
        of_units = np.zeros(int(fold.units.max()) + 1, dtype=np.int64)
        np.add.at(of_units, fold.units, of_pictures)
        found.append(of_units)
    whole = np.concatenate(found)
    return whole // max(1, int(np.gcd.reduce(whole)))


def _of_runs(paired: Paired, first: int, second: int) -> tuple[float | None, str]:
    """p of the runs' accuracies by Student's t-test, and which."""
    means = [[_means(fold.cells[group].correct) for fold in paired.folds] for group in (first, second)]
    if len(paired.folds) > 1:
        differences = [np.mean(mine) - np.mean(its) for mine, its in zip(*means, strict=True)]
        return significance.paired_t(differences), "paired by fold"
    (mine,), (its,) = means
    cells = [paired.folds[0].cells[group] for group in (first, second)]
    if cells[0].is_paired_with(cells[1]) and len(mine) > 1:
        is_by_seed = len({run.seed for run in cells[0].runs}) == len(mine)
        return significance.paired_t(_differences(mine, its)), f"paired by {'seed' if is_by_seed else 'fold and seed'}"
    p = significance.welch(mine, its)
    return p, "" if p is None else "Welch"


def _means(correct: np.ndarray) -> list[float]:
    return [float(row.mean()) for row in correct]


def _differences(mine: Sequence[float], its: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(mine, its, strict=True)]
