"""What one or several sweeps have found: which settings were compared, and how they rank."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hybridnet import config
from hybridnet.errors import Fault, InputError
from hybridnet.monitor import direction
from hybridnet.sweep.candidate import Candidate, candidates_of, comparable
from hybridnet.sweep.design import Design, designed
from hybridnet.sweep.ledger import Ledger, read_sweep
from hybridnet.sweep.outcome import Outcome, read_outcome
from hybridnet.sweep.record import Job
from hybridnet.sweep.settings import FOLD, REPLICATION, SEED, UNKNOWN, by_size, canonical, number, shown
from hybridnet.sweep.statistics import Noise

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
class Study:
    """Jobs of one or several sweeps, compared.

    Attributes:
        folders: of the sweeps.
        config_dirs: the user's own configuration folder of each sweep, or None.
        monitor: the metric that is compared.
        is_search: whether the settings of one of the sweeps were chosen by the results of others.
        axes: settings that differ, without seed and fold.
        outcomes: of all jobs.
        candidates: the best one first; those without a result at the end.
        design: how the winner and those that were judged on pictures of its are compared.
    """

    folders: tuple[Path, ...]
    config_dirs: Mapping[Path, str | None]
    monitor: str
    is_search: bool
    axes: tuple[Axis, ...]
    outcomes: tuple[Outcome, ...]
    candidates: tuple[Candidate, ...]
    design: Design
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
    def _are_comparable(self) -> set[int]:
        return {id(candidate) for candidate in self.comparable}

    def is_comparable(self, candidate: Candidate) -> bool:
        """Whether it was judged on pictures of the winner's."""
        return id(candidate) in self._are_comparable

    @cached_property
    def counted(self) -> tuple[Outcome, ...]:
        """Outcomes that enter a mean, by number."""
        chosen = {id(outcome) for candidate in self.ranked for outcome in candidate.counted}
        return tuple(outcome for outcome in self.outcomes if id(outcome) in chosen)

    @property
    def noise(self) -> Noise | None:
        """Of the seeds, or folds; None where no settings have two with different results."""
        return self.design.noise

    @property
    def replication(self) -> tuple[str, ...]:
        """The seed; before it the fold, where not all jobs have the same."""
        folds = {of_job.get(FOLD) for of_job in self._values.values()}
        return (FOLD, SEED) if len(folds) > 1 else (SEED,)

    @property
    def folds(self) -> tuple[str, ...]:
        """Those that the winner was trained on, where the study has several; else none: the fold is then a setting."""
        known = [fold for fold in self.winner.folds if fold != UNKNOWN] if self.winner else []
        return tuple(known) if FOLD in self.replication else ()

    @cached_property
    def comparable(self) -> tuple[Candidate, ...]:
        """The winner, and the others of the ranked that were judged on pictures of its."""
        return tuple(comparable(self.ranked))

    def having(self, *statuses: str) -> list[Outcome]:
        """Outcomes of jobs with one of these statuses."""
        return [outcome for outcome in self.outcomes if outcome.job.status in statuses]

    def value(self, outcome: Outcome, key: str) -> str:
        """What a job has at an axis, or at a key of `replication`."""
        return self._values[id(outcome)][key]

    @property
    def num_comparisons(self) -> int:
        """Pairs of settings, of which that of the winner and any other might have been another one by chance."""
        return math.comb(max(2, len(self.comparable)), 2)

    def is_within_noise(self, candidate: Candidate) -> bool | None:
        """Whether other seeds, or folds, might have made it the winner; None where that cannot be told."""
        if self.noise is None or self.winner is None or not self.is_comparable(candidate):
            return None
        assert self.winner.result is not None and candidate.result is not None
        inverse_n = self.design.inverse_n(self.winner.judged) + self.design.inverse_n(candidate.judged)
        margin = self.noise.margin(inverse_n, num_comparisons=self.num_comparisons)
        return abs(self.winner.result.mean - candidate.result.mean) <= margin

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
    candidates = candidates_of(outcomes, places, values, monitor)
    ranked = [candidate for candidate in candidates if candidate.result]
    design = designed([candidate.judged for candidate in comparable(ranked)])
    own = {id(outcome): found for outcome, found in zip(outcomes, values, strict=True)}
    config_dirs = {folder: content["config_dir"] for folder, content in asked.items()}
    is_search = any(content["is_search"] for content in asked.values())
    return Study(folders, config_dirs, monitor, is_search, axes, outcomes, candidates, design, own)


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
        if key not in REPLICATION and len(own) > 1:
            different[key] = own
    short = [_last(key) for key in different]
    for key, own in different.items():
        name = _last(key) if short.count(_last(key)) == 1 else key
        yield Axis(key, name, tuple(sorted(own, key=by_size)))


def _last(key: str) -> str:
    return key.replace("/", ".").rpartition(".")[2]
