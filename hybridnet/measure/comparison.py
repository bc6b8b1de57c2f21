"""Models one against another: each is timed beside the reference, two at a time, so that large batches fit."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hybridnet.measure.memory import Peak
from hybridnet.measure.rounds import Series, Spread, Stopwatch, interleaved, num_calls
from hybridnet.measure.works import Case, Task, Work, make_work
from hybridnet.trainer.device import is_out_of_memory
from hybridnet.trainer.supervised import Trainer

OUT_OF_MEMORY = "out of memory"


class Subject(NamedTuple):
    """A model and how its steps are carried out (`trainer.compile`)."""

    case: Case
    mode: str


@dataclass
class Measurement:
    """Of one subject at one task and batch size.

    Attributes:
        series: its times.
        peak_bytes: memory for model, optimizer, batch and all between; None where nothing counts it.
        speed: how many times as fast as the reference.
        memory: how many times the reference's memory.
        note: why there are no times, or "".
    """

    series: Series = field(default_factory=Series)
    peak_bytes: int | None = None
    speed: Spread | None = None
    memory: float | None = None
    note: str = ""


class Key(NamedTuple):
    """What was measured."""

    subject: Subject
    batch_size: int


Results = Mapping[Key, Mapping[Task, Measurement]]


class Comparison:
    """Compares subjects with the first of them.

    Args:
        trainers: for every mode; of one device and precision.
        num_classes: of the models.
        rounds: of the timing.
        seconds: that one measurement lasts at least.
    """

    def __init__(self, trainers: Mapping[str, Trainer], *, num_classes: int, rounds: int, seconds: float) -> None:
        self.trainers = trainers
        self.num_classes = num_classes
        self.rounds = rounds
        self.seconds = seconds
        self.device = next(iter(trainers.values())).device
        self.stopwatch = Stopwatch(self.device)
        self._used: set[tuple[Task, int]] = set()

    def measured(
        self, subjects: Sequence[Subject], task: Task, batch_size: int
    ) -> Iterator[tuple[Subject, Measurement]]:
        """Every subject with its measurement; the reference's grows with every pair and comes each time before it."""
        first, *others = subjects
        if (task, batch_size) not in self._used:
            self._used.add((task, batch_size))
            self._prepared(first, task, batch_size)  # what the libraries keep from a first use is nobody's memory
        reference, its_call = self._prepared(first, task, batch_size)
        if not others:
            yield first, self._timed(reference, its_call, Measurement(), None)
        for other in others:
            found, call = self._prepared(other, task, batch_size)
            found = self._timed(found, call, reference, its_call)
            del call
            yield first, reference
            yield other, found

    def _prepared(self, subject: Subject, task: Task, batch_size: int) -> tuple[Measurement, tuple | None]:
        """Its memory; and its call, warm, with how often it shall be timed in a round."""
        found = Measurement()
        subject.case.blueprint(num_classes=self.num_classes)  # before memory is counted
        try:
            peak = Peak(self.device)
            trainer = self.trainers[subject.mode]
            work: Work = make_work(subject.case, task, batch_size, trainer=trainer, num_classes=self.num_classes)
            number = num_calls(work.call, self.stopwatch, warm_ups=work.warm_ups, seconds=self.seconds)
            found.peak_bytes = peak.read()
            return found, (work.call, number)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        found.note = OUT_OF_MEMORY
        gc.collect()
        return found, None

    def _timed(
        self, found: Measurement, call: tuple | None, reference: Measurement, its_call: tuple | None
    ) -> Measurement:
        if call is None:
            return found
        calls = [pair for pair in (its_call, call) if pair is not None]
        try:
            *theirs, found.series = interleaved(calls, rounds=self.rounds, stopwatch=self.stopwatch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            found.note = OUT_OF_MEMORY
            return found
        for series in theirs:
            found.speed = found.series.speed_against(series)
            reference.series.means += series.means
            reference.series.singles += series.singles
            if found.peak_bytes and reference.peak_bytes:
                found.memory = found.peak_bytes / reference.peak_bytes
        return found
