"""When a training's state is recorded: in time, on request, and before a failure of its data costs any step."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from hybridnet.errors import Fault, Stopped, TrainingError
from hybridnet.trainer.protocols import CheckpointRecorder
from hybridnet.trainer.state import ADVICE, Training

T = TypeVar("T")

NOTHING, RECORD, STOP = range(3)  # what a rank wants; all do what one of them wants most

# Asked between two steps: the exception that shall end the training, or None.
Stop = Callable[[], BaseException | None]


class Checkpoints:
    """Records the state of a training. Its ranks do so together: all must come to the same places.

    Args:
        training: whose state it is.
        recorder: gets it.
        stop: asked between two steps; what it returns is raised once the state is recorded.
        minutes: the longest time between two records.
    """

    def __init__(self, training: Training, recorder: CheckpointRecorder, stop: Stop, *, minutes: float) -> None:
        self.training = training
        self.recorder = recorder
        self.stop = stop
        self.seconds = 60 * minutes
        self._recorded_at = time.monotonic()  # which no correction of the system's clock changes

    def epoch(self) -> None:
        """At the end of an epoch."""
        self.recorder.epoch(self.training.state, self.training.state_dict())
        self._recorded_at = time.monotonic()

    def between_steps(self) -> None:
        """Between two steps, or two batches of the validation."""
        stopped = self.stop()
        is_due = time.monotonic() - self._recorded_at >= self.seconds
        wish = self.training.ranks.largest(STOP if stopped else RECORD if is_due else NOTHING)
        if wish != NOTHING:
            self.within_epoch()
        if wish == STOP:
            raise stopped or Stopped(signal.SIGTERM)

    def stop_if_asked(self) -> None:
        """Where the state is recorded, or there is none yet."""
        stopped = self.stop()
        if self.training.ranks.largest(STOP if stopped else NOTHING) == STOP:
            raise stopped or Stopped(signal.SIGTERM)

    def within_epoch(self) -> None:
        """Record a state that is worth continuing.

        Raises:
            TrainingError: if a loss or a weight is not finite.
        """
        self.training.read()
        if not self.training.has_finite_weights():
            where = f"epoch {self.training.state.epoch + 1}, step {self.training.state.step}"
            raise TrainingError(Fault("weights that are not finite", where, self.training.describe_rates(), ADVICE))
        self.recorder.save(self.training.state, self.training.state_dict())
        self._recorded_at = time.monotonic()

    def guarded(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches; if their source fails, the steps so far are recorded before it is passed on.

        Not where other ranks would have to take part, which know nothing of it.
        """
        source = iter(batches)
        while True:
            try:
                batch = next(source, None)
            except Exception:
                if self.training.ranks.num == 1:
                    if self.training.state.batch:
                        self.within_epoch()
                    self.stop_if_asked()  # what asks to stop may have ended the source as well
                raise
            if batch is None:
                return
            yield batch
