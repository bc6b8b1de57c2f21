"""What one job of a sweep came to, from the files of its run folder, whatever of them is there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hybridnet.files import read_if_whole
from hybridnet.monitor import direction
from hybridnet.sweep.record import DONE, Job
from hybridnet.sweep.settings import settings_of


@dataclass(frozen=True)
class Outcome:
    """A job with its results.

    Attributes:
        job: its record.
        label: its number; after a letter for its sweep where there are several.
        typed: the settings that were typed for it.
        metrics: of `metrics.json`, or empty.
        history: of `history.json`: a row for each epoch, or none.
        environment: of `environment.json`, or empty.
        value: the best of the monitored metric, of a job that is done.
    """

    job: Job
    label: str
    typed: Mapping[str, str]
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    value: float | None

    def curve(self, metric: str) -> tuple[list[int], list[float]]:
        """Epochs and values of a metric, without those that are not finite."""
        points = [(row.get("epoch"), row.get(metric)) for row in self.history]
        points = [(epoch, value) for epoch, value in points if is_finite(epoch) and is_finite(value)]
        return [epoch for epoch, _ in points], [value for _, value in points]

    def measured(self, name: str) -> float | None:
        """A number of its metrics, or None."""
        value = self.metrics.get(name)
        return value if is_finite(value) else None

    @property
    def pictures(self) -> str | None:
        """The digest of its validation pictures and their labels; None where it was not recorded."""
        return pictures_of(self.environment)

    @property
    def epochs(self) -> int:
        """That are complete."""
        return len(self.history)

    @property
    def cause(self) -> str:
        """Why it failed, in one line."""
        return " ".join((self.job.error or "no reason was recorded").split())


def read_outcome(job: Job, *, label: str, monitor: str) -> Outcome:
    """A job with what its run folder says; a file that is missing or damaged says nothing."""
    metrics, environment = (read_if_whole(job.folder / name) for name in ("metrics.json", "environment.json"))
    history = [row for row in read_if_whole(job.folder / "history.json", list) if isinstance(row, dict)]
    outcome = Outcome(job, label, settings_of(job.overrides), metrics, history, environment, None)
    if job.status not in DONE:
        return outcome
    _, values = outcome.curve(monitor)
    best = [max(values, key=lambda value: direction(monitor) * value)] if values else []
    return replace(outcome, value=next((v for v in (job.value, metrics.get(monitor), *best) if is_finite(v)), None))


def pictures_of(environment: Mapping[str, Any]) -> str | None:
    """The digest of a run's validation pictures and their labels, of its `environment.json`; None if it has none."""
    data = environment.get("data")
    return data.get("valid") if isinstance(data, Mapping) else None


def is_finite(value: object) -> bool:
    """Whether it is a number to reckon with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
