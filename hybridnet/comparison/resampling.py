"""What accuracies other pictures and other seeds would have given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybridnet.comparison.paired import Cell, Fold

CONFIDENCE = 0.95
MOST_NUMBERS = 4_000_000  # that are drawn at once


class Resampling:
    """Draws of the groups' accuracies and of their differences.

    Each draw takes with replacement, of each fold, as many units as it has: pictures, or groups of pictures that are
    not independent. They are the same for all groups, so differences are paired. Of few units the spread is little
    known: draws are spread as Student's t is.

    To that is added what other runs would have changed. Of n runs (or, where two groups have the same folds and seeds,
    of n differences run by run) with the variance s² between their accuracies, each draw takes another variance that
    they may have come from, s² (n - 1) / χ² with n - 1 degrees of freedom, less the part that the pictures explain:
    equally good runs, too, are right on different pictures, which is in the drawing of the pictures already. The mean
    is then moved by a normal number of the rest, divided by n. Where runs differ by much this is Student's t, and
    intervals of few runs are wide. The variance between seeds is taken to be the same in all folds, and so comes from
    all of them; to it comes that between the folds, in the same way. One run alone says nothing about other seeds: in a
    difference to several runs it is taken to vary as these do.

    Papers: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979), for the pictures;
        Weerahandi, "Generalized confidence intervals", Journal of the American Statistical Association 88 (1993), for
        what is left of a variance.

    Args:
        folds: with the answers.
        num_draws: B.
        seed: of the draws.
    """

    def __init__(self, folds: Sequence[Fold], *, num_draws: int, seed: int) -> None:
        self.folds = folds
        self.seed = seed
        rng = np.random.default_rng(seed)
        degrees = sum(len(np.unique(fold.units)) - 1 for fold in folds)
        widths = np.sqrt(degrees / np.random.default_rng((seed, 2)).chisquare(max(1, degrees), size=num_draws))
        self._of_folds = [_Drawn(fold, widths, rng) for fold in folds]
        sizes = np.array([len(fold.paths) for fold in folds], dtype=np.float64)
        self._shares = sizes / sizes.sum()

    def accuracy(self, group: int) -> np.ndarray:
        """float64 (B,)."""
        return self._draws([(1, [drawn.of_group(group) for drawn in self._of_folds])])

    def difference(self, first: int, second: int) -> np.ndarray:
        """The accuracy of a group minus that of another one; float64 (B,)."""
        mine, its = ([drawn.of_group(group) for drawn in self._of_folds] for group in (first, second))
        if all(fold.cells[first].is_paired_with(fold.cells[second]) for fold in self.folds):
            return self._draws([(1, [own.minus(other) for own, other in zip(mine, its, strict=True)])])
        return self._draws([(1, mine), (-1, its)])

    def _draws(self, terms: Sequence[tuple[int, Sequence[_Runs]]]) -> np.ndarray:
        """The sum of terms over all folds: a sign, and the runs of each fold."""
        rng = np.random.default_rng((self.seed, 1))
        spreads = [_between_runs(folds, rng) for _, folds in terms]
        others = next((spread for spread in spreads if spread is not None), np.zeros(1))
        of_folds = sum(  # (B, F)
            sign * _means(folds, others if spread is None else spread, rng)
            for (sign, folds), spread in zip(terms, spreads, strict=True)
        )
        actual = sum(sign * np.array([runs.actual.mean() for runs in folds]) for sign, folds in terms)
        found = of_folds @ self._shares
        if len(actual) == 1:
            return found
        squares, explained = float(actual.var()) * len(actual), float(of_folds.var(axis=0).mean())
        rest = _deviations(squares, len(actual) - 1, explained, len(found), rng)
        return found + rest * float((self._shares**2).sum()) ** 0.5 * rng.standard_normal(len(found))


class _Runs:
    """Some runs, or differences of runs, in one fold.

    Attributes:
        drawn: float64 (B, R), their accuracies in every draw.
        actual: float64 (R,), their accuracies.
    """

    def __init__(self, drawn: np.ndarray, of_units: np.ndarray, sizes: np.ndarray) -> None:
        self.drawn = drawn
        self._of_units, self._sizes = of_units, sizes  # (R, U), (U,)
        self.actual = of_units.sum(axis=1) / sizes.sum()

    def minus(self, other: _Runs) -> _Runs:
        """Run by run."""
        return _Runs(self.drawn - other.drawn, self._of_units - other._of_units, self._sizes)

    def explained(self) -> float:
        """The variance of a run's accuracy that would be there if all runs were equally good in the long run."""
        number, num_units = self._of_units.shape
        if number < 2 or num_units < 2:
            return 0.0
        beyond = (self.actual - self.actual.mean())[:, None] * self._sizes
        rest = self._of_units - self._of_units.mean(axis=0) - beyond
        return float((rest**2).sum()) / (number - 1) / self._sizes.sum() ** 2 * num_units / (num_units - 1)


