"""What one setting, or two of them together, make of the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

from hybridnet.sweep.candidate import Candidate
from hybridnet.sweep.outcome import Outcome
from hybridnet.sweep.statistics import spread
from hybridnet.sweep.study import Axis, Study

MOST_CELLS = 12  # of a heat map in one direction


class Effect(NamedTuple):
    """Of one axis.

    Attributes:
        axis: that is looked at.
        jobs: by value, those that count.
        averaged: those of them that the means are over.
        means: by value. Where possible over combinations of the other settings that were tried with every value.
        spreads: by value, the standard deviation of the averaged jobs; None of a single one.
        num_fair: of such combinations; 0: none, and the means also differ in their other settings.
        has_same_pictures: whether all that is compared was judged on pictures of the winner's; else it cannot be told.
        is_noise: whether the best and the worst of so many means differ by no more than seeds or folds make; None if
            it cannot be told.
    """

    axis: Axis
    jobs: Mapping[str, list[Outcome]]
    averaged: Mapping[str, list[Outcome]]
    means: Mapping[str, float]
    spreads: Mapping[str, float | None]
    num_fair: int
    has_same_pictures: bool
    is_noise: bool | None


def effects(study: Study) -> list[Effect]:
    """Of every axis with a result for two values or more."""
    found = [_effect(study, place) for place in range(len(study.axes))]
    return [effect for effect in found if len(effect.means) > 1]


def _effect(study: Study, place: int) -> Effect:
    axis = study.axes[place]
    jobs: dict[str, list[Outcome]] = {}
    cells: dict[tuple[object, ...], dict[str, Candidate]] = {}
    for candidate in study.ranked:
        value = candidate.values[place]
        jobs.setdefault(value, []).extend(candidate.counted)
        cells.setdefault((candidate.edition, *candidate.values[:place], *candidate.values[place + 1 :]), {})[value] = (
            candidate
        )
    jobs = {value: sorted(jobs[value], key=study.outcomes.index) for value in axis.values if value in jobs}
    fair = [cell for cell in cells.values() if cell.keys() == jobs.keys()]
    of_fair = {id(outcome) for cell in fair for candidate in cell.values() for outcome in candidate.counted}
    averaged = {value: [o for o in found if not fair or id(o) in of_fair] for value, found in jobs.items()}
    spreads = {value: spread([outcome.value for outcome in found]) for value, found in averaged.items()}
    if fair:
        means = {value: math.fsum(cell[value].result.mean for cell in fair) / len(fair) for value in jobs}
    else:
        means = {value: found.mean for value, found in spreads.items()}
    is_noise = None
    has_same_pictures = all(study.is_comparable(candidate) for cell in fair for candidate in cell.values())
    if fair and study.noise and has_same_pictures and len(means) > 1:
        ends = max(means, key=means.get), min(means, key=means.get)
        inverse_n = sum(study.design.inverse_n(cell[value].judged) for cell in fair for value in ends) / len(fair) ** 2
        margin = study.noise.margin(inverse_n, num_comparisons=math.comb(len(means), 2))
        is_noise = abs(means[ends[0]] - means[ends[1]]) <= margin
    stds = {value: found.std for value, found in spreads.items()}
    return Effect(axis, jobs, averaged, means, stds, len(fair), has_same_pictures, is_noise)


class Interaction(NamedTuple):
    """Of two axes.

    Attributes:
        first, second: the axes.
        means: of the candidates at each pair of values that has a result.
        is_fair: whether these differ in nothing else, as the same other settings were tried with each pair, on pictures
            of the winner's.
    """

    first: Axis
    second: Axis
    means: Mapping[tuple[str, str], float]
    is_fair: bool


def interactions(study: Study) -> list[Interaction]:
    """Of every two axes that are no ranges of numbers, and have a result for two values each or more."""
    places = [place for place, axis in enumerate(study.axes) if not axis.is_continuous]
    found = []
    for first, second in combinations([place for place in places if len(study.axes[place].values) <= MOST_CELLS], 2):
        cells: dict[tuple[str, str], list[Candidate]] = {}
        for candidate in study.ranked:
            cells.setdefault((candidate.values[first], candidate.values[second]), []).append(candidate)
        means = {pair: math.fsum(c.result.mean for c in members) / len(members) for pair, members in cells.items()}
        rest = [place for place in range(len(study.axes)) if place not in (first, second)]
        others = {
            frozenset((c.edition, *(c.values[place] for place in rest)) for c in members) for members in cells.values()
        }
        is_fair = len(others) == 1 and len(study.comparable) == len(study.ranked)
        if all(len({pair[side] for pair in means}) > 1 for side in (0, 1)):
            found.append(Interaction(study.axes[first], study.axes[second], means, is_fair))
    return found
