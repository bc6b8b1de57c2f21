"""What the trainer reports, on its way to files, display and trackers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import nn

from hybridnet.checkpoint import LAST, PREVIOUS, require_saved, save_checkpoint, snapshot
from hybridnet.console import Display
from hybridnet.files import csv_text, will_not_need, write_json, write_text
from hybridnet.logger.trackers import NO_TRACKERS, Trackers
from hybridnet.trainer.state import State

log = logging.getLogger(__name__)


class Recorder:
    """Context manager that writes what the trainer reports into the run folder and shows it.

    An epoch's files are written in the background, while the next epoch trains; on leaving, and when the state is
    saved within an epoch, they are complete. A run that is killed in between goes on from the epoch before.

    Args:
        folder: of the run.
        display: for people.
        recipe: what is needed beside the weights to use the model, in plain types.
        identity: what must be the same when the run is continued, in plain types.
        trackers: are told each epoch.
        final_epoch: of a run that does not keep its state when it is complete. The state after this epoch is written
            only where the run fails or is stopped before that.
    """

    def __init__(
        self,
        folder: Path,
        display: Display,
        *,
        recipe: Mapping[str, Any],
        identity: Mapping[str, Any],
        trackers: Trackers = NO_TRACKERS,
        final_epoch: int | None = None,
    ) -> None:
        self.folder = folder
        self.display = display
        self.recipe = recipe
        self.identity = identity
        self.trackers = trackers
        self.final_epoch = final_epoch
        self._held: Mapping[str, Any] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._thread.shutdown()
        try:
            self.wait()
            if self._held and error is not None:
                self._write_last(self._held)
        except Exception as problem:
            if error is None:
                raise
            log.warning(f"the last epoch could not be saved: {problem}")  # the first error tells more

    def step(self, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Show the progress."""
        self.display.step(epoch, step, loss, accuracy, images_per_second)

    def save(self, state: State, checkpoint: dict[str, Any]) -> None:
        """Write `last.pt`, which is the truth.

        Raises:
            OSError: if it, or the files of the epoch before, cannot be written.
        """
        self.wait()
        self._held = None
        self._write_last(checkpoint)

    def epoch(self, state: State, checkpoint: dict[str, Any]) -> None:
        """Write `last.pt`, then the history and, if it has changed, `best_model.pt` from it: after this has returned.

        After the final epoch of a run that does not keep its state, without `last.pt`.

        Raises:
            OSError: if the files of the epoch before cannot be written.
        """
        self.wait()
        is_best, content = state.best_epoch == state.epoch, snapshot(checkpoint)
        self._held = content if state.epoch == self.final_epoch else None
        self._writing = self._thread.submit(self._write_epoch, content, is_best=is_best, is_held=bool(self._held))
        self.display.epoch(state.history[-1], is_best=is_best)
        self.trackers.epoch(state.history[-1])

    def finish(self, model: nn.Module) -> None:
        """After the last epoch: read `best_model.pt` back when it is written, and compare it with the model's weights.

        Waiting, or leaving, then raises TrainingError if they differ: what is reported shall be what was saved.
        """
        self._writing = self._thread.submit(self._compare, self._writing, model)

    def wait(self) -> None:
        """Until the last epoch is written.

        Raises:
            OSError: if it cannot be written.
            TrainingError: if the best model was to be read back, and is another one.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Before a run goes on: write every file anew from the checkpoint, and show where it goes on.

        `last.pt` too: it may be damaged, and the next save must not keep that as the previous one; and from here on it
        has the settings that were let through.
        """
        state = State(**checkpoint["state"])
        save_checkpoint(self.folder / LAST, {**checkpoint, **self.recipe, **self.identity})
        if state.best_epoch:
            self._write_rest(state, checkpoint, is_best=True)
        log.info(f"continuing after epoch {state.epoch}, batch {state.batch} of the next one (step {state.step})")

    def _write_epoch(self, checkpoint: Mapping[str, Any], *, is_best: bool, is_held: bool) -> None:
        if not is_held:
            self._write_last(checkpoint)
        self._write_rest(State(**checkpoint["state"]), checkpoint, is_best=is_best)

    def _compare(self, writing: Future[None] | None, model: nn.Module) -> None:
        if writing is not None:
            writing.result()
        require_saved(model, self.folder / "best_model.pt")
        will_not_need(self.folder / "best_model.pt")  # the next job's finds its memory: half the time of fetching other

    def _write_last(self, checkpoint: Mapping[str, Any]) -> None:
        content = {**self.recipe, **self.identity, **checkpoint}
        save_checkpoint(self.folder / LAST, content, previous=self.folder / PREVIOUS, is_read_soon=False)

    def _write_rest(self, state: State, checkpoint: Mapping[str, Any], *, is_best: bool) -> None:
        if is_best:
            content = {**self.recipe, "model": checkpoint["best"], "metrics": state.best_row}
            save_checkpoint(self.folder / "best_model.pt", content)
        write_json(self.folder / "history.json", state.history)
        write_text(self.folder / "history.csv", csv_text(_table(state.history)))


class NoRecorder:
    """The recorder of a process that leaves files and display to another one."""

    def step(self, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float) -> None: ...

    def save(self, state: State, checkpoint: dict[str, Any]) -> None: ...

    def epoch(self, state: State, checkpoint: dict[str, Any]) -> None: ...


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """The rows below a header; what a row does not have is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    yield columns
    yield from ([row.get(name) for name in columns] for row in rows)
