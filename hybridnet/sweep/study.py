"""What one or several sweeps have found: which settings were compared, and how they rank."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hybridnet import config
from hybridnet.errors import Fault, InputError
from hybridnet.monitor import direction
from hybridnet.sweep.ledger import Ledger, read_sweep
from hybridnet.sweep.outcome import Outcome, read_outcome
from hybridnet.sweep.record import Job
from hybridnet.sweep.settings import SEED, canonical, number, shown
from hybridnet.sweep.statistics import Noise, Spread, pooled, spread

UNKNOWN = "default"  # a key that was not typed, of a job that has no configuration yet
MOST_VALUES = 8  # of an axis; a number with more of them was drawn, not listed


@dataclass(frozen=True)
class Axis:
    """A setting that differs between the jobs.

    Attributes:
        key: as it is typed.
        name: the last part of the key, where that is clear.
        values: all it had; numbers in their order.
    """

    key: str
    name: str
    values: tuple[str, ...]

    @property
    def is_continuous(self) -> bool:
        """Whether it has so many numbers that they are not to be compared one by one, as in a random search."""
        others = [value for value in self.values if number(value) is None]
        return len(self.values) - len(others) > MOST_VALUES and set(others) <= {UNKNOWN}


@dataclass(frozen=True)
class Candidate:
    """Settings that were compared with others: jobs that differ in their seed alone.

    Attributes:
        values: one for each axis.
        outcomes: of all its jobs.
        counted: those of them that enter the mean, the best one first.
        result: their mean and spread; None where nothing counts.
    """

    values: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    counted: tuple[Outcome, ...]
    result: Spread | None


@dataclass(frozen=True)
class Study:
    """Jobs of one or several sweeps, compared.

    Attributes:
        folders: of the sweeps.
        config_dirs: the user's own configuration folder of each sweep, or None.
        monitor: the metric that is compared.
        axes: settings that differ, without the seed.
        outcomes: of all jobs.
        candidates: the best one first; those without a result at the end.
        noise: of the seeds; None where no settings have two with different results.
    """

    folders: tuple[Path, ...]
    config_dirs: Mapping[Path, str | None]
    monitor: str
    axes: tuple[Axis, ...]
    outcomes: tuple[Outcome, ...]
    candidates: tuple[Candidate, ...]
    noise: Noise | None
    _values: Mapping[int, Mapping[str, str]]

    @property
    def direction(self) -> int:
        """1 where more is better, else -1."""
        return direction(self.monitor)

    @cached_property
    def ranked(self) -> tuple[Candidate, ...]:
        """Candidates with a result, the best one first."""
        return tuple(candidate for candidate in self.candidates if candidate.result)

    @property
    def winner(self) -> Candidate | None:
        """The best candidate, if there is any result."""
        return self.ranked[0] if self.ranked else None

    @cached_property
    def counted(self) -> tuple[Outcome, ...]:
        """Outcomes that enter a mean, by number."""
        chosen = {id(outcome) for candidate in self.ranked for outcome in candidate.counted}
        return tuple(outcome for outcome in self.outcomes if id(outcome) in chosen)

    def having(self, *statuses: str) -> list[Outcome]:
        """Outcomes of jobs with one of these statuses."""
        return [outcome for outcome in self.outcomes if outcome.job.status in statuses]

    def value(self, outcome: Outcome, key: str) -> str:
        """What a job has at an axis, or at `seed`."""
        return self._values[id(outcome)][key]

    def is_within_noise(self, candidate: Candidate) -> bool | None:
        """Whether other seeds might have made it the winner of all that are ranked; None where that cannot be told."""
        if self.noise is None or self.winner is None or not candidate.result:
            return None
        best, own = self.winner.result, candidate.result
        margin = self.noise.margin(1 / best.n + 1 / own.n, num_comparisons=max(1, len(self.ranked) - 1))
        return abs(best.mean - own.mean) <= margin

    def described(self, candidate: Candidate) -> str:
        """`heads=4, dropout=0.1`."""
        return ", ".join(f"{axis.name}={shown(value)}" for axis, value in zip(self.axes, candidate.values, strict=True))


def read_study(folders: Sequence[Path]) -> Study:
    """Compare the jobs of one or several sweeps, whatever has become of them.

    Only complete jobs enter a mean. Pruned ones ended early, when they were clearly worse: they count only where no job
    at all is complete. A job that two sweeps have both done counts once, and so do two jobs of one sweep that differ in
    nothing that a complete training depends on, only in their pruner.

    Raises:
        InputError: for a folder without a sweep, a damaged record, and sweeps that watch different metrics.
    """
    folders = tuple(dict.fromkeys(folder.resolve() for folder in folders))
    asked = {folder: read_sweep(folder) for folder in folders}
    monitors = {content["monitor"]: folder for folder, content in asked.items()}
    if len(monitors) > 1:
        cause = ", ".join(f"{monitor} in {folder}" for monitor, folder in monitors.items())
        raise InputError(Fault("sweeps that cannot be compared", "monitor", cause, "report each of them by itself"))
    (monitor,) = monitors
    jobs = [(job, _letter(number) if len(folders) > 1 else "") for number, f in enumerate(folders) for job in _jobs(f)]
    outcomes = tuple(read_outcome(job, label=f"{letter}{job.number}", monitor=monitor) for job, letter in jobs)
    values = _values(outcomes)
    axes = tuple(_axes(values))
    places = [tuple(of_job[axis.key] for axis in axes) for of_job in values]
    candidates = _candidates(outcomes, places, [of_job[SEED] for of_job in values], monitor)
    noise = pooled([outcome.value for outcome in candidate.counted] for candidate in candidates)
    own = {id(outcome): found for outcome, found in zip(outcomes, values, strict=True)}
    config_dirs = {folder: content["config_dir"] for folder, content in asked.items()}
    return Study(folders, config_dirs, monitor, axes, outcomes, candidates, noise, own)


def _jobs(folder: Path) -> list[Job]:
    return Ledger(folder).jobs()


def _letter(place: int) -> str:
    letters = string.ascii_uppercase
    return letters[place] if place < len(letters) else f"{letters[place % len(letters)]}{place // len(letters)}-"


def _values(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """Of each outcome, what it has at every key that any of them was given; what is not typed is in its folder."""
    keys = dict.fromkeys([*(key for outcome in outcomes for key in outcome.typed), SEED])
    found = []
    for outcome in outcomes:
        known = {SEED: str(outcome.environment["seed"])} if "seed" in outcome.environment else {}
        known |= outcome.typed
        missing = [key for key in keys if key not in known]
        saved = config.saved_settings(outcome.job.folder, missing) if missing else {}
        known |= {key: canonical(value) for key, value in saved.items()}
        found.append({key: known.get(key, UNKNOWN) for key in keys})
    return found


def _axes(values: Sequence[Mapping[str, str]]) -> Iterator[Axis]:
    different = {}
    for key in values[0] if values else ():
        own = dict.fromkeys(of_job[key] for of_job in values)
        if key != SEED and len(own) > 1:
            different[key] = own
    short = [_last(key) for key in different]
    for key, own in different.items():
        name = _last(key) if short.count(_last(key)) == 1 else key
        yield Axis(key, name, tuple(sorted(own, key=_order)))


def _last(key: str) -> str:
    return key.replace("/", ".").rpartition(".")[2]


def _order(value: str) -> tuple[bool, float]:
    """Numbers by size, before all else in the order in which it came."""
    found = number(value)
    return (True, 0.0) if found is None else (False, found)


def _candidates(
    outcomes: Sequence[Outcome], places: Sequence[tuple[str, ...]], seeds: Sequence[str], monitor: str
) -> tuple[Candidate, ...]:
    grouped: dict[tuple[str, ...], list[Outcome]] = {}
    trainings: dict[int, tuple[object, ...]] = {}  # equal ones of one sweep, whatever their jobs' identities
    for place, seed, outcome in zip(places, seeds, outcomes, strict=True):
        grouped.setdefault(place, []).append(outcome)
        trainings[id(outcome)] = (outcome.job.folder.parent, place, seed)
    with_value = [outcome for outcome in outcomes if outcome.value is not None]
    complete = [outcome for outcome in with_value if outcome.job.status == "complete"] or with_value
    distinct = {outcome.job.identity: outcome for outcome in reversed(complete)}.values()
    distinct = {trainings[id(outcome)]: outcome for outcome in sorted(distinct, key=lambda o: -o.job.number)}.values()
    once = {id(outcome) for outcome in distinct}
    sign = direction(monitor)
    found = []
    for place, members in grouped.items():
        counted = [outcome for outcome in members if id(outcome) in once]
        counted.sort(key=lambda outcome: -sign * outcome.value)
        result = spread([outcome.value for outcome in counted]) if counted else None
        found.append(Candidate(place, tuple(members), tuple(counted), result))
    found.sort(key=lambda c: (c.result is None, -sign * c.result.mean if c.result else 0.0))
    return tuple(found)