class _Drawn:
    """One fold on drawn pictures.

    Args:
        fold: with the answers.
        widths: float64 (B,), by how much the accuracies of each draw are further from the actual ones.
        rng: draws.
    """

    def __init__(self, fold: Fold, widths: np.ndarray, rng: np.random.Generator) -> None:
        num_draws = len(widths)
        self._cells = fold.cells
        hits = np.concatenate([cell.correct for cell in fold.cells])  # (R of all groups, N)
        num_units = int(fold.units.max()) + 1
        counted = np.stack([np.bincount(fold.units, row, num_units) for row in (np.ones(len(fold.units)), *hits)])
        self._sizes, self._of_units = counted[0], counted[1:]
        # Units with the same hits are drawn as one: a few hundred patterns instead of fifty thousand pictures.
        patterns, counts = np.unique(counted.T, axis=0, return_counts=True)
        sums = np.empty((num_draws, patterns.shape[1]))
        step = max(1, MOST_NUMBERS // len(patterns))
        for start in range(0, num_draws, step):
            size = min(step, num_draws - start)
            sums[start : start + size] = rng.multinomial(num_units, counts / num_units, size=size) @ patterns
        actual = self._of_units.sum(axis=1) / self._sizes.sum()
        widths = widths * (num_units / max(1, num_units - 1)) ** 0.5  # as for a sample's variance
        self._accuracies = actual + widths[:, None] * (sums[:, 1:] / sums[:, :1] - actual)

    def of_group(self, group: int) -> _Runs:
        first = sum(len(cell.runs) for cell in self._cells[:group])
        cell: Cell = self._cells[group]
        place = slice(first, first + len(cell.runs))
        return _Runs(self._accuracies[:, place], self._of_units[place], self._sizes)


def _means(folds: Sequence[_Runs], spread: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean of each fold's runs in every draw, (B, F), moved as other runs of this spread would."""
    means = np.stack([runs.drawn.mean(axis=1) for runs in folds], axis=1)
    numbers = np.array([len(runs.actual) for runs in folds])
    return means + spread[:, None] / np.sqrt(numbers) * rng.standard_normal(means.shape)


def _between_runs(folds: Sequence[_Runs], rng: np.random.Generator) -> np.ndarray | None:
    """Standard deviations that other runs may have, beyond what the pictures explain, (B,); None of single runs."""
    degrees = sum(len(runs.actual) - 1 for runs in folds)
    if not degrees:
        return None
    squares = sum(float(runs.actual.var()) * len(runs.actual) for runs in folds)
    explained = sum(runs.explained() * (len(runs.actual) - 1) for runs in folds) / degrees
    return _deviations(squares, degrees, explained, len(folds[0].drawn), rng)


def _deviations(squares: float, degrees: int, explained: float, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Standard deviations that values may have come from, float64 (B,).

    Args:
        squares: sum of the squares of their deviations from their means.
        degrees: of freedom: how many values there are, less the means.
        explained: the part of their variance that has other causes and is not to be added.
        num_draws: B.
        rng: draws.
    """
    return np.sqrt((squares / rng.chisquare(degrees, size=num_draws) - explained).clip(0))


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Between which 95 % of the draws lie, as many below as above."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def probability_of_zero(draws: np.ndarray) -> float:
    """p of no difference, two-sided: twice the share of the draws on that side of 0 where fewer are."""
    rounded = np.round(draws, 12)  # a sum of thirds is no exact 0
    fewer = min(int((rounded <= 0).sum()), int((rounded >= 0).sum()))
    return min(1.0, 2 * (1 + fewer) / (1 + len(draws)))
