"""The run folder: claimed by one run, filled with whole files, and always saying how the run ended."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from torch import nn

from hybridnet import run_faults
from hybridnet.checkpoint import LAST, PREVIOUS, largest_sizes
from hybridnet.environment import differences
from hybridnet.errors import Fault, InputError
from hybridnet.files import (
    in_bytes,
    read_if_whole,
    read_json,
    remove_temporaries,
    shortened,
    size_limit,
    try_lock,
    write_json,
    write_text,
)
from hybridnet.logger import Row
from hybridnet.logger.trackers import NO_TRACKERS, Trackers
from hybridnet.trainer.state import State
from hybridnet.trainer.supervised import Trainer

log = logging.getLogger(__name__)

# A folder with one of these holds results that must not be overwritten.
RESULTS = ("history.json", "history.csv", LAST, PREVIOUS, "best_model.pt", "metrics.json")
RESTORED = ("best_model.pt", "history.json", "history.csv", "predictions.csv")  # from the state, if one is gone


class RunFolder:
    """Context manager around a run: keeps others out and says in `status.json` how the run ended.

    Nothing but the lock is written before `begin`: a run that is refused or left alone stays as it is.

    Args:
        folder: is created if needed.
        is_continued: whether it may hold a run already, which is then to be continued.

    Attributes:
        outcome: of a run that ends without an error; `pruned` if it ended early because others did better.
        keeps_state: whether a complete run can be trained longer; otherwise `last.pt` goes with its end.

    Raises:
        InputError: if another process works in the folder, it holds a run, or it cannot be written.
        TrainingError: on leaving, for a disk that is full or a folder that can no longer be written.
    """

    def __init__(self, folder: Path, *, is_continued: bool = False) -> None:
        self.folder = folder
        self.is_continued = is_continued
        self.outcome: Literal["complete", "pruned"] = "complete"
        self.keeps_state = True
        self._has_begun = False
        self._trackers = NO_TRACKERS
        self._started = _now()

    def __enter__(self) -> RunFolder:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as on_failure:
                self._lock = on_failure.enter_context((self.folder / ".lock").open("a", encoding="utf-8"))
                self._is_alone = try_lock(self._lock)
                if self._is_alone is False:
                    raise InputError(run_faults.in_use(self.folder))
                if not self.is_continued:
                    refuse_used_folder(self.folder)
                if self._is_alone:  # not known where there are no locks: another process may be writing them
                    remove_temporaries(self.folder)
                on_failure.pop_all()
        except OSError as error:
            raise InputError(run_faults.unusable(self.folder, error)) from error
        return self

    def begin(
        self,
        hydra_files: Mapping[str, str],
        *,
        trackers: Trackers = NO_TRACKERS,
        history: Sequence[Row] | None = None,
    ) -> None:
        """Write that the run is going on, and the configuration it goes on with.

        Args:
            hydra_files: name and text of each file of `.hydra`.
            trackers: are told now, and at the end how the run has ended.
            history: of a run that is continued.

        Raises:
            InputError: if the folder cannot be written.
        """
        try:
            (self.folder / ".hydra").mkdir(exist_ok=True)
            if self._is_alone:
                remove_temporaries(self.folder / ".hydra")
            for name, text in hydra_files.items():
                write_text(self.folder / ".hydra" / name, text)
            write_json(self.folder / "status.json", self._status("running"))
        except OSError as error:
            raise InputError(run_faults.unusable(self.folder, error)) from error
        self._has_begun = True
        self._trackers = trackers
        trackers.begin(history)

    def require_room(self, model: nn.Module, trainer: Trainer) -> None:
        """Refuse a folder that cannot take the checkpoints, before any data are read.

        Args:
            model: that will be trained; it may be on the meta device.
            trainer: that will train it.

        Raises:
            InputError: if the folder cannot be written, or the free space, or the largest file that this process may
                write, is too small.
        """
        try:
            tempfile.TemporaryFile(dir=self.folder).close()  # `begin` finds it out too late in a run that is continued
        except OSError as error:
            raise InputError(run_faults.unusable(self.folder, error)) from error
        model_bytes, checkpoint_bytes = largest_sizes(model, has_average=bool(trainer.ema_decay))
        if checkpoint_bytes > size_limit():
            cause = f"a checkpoint has {in_bytes(checkpoint_bytes)}, the limit of a file is {in_bytes(size_limit())}"
            hint = "raise it with ulimit -f unlimited, or train a smaller model"
            raise InputError(Fault("file size limit", str(self.folder), cause, hint))
        # While a file is written its predecessor is still there.
        there = sum(file.stat().st_size for file in self.folder.glob("*.pt"))
        needed = 3 * checkpoint_bytes + 2 * model_bytes - there
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            cause = f"the checkpoints need {in_bytes(needed)}, {in_bytes(free)} are free"
            hint = "make room, choose another disk with hydra.run.dir=<folder>, or train a smaller model"
            raise InputError(Fault("no room", str(self.folder), cause, hint))

    def is_complete(self, trainer: Trainer, checkpoint: Mapping[str, Any] | None) -> bool:
        """Whether a run ended here, has all its results, and `trainer` would not train any further.

        Raises:
            InputError: if there are results, but no checkpoint to continue from; if a complete run shall be trained
                longer, and its state was not kept.
        """
        try:
            has_ended = read_json(self.folder / "status.json")["status"] == "complete" and bool(self.metrics())
        except (OSError, ValueError, KeyError, TypeError):
            has_ended = False
        if checkpoint is not None:
            is_whole = has_ended and all((self.folder / name).is_file() for name in RESTORED)
            return is_whole and trainer.is_finished(State(**checkpoint["state"]))
        if not has_ended:
            if self.keeps_state:
                refuse_used_folder(self.folder)  # one that keeps none may have been killed when it had nothing else
        elif not trainer.is_finished(self._reached()):
            cause = "the run is complete, and its state was not kept (sweep.keep_states=false, or it was deleted)"
            hint = "train longer in another folder: hydra.run.dir=<folder>"
            raise InputError(Fault("missing state", str(self.folder / LAST), cause, hint))
        return has_ended

    def ended_early(self, trainer: Trainer) -> str:
        """What to say of a complete run that has not come to its last epoch, and how it goes on all the same; or ""."""
        state = self._reached()
        if state.epoch >= trainer.epochs:
            return ""
        return (
            f"; it stopped early, after epoch {state.epoch} of {trainer.epochs} (trainer.patience={trainer.patience}): "
            "trainer.patience=0 resume_allow=[trainer.patience] goes on"
        )

    def _reached(self) -> State:
        """How far a complete run came; without what only its checkpoint has."""
        metrics = self.metrics()
        return State(epoch=metrics["epochs"], best_epoch=metrics["best_epoch"])

    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` has."""
        return read_json(self.folder / "metrics.json")

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Write `environment.json`; the environments of the parts of the run before this one stand under `earlier`."""
        earlier = []
        # One that is not there, or damaged, is no reason to refuse a run.
        if self.is_continued and (before := read_if_whole(self.folder / "environment.json")):
            earlier = [*before.pop("earlier", []), before]
            if changed := differences(before, environment):
                log.warning(f"the run began in another environment ({'; '.join(changed)}): last digits may differ")
        write_json(self.folder / "environment.json", {**environment, "earlier": earlier})

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        try:
            if self._has_begun:
                self._end(error)
            else:
                self._tell(error)
        finally:
            self._lock.close()

    def _end(self, error: BaseException | None) -> None:
        explained = run_faults.explained(error, self.folder)
        is_stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        outcome = self.outcome if error is None else "stopped" if is_stopped else "failed"
        problem = self._write_end(outcome, explained)
        self._tell(error)
        if problem and error is None:
            self._trackers.end("failed", {})
            raise run_faults.explained(problem, self.folder) from problem
        if problem:
            log.warning(f"status.json still says running: {problem}")  # the first error tells more
        self._trackers.end(outcome, read_if_whole(self.folder / "metrics.json") if error is None else {})
        if explained is not error:
            raise explained from error

    def _write_end(self, outcome: str, error: BaseException | None) -> OSError | None:
        """Before anything is said: whatever hinders that, the folder tells how the run has ended."""
        try:
            write_json(self.folder / "status.json", self._status(outcome, error=error))
            if outcome == "complete":  # the state before the last one is for a training that is cut off
                for name in [PREVIOUS] if self.keeps_state else [PREVIOUS, LAST]:
                    (self.folder / name).unlink(missing_ok=True)
        except OSError as problem:
            return problem
        return None

    def _tell(self, error: BaseException | None) -> None:
        is_stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        if isinstance(error, Exception) and not isinstance(error, InputError):
            log.error(f"failed; {shortened(self.folder) / 'train.log'} has the traceback", exc_info=error)
        if error is not None and self._has_begun and (self.folder / LAST).exists():
            log.info(f"{'stopped; ' if is_stopped else ''}continue with {run_faults.command(self.folder)}")
        elif is_stopped and self._has_begun:
            log.info("stopped before anything was saved")

    def _status(self, status: str, *, error: BaseException | None = None) -> dict[str, Any]:
        text = None if error is None else f"{type(error).__name__}: {error}"
        ended = None if status == "running" else _now()
        return {"status": status, "error": text, "started": self._started, "ended": ended, "pid": os.getpid()}


def refuse_used_folder(folder: Path) -> None:
    """Two runs never share a folder.

    Raises:
        InputError: if the folder holds a run; one that ended before its first results does not count.
    """
    if any((folder / name).exists() for name in RESULTS):
        raise InputError(run_faults.used(folder))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
