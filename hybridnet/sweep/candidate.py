"""Settings that were tried: the jobs of each, and what these came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from hybridnet.monitor import direction
from hybridnet.sweep.design import Judged, editions, have_pictures_in_common, mean, on_common_folds
from hybridnet.sweep.outcome import Outcome
from hybridnet.sweep.settings import FOLD, REPLICATION, UNKNOWN, by_size
from hybridnet.sweep.statistics import Spread, spread


@dataclass(frozen=True)
class Candidate:
    """Settings that were compared with others: jobs that differ in their seed and fold alone.

    Attributes:
        values: one for each axis.
        edition: 0; 1, 2, … for the same settings on other pictures, of a table that has changed.
        outcomes: of all its jobs.
        counted: those of them that enter the mean, the best one first.
        left_out: those that have a result on a fold that not all compared settings have, or for which one is missing.
        judged: what the counted ones came to, and on which pictures.
        result: their mean, every fold counting alike, and their spread; None where nothing counts.
    """

    values: tuple[str, ...]
    edition: int
    outcomes: tuple[Outcome, ...]
    counted: tuple[Outcome, ...]
    left_out: tuple[Outcome, ...]
    judged: tuple[Judged, ...]
    result: Spread | None

    @property
    def folds(self) -> tuple[str, ...]:
        """Of the jobs that enter the mean, numbers by size."""
        return tuple(sorted({run.fold for run in self.judged}, key=by_size))


def comparable(ranked: Sequence[Candidate]) -> list[Candidate]:
    """Of candidates, the first and those that were judged on pictures of its."""
    return [candidate for candidate in ranked if have_pictures_in_common(ranked[0].judged, candidate.judged)]


def candidates_of(
    outcomes: Sequence[Outcome],
    places: Sequence[tuple[str, ...]],
    values: Sequence[Mapping[str, str]],
    monitor: str,
) -> tuple[Candidate, ...]:
    """Put together the jobs that differ in seed and fold alone.

    Args:
        outcomes: of all jobs.
        places: of each outcome, its values at the axes.
        values: of each outcome, by key.
        monitor: the metric.

    Returns:
        The best one first; those without a result at the end.
    """
    folds = {id(outcome): of_job.get(FOLD, UNKNOWN) for outcome, of_job in zip(outcomes, values, strict=True)}
    grouped = _by_place(outcomes, places, folds)
    settings = {id(outcome): setting for setting, members in grouped.items() for outcome in members}
    with_value = [outcome for outcome in outcomes if outcome.value is not None]
    complete = [outcome for outcome in with_value if outcome.job.status == "complete"] or with_value
    distinct = {(outcome.job.identity, settings[id(outcome)][1]): outcome for outcome in reversed(complete)}.values()
    replicates = [tuple(of_job.get(key) for key in REPLICATION) for of_job in values]
    trainings = {  # equal ones of one sweep, whatever their jobs' identities
        id(outcome): (outcome.job.folder.parent, settings[id(outcome)], replicate)
        for outcome, replicate in zip(outcomes, replicates, strict=True)
    }
    distinct = {trainings[id(outcome)]: outcome for outcome in sorted(distinct, key=lambda o: -o.job.number)}.values()
    once = {id(outcome) for outcome in distinct}
    sign = direction(monitor)
    with_result = [
        sorted((o for o in members if id(o) in once), key=lambda o: -sign * o.value) for members in grouped.values()
    ]
    judged = [[Judged(o.value, folds[id(o)], o.pictures) for o in members] for members in with_result]
    found = []
    for (place, edition), has, runs, chosen in zip(grouped, with_result, judged, on_common_folds(judged), strict=True):
        counted, runs = tuple(compress(has, chosen)), tuple(compress(runs, chosen))
        left_out = tuple(o for o, is_counted in zip(has, chosen, strict=True) if not is_counted)
        result = spread([run.value for run in runs])._replace(mean=mean(runs)) if runs else None
        found.append(Candidate(place, edition, tuple(grouped[place, edition]), counted, left_out, runs, result))
    found.sort(key=lambda c: (c.result is None, -sign * c.result.mean if c.result else 0.0))
    return tuple(found)


def _by_place(
    outcomes: Sequence[Outcome], places: Sequence[tuple[str, ...]], folds: Mapping[int, str]
) -> dict[tuple[tuple[str, ...], int], list[Outcome]]:
    """Outcomes of each place and edition."""
    at_place: dict[tuple[str, ...], list[Outcome]] = {}
    for place, outcome in zip(places, outcomes, strict=True):
        at_place.setdefault(place, []).append(outcome)
    found: dict[tuple[tuple[str, ...], int], list[Outcome]] = {}
    for place, members in at_place.items():
        numbers = editions((folds[id(outcome)], outcome.pictures) for outcome in members)
        for number, outcome in zip(numbers, members, strict=True):
            found.setdefault((place, number), []).append(outcome)
    return found
