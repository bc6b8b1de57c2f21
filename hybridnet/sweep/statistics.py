"""Means, spreads, and which differences are more than what another seed or fold would make as well."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
ROUNDING = 1e-12  # of a difference that is none
SMALLEST, LARGEST = 1e-3, 1e4  # that is shown with four decimals


class Spread(NamedTuple):
    """Of some values.

    Attributes:
        mean: of them.
        std: the sample's (n - 1); None of a single value.
        n: how many.
    """

    mean: float
    std: float | None
    n: int

    def text(self) -> str:
        """`0.9312 ± 0.0041`."""
        if self.std is None:
            return figure(self.mean)
        is_fixed = SMALLEST <= abs(self.mean) < LARGEST
        return f"{figure(self.mean)} ± {self.std:.4f}" if is_fixed else f"{figure(self.mean)} ± {self.std:.3g}"


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of one value or more."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, 1)
    return Spread(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)), len(values))


class Noise(NamedTuple):
    """How far results are apart that differ in their seed, or fold, alone.

    Attributes:
        std: pooled over all groups of such results.
        degrees: of freedom that it was found with.
        num_groups: of at least two results.
    """

    std: float
    degrees: int
    num_groups: int

    def margin(self, inverse_n: float, *, num_comparisons: int) -> float:
        """The largest difference of two means that this noise alone makes, in 95 of 100 cases: Student's t.

        Where two means were chosen for their difference, any two of them might have been: so many differences are
        within it, all of them, in 95 of 100 cases or more (Bonferroni).

        Args:
            inverse_n: 1/n of the one mean plus 1/n of the other.
            num_comparisons: differences that might have been the one that is looked at.
        """
        from scipy.special import stdtrit  # of scikit-learn's needs; scipy.stats takes a second to import

        outside = (1 - CONFIDENCE) / num_comparisons
        return float(stdtrit(self.degrees, 1 - outside / 2)) * self.std * math.sqrt(inverse_n)


def pooled(groups: Iterable[Sequence[float]]) -> Noise | None:
    """The noise within groups of values; None where no group has two that differ.

    Accuracies on a few hundred pictures are the same by chance, which does not mean that seeds make no difference.
    """
    groups = [values for values in groups if len(values) >= 2]
    if all(len(set(values)) == 1 for values in groups):
        return None
    spreads = [spread(values) for values in groups]
    degrees = sum(found.n - 1 for found in spreads)
    squares = math.fsum((found.n - 1) * (found.std or 0.0) ** 2 for found in spreads)
    return Noise(math.sqrt(squares / degrees), degrees, len(spreads))


def blocked(table: Sequence[Sequence[float]]) -> Noise | None:
    """The noise that is left where every column has moved all rows alike; None where nothing is left.

    The residuals of rows and columns that add up: a randomized block design, (R - 1)(C - 1) degrees of freedom.

    Args:
        table: R rows (settings) of C values (one of each block), R and C >= 2.
    """
    rows = [math.fsum(values) / len(values) for values in table]
    columns = [math.fsum(values) / len(values) for values in zip(*table, strict=True)]
    mean = math.fsum(rows) / len(rows)
    residuals = [
        value - row - column + mean
        for row, values in zip(rows, table, strict=True)
        for column, value in zip(columns, values, strict=True)
    ]
    largest = max(abs(value) for values in table for value in values)
    if all(abs(residual) <= ROUNDING * largest for residual in residuals):
        return None
    degrees = (len(rows) - 1) * (len(columns) - 1)
    return Noise(math.sqrt(math.fsum(residual**2 for residual in residuals) / degrees), degrees, len(rows))


def figure(value: float) -> str:
    """A metric for people: four decimals, or three digits where that would show nothing."""
    return f"{value:.4f}" if value == 0 or SMALLEST <= abs(value) < LARGEST else f"{value:.3g}"
