"""Which settings were judged on the same pictures, and how far apart chance alone puts those that were."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hybridnet.sweep.statistics import Noise, blocked, pooled


class Judged(NamedTuple):
    """A run's result.

    Attributes:
        value: of the metric.
        fold: whose pictures it was judged on, as text.
        pictures: digest of its validation pictures and their labels; None where it is not known.
    """

    value: float
    fold: str
    pictures: str | None


Setting = Sequence[Judged]  # the runs of one


class Design(NamedTuple):
    """How settings that have pictures in common are compared: by their seeds, or by their folds.

    Each fold has other pictures, easy ones or hard ones, for all settings alike. Where all settings have the same
    folds, what a fold makes of all of them is in no difference and no noise (a block design). Of several seeds in a
    fold the mean counts as one result: they share its pictures and are no independent witnesses of other ones.

    Attributes:
        noise: of runs (by seeds), or of the folds' means; None where none has two with different results.
        is_by_fold: whether a setting was judged on more than one set of pictures.
        is_blocked: whether all have the same folds, with as many runs in each.
        has_digests: whether the digest tells the pictures of every run.
    """

    noise: Noise | None
    is_by_fold: bool
    is_blocked: bool
    has_digests: bool

    def inverse_n(self, runs: Setting) -> float:
        """1/n of a mean over runs, or what stands for it where the folds' means are added with different weights."""
        counts = _counts(runs, self.has_digests).values() if self.is_by_fold else [1] * len(runs)
        return sum(count**2 for count in counts) / len(runs) ** 2


def designed(settings: Sequence[Setting]) -> Design:
    """The design of settings that are compared with each other."""
    has_digests = all(run.pictures is not None for runs in settings for run in runs)
    counts = [_counts(runs, has_digests) for runs in settings]
    if all(len(found) < 2 for found in counts):
        return Design(pooled([run.value for run in runs] for runs in settings), False, False, has_digests)
    means = [_means(runs, has_digests) for runs in settings]
    is_blocked = len(settings) > 1 and all(found == counts[0] for found in counts)
    if is_blocked:
        noise = blocked([[of_setting[fold] for fold in counts[0]] for of_setting in means])
    else:
        noise = pooled([*of_setting.values()] for of_setting in means)
    return Design(noise, True, is_blocked, has_digests)


def have_pictures_in_common(first: Setting, second: Setting) -> bool:
    """Whether any run of one setting was judged on the pictures of a run of the other.

    The digests say so; of a setting without any, the folds.
    """
    mine, its = ({run.pictures for run in runs} - {None} for runs in (first, second))
    if mine and its:
        return bool(mine & its)
    return bool({run.fold for run in first} & {run.fold for run in second})


def editions(runs: Iterable[tuple[str, str | None]]) -> list[int]:
    """Tell runs of equal settings apart whose table has changed: the same fold, other pictures.

    Args:
        runs: fold and digest of the pictures of each.

    Returns:
        Of each run 0, or 1, 2, … for the second, third, … content of its fold.
    """
    known: dict[str, list[str]] = {}
    found = []
    for fold, pictures in runs:
        of_fold = known.setdefault(fold, [])
        if pictures is not None and pictures not in of_fold:
            of_fold.append(pictures)
        found.append(0 if pictures is None else of_fold.index(pictures))
    return found


def _counts(runs: Setting, has_digests: bool) -> Counter[str | None]:
    return Counter(_block(run, has_digests) for run in runs)


def _means(runs: Setting, has_digests: bool) -> Mapping[str | None, float]:
    values: dict[str | None, list[float]] = {}
    for run in runs:
        values.setdefault(_block(run, has_digests), []).append(run.value)
    return {fold: math.fsum(of_fold) / len(of_fold) for fold, of_fold in values.items()}


def _block(run: Judged, has_digests: bool) -> str | None:
    return run.pictures if has_digests else run.fold
