"""Weights & Biases: runs on its server, or in files that `wandb sync` sends there later."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hybridnet.files import read_json, write_json
from hybridnet.logger import Row, Status, require_package
from hybridnet.settings import checked

log = logging.getLogger(__name__)

RUN = "wandb.json"  # in the run folder: the run's id, and the last epoch that was told
EXIT_CODES = {"complete": 0, "pruned": 0, "failed": 1, "stopped": 255}  # 255: by Ctrl-C, for Weights & Biases


class WandB:
    """Settings, metrics of every epoch and final ones; a sweep is a group.

    A run that is continued keeps its id. Offline each part has its own folder below `<run folder>/wandb`, and only the
    epochs that are new.

    Args:
        project: that the runs belong to.
        entity: a team or user; None for the one that is logged in.
        mode: `offline` uses no network; `online` needs `wandb login` or WANDB_API_KEY.

    Raises:
        InputError: if the package is not installed.
        ValueError: if a setting is wrong.
    """

    @checked
    def __init__(self, *, project: str, entity: str | None, mode: Literal["offline", "online"]) -> None:
        require_package("wandb")
        self.project = project
        self.entity = entity
        self.mode = mode

    def begin(
        self, *, name: str, group: str | None, folder: Path, settings: Mapping[str, Any], history: Sequence[Row] | None
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its own crashes, to its makers
        import wandb

        self._file = folder / RUN
        self._id, told = self._earlier() if history is not None else (None, 0)
        self._id = self._id or uuid.uuid4().hex[:8]
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=group,
            name=name,
            id=self._id,
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",  # else a job of a sweep would go on with the run of one that did not end well
            mode=self.mode,
            dir=str(folder),
            config=dict(settings),
            settings=wandb.Settings(console="off", silent=True, init_timeout=30.0),
        )
        self._write_state(told)
        if self.mode == "online":
            log.info(f"Weights & Biases: {self._run.url}")
        for row in history or ():
            if row["epoch"] > told:
                self.epoch(row)

    def epoch(self, row: Row) -> None:
        epoch = int(row["epoch"])
        self._run.log({name: value for name, value in row.items() if name != "epoch"}, step=epoch)
        self._write_state(epoch)

    def end(self, status: Status, metrics: Mapping[str, float]) -> None:
        self._run.summary.update({"status": status, **{f"final/{name}": value for name, value in metrics.items()}})
        self._run.finish(exit_code=EXIT_CODES[status])

    def _earlier(self) -> tuple[str | None, int]:
        """Id and last epoch of the run that is continued; nothing if it was not tracked."""
        try:
            state = read_json(self._file)
            return state["id"], state["epoch"]
        except (OSError, ValueError, KeyError, TypeError):
            return None, 0

    def _write_state(self, epoch: int) -> None:
        write_json(self._file, {"id": self._id, "epoch": epoch})
