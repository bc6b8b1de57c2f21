"""What accuracies other pictures and other seeds would have given: a bootstrap over both."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hybridnet.comparison.paired import Fold

CONFIDENCE = 0.95
MOST_NUMBERS = 4_000_000  # that are drawn at once


def accuracy_draws(folds: Sequence[Fold], *, num_draws: int, seed: int) -> np.ndarray:
    """Accuracies of all groups on drawn pictures, of drawn runs; float64 (num_draws, num_groups).

    Each draw takes, with replacement,

    - of each fold as many units as it has: pictures, or groups of pictures that are not independent;
    - of each group and fold as many runs as it has;
    - of several folds as many as there are.

    All groups have the same pictures and folds in a draw, and groups whose runs have the same seeds the same seeds: the
    difference of two columns is paired in all of them. What the drawing of n runs or folds adds to the variance is
    (n - 1) / n of what it should be, and is corrected by √(n / (n - 1)). One run alone says nothing about other seeds.

    The variance of the answers within a picture is in the pictures' part and in the runs': intervals over runs are
    somewhat too wide, rather than too narrow.

    Paper: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007).
    """
    rng = np.random.default_rng(seed)
    of_folds = np.stack([_fold_draws(fold, num_draws, rng) for fold in folds])  # (F, B, G)
    sizes = np.array([len(fold.paths) for fold in folds], dtype=np.float64)
    means = np.einsum("f,fbg->bg", sizes / sizes.sum(), of_folds)
    if len(folds) == 1:
        return means
    weights = rng.multinomial(len(folds), np.full(len(folds), 1 / len(folds)), size=num_draws) * sizes
    drawn = np.einsum("bf,fbg->bg", weights / weights.sum(axis=1, keepdims=True), of_folds)
    return means + math.sqrt(len(folds) / (len(folds) - 1)) * (drawn - means)


def _fold_draws(fold: Fold, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Accuracies of all groups in one fold, (B, G)."""
    hits = np.concatenate([cell.correct for cell in fold.cells])  # (R of all groups, N)
    num_units = int(fold.units.max()) + 1
    rows = np.stack([np.bincount(fold.units, values, num_units) for values in (np.ones(len(fold.units)), *hits)])
    # Units with the same hits are drawn as one: a few hundred patterns instead of fifty thousand pictures.
    patterns, counts = np.unique(rows.T, axis=0, return_counts=True)
    sums = np.empty((num_draws, patterns.shape[1]))
    step = max(1, MOST_NUMBERS // len(patterns))
    for start in range(0, num_draws, step):
        size = min(step, num_draws - start)
        sums[start : start + size] = rng.multinomial(num_units, counts / num_units, size=size) @ patterns
    accuracies = sums[:, 1:] / sums[:, :1]  # (B, R of all groups)
    weights: dict[tuple, np.ndarray] = {}
    found, first = [], 0
    for cell in fold.cells:
        number = len(cell.runs)
        own = accuracies[:, first : first + number]
        first += number
        mean = own.mean(axis=1)
        if number > 1:
            if cell.seeds not in weights:
                weights[cell.seeds] = rng.multinomial(number, np.full(number, 1 / number), size=num_draws) / number
            drawn = (weights[cell.seeds] * own).sum(axis=1)
            mean = mean + math.sqrt(number / (number - 1)) * (drawn - mean)
        found.append(mean)
    return np.stack(found, axis=1)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Between which 95 % of the draws lie, as many below as above."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def probability_of_zero(draws: np.ndarray) -> float:
    """p of no difference, two-sided: twice the share of the draws on that side of 0 where fewer are."""
    rounded = np.round(draws, 12)  # a sum of thirds is no exact 0
    fewer = min(int((rounded <= 0).sum()), int((rounded >= 0).sum()))
    return min(1.0, 2 * (1 + fewer) / (1 + len(draws)))
