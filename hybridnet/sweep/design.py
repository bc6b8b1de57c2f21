"""Which settings were judged on the same pictures, and how far apart chance alone puts those that were."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
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
Folds = AbstractSet[str | None]  # digests of their pictures, or their names


class Design(NamedTuple):
    """How settings that have pictures in common are compared: by their seeds, or by their folds.

    Each fold has other pictures, easy ones or hard ones, for all settings alike. All settings have the same folds: what
    a fold makes of all of them is in no difference and no noise (a block design). Of several seeds in a fold the mean
    counts as one result: they share its pictures and are no independent witnesses of other ones.

    Attributes:
        noise: of runs (by seeds), or of the folds' means; None where none has two with different results.
        is_by_fold: whether a setting was judged on more than one set of pictures.
    """

    noise: Noise | None
    is_by_fold: bool

    def inverse_n(self, runs: Setting) -> float:
        """1/n of the mean of a setting."""
        return 1 / (len(_means(runs, has_digests=_have_digests([runs]))) if self.is_by_fold else len(runs))


def designed(settings: Sequence[Setting]) -> Design:
    """The design of settings that are compared with each other, as `on_common_folds` leaves them."""
    means = [_means(runs, has_digests=_have_digests(settings)) for runs in settings]
    if any(of_setting.keys() != means[0].keys() for of_setting in means):  # left out were the runs without a digest
        means = [_means(runs, has_digests=False) for runs in settings]
    if all(len(of_setting) < 2 for of_setting in means):
        return Design(pooled([run.value for run in runs] for runs in settings), False)
    return Design(blocked([[of_setting[fold] for fold in means[0]] for of_setting in means]), True)


def on_common_folds(settings: Sequence[Setting]) -> list[list[bool]]:
    """Which runs of each setting are to be compared: all of the same folds; none of a setting that lacks one.

    One whose job on a hard fold has failed would look better than it is. Either that fold is left out of all, or the
    setting: whichever leaves the noise the most degrees of freedom; then whichever leaves the most results.
    """
    found = [[False] * len(runs) for runs in settings]
    for places in _with_pictures_in_common(settings):
        has_digests = _have_digests([settings[place] for place in places])
        folds = {place: _means(settings[place], has_digests=has_digests).keys() for place in places}
        chosen = _most_telling([*folds.values()])
        for place in places:
            if chosen <= folds[place]:
                found[place] = [_block(run, has_digests) in chosen for run in settings[place]]
    return found


def _most_telling(folds: Sequence[Folds]) -> Folds:
    """Those that all settings have that are compared, of the folds of each setting."""

    def worth(chosen: Folds) -> tuple[int, int, int]:
        num_settings = sum(chosen <= own for own in folds)
        return (num_settings - 1) * (len(chosen) - 1), num_settings * len(chosen), num_settings

    common = functools.reduce(operator.and_, folds)
    return max([*folds, *([common] if common else [])], key=worth)


def mean(runs: Setting) -> float:
    """Of one run or more: every fold counts alike, however many of its seeds are complete."""
    of_folds = _means(runs, has_digests=_have_digests([runs])).values()
    return math.fsum(of_folds) / len(of_folds)


def _with_pictures_in_common(settings: Sequence[Setting]) -> list[list[int]]:
    """Places of settings that have pictures in common, or are connected by others that have."""
    found: list[list[int]] = []
    for place, runs in enumerate(settings):
        near = [group for group in found if any(have_pictures_in_common(runs, settings[other]) for other in group)]
        found = [group for group in found if group not in near] + [sorted([*itertools.chain(*near), place])]
    return found


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


def _have_digests(settings: Sequence[Setting]) -> bool:
    """Whether the digest tells the pictures of every run."""
    return all(run.pictures is not None for runs in settings for run in runs)


def _means(runs: Setting, *, has_digests: bool) -> dict[str | None, float]:
    values: dict[str | None, list[float]] = {}
    for run in runs:
        values.setdefault(_block(run, has_digests), []).append(run.value)
    return {fold: math.fsum(of_fold) / len(of_fold) for fold, of_fold in values.items()}


def _block(run: Judged, has_digests: bool) -> str | None:
    return run.pictures if has_digests else run.fold
