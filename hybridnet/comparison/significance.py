"""Probabilities of differences that chance alone would make."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MOST_STEPS = 40_000_000  # of a sign-flip test, a second or two; sums of so many and so different are as good as normal


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact p of McNemar's test, two-sided: how many pictures only one of two runs gets right.

    Under the null hypothesis each of them is the first's or the second's with probability 1/2: a binomial test.

    Paper: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
        Psychometrika 12 (1947).
    """
    from scipy.special import bdtr  # of scikit-learn's needs; scipy.stats takes a second to import

    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def sign_flip(differences: np.ndarray) -> float:
    """Exact p of the paired permutation test, two-sided: every difference may as well have the other sign.

    The distribution of the sum over all 2^N choices of signs comes from its characteristic function, the product of
    cos(t d): no drawing. With differences of -1, 0 and 1 it is McNemar's test.

    Paper: Pitman, "Significance Tests Which May be Applied to Samples from any Populations", Supplement to the Journal
        of the Royal Statistical Society 4 (1937).

    Args:
        differences: int64 (N,), of independent units.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    observed, largest = abs(int(differences.sum())), int((sizes * counts).sum())
    if not observed:
        return 1.0
    length = 2 * largest + 2
    if length * len(sizes) > MOST_STEPS:
        return math.erfc(observed / math.sqrt(2 * float((sizes.astype(float) ** 2 * counts).sum())))
    turns = np.arange(length // 2 + 1) * (2 * math.pi / length)
    characteristic = np.ones(len(turns))
    for size, count in zip(sizes, counts, strict=True):
        characteristic *= np.cos(size * turns) ** count
    of_sums = np.fft.irfft(characteristic, length)  # of sum s at place s modulo the length; symmetric
    return float(np.clip(2 * of_sums[observed : largest + 1].sum(), 0.0, 1.0))


def paired_t(differences: Sequence[float]) -> float | None:
    """p of Student's t-test for paired values, two-sided; None of one pair, or where all differ by the same."""
    values = np.asarray(differences, dtype=np.float64)
    if not values.any():
        return 1.0 if len(values) > 1 else None
    if len(values) < 2 or np.ptp(values) < 1e-12:
        return None
    return _two_sided(values.mean() / math.sqrt(values.var(ddof=1) / len(values)), len(values) - 1)


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """p of Welch's t-test for values that belong to no pairs, two-sided; None where it cannot be told.

    Paper: Welch, "The generalization of 'Student's' problem when several different population variances are involved",
        Biometrika 34 (1947).
    """
    if min(len(first), len(second)) < 2:
        return None
    parts = [np.var(values, ddof=1) / len(values) for values in (first, second)]
    total = sum(parts)
    if total < 1e-24:
        return None
    degrees = total**2 / sum(part**2 / (len(of) - 1) for part, of in zip(parts, (first, second), strict=True))
    return _two_sided((np.mean(first) - np.mean(second)) / math.sqrt(total), float(degrees))


def holm(probabilities: Sequence[float]) -> list[float]:
    """Corrected for that so many comparisons were made: the chance of any false finding stays below the level.

    Paper: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
    """
    corrected, largest = [0.0] * len(probabilities), 0.0
    for rank, place in enumerate(sorted(range(len(probabilities)), key=probabilities.__getitem__)):
        largest = max(largest, min(1.0, (len(probabilities) - rank) * probabilities[place]))
        corrected[place] = largest
    return corrected


def _two_sided(t: float, degrees: float) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(t)))
