"""TensorBoard: event files in the run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridnet.logger import Row, Status, require_package


class TensorBoard:
    """Curves, settings and final metrics in `<run folder>/tensorboard`; `tensorboard --logdir <sweep>` shows all jobs.

    A run that is continued writes its whole history anew in place of what was there: no epoch is missing, none is there
    twice, and the status is that of its end. Only the time of day of the earlier epochs is lost.

    Raises:
        InputError: if the package is not installed.
    """

    def __init__(self) -> None:
        require_package("tensorboard")

    def begin(
        self, *, name: str, group: str | None, folder: Path, settings: Mapping[str, Any], history: Sequence[Row] | None
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for file in (folder / "tensorboard").glob("events.out.tfevents.*"):
            file.unlink()
        # A TensorBoard that is open drops what it has read of them when it comes to `purge_step`.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=0)
        self._epoch = 0
        self._write_session(session_start_info=_start_info(name, settings))
        for row in history or ():
            self._write_row(row)
        self._writer.flush()

    def epoch(self, row: Row) -> None:
        self._write_row(row)
        self._writer.flush()  # else within two minutes, or never

    def end(self, status: Status, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(f"final/{name}", value, self._epoch)
        self._write_session(session_end_info=_end_info(status))
        self._writer.close()

    def _write_row(self, row: Row) -> None:
        self._epoch = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, self._epoch)

    def _write_session(self, **info: Any) -> None:
        """What the page HPARAMS shows. `SummaryWriter.add_hparams` would make a second run of it."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        tag = metadata.SESSION_START_INFO_TAG if "session_start_info" in info else metadata.SESSION_END_INFO_TAG
        about = metadata.create_summary_metadata(HParamsPluginData(**info))
        value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
        self._writer.file_writer.add_summary(Summary(value=[value]), 0)


def _start_info(name: str, settings: Mapping[str, Any]) -> Any:
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    info = SessionStartInfo(group_name=name, start_time_secs=time.time())
    for key, value in settings.items():
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[key].number_value = value
        else:
            info.hparams[key].string_value = "null" if value is None else str(value)
    return info


def _end_info(status: Status) -> Any:
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

    known = {
        "complete": api_pb2.STATUS_SUCCESS,
        "pruned": api_pb2.STATUS_SUCCESS,
        "failed": api_pb2.STATUS_FAILURE,
        "stopped": api_pb2.STATUS_UNKNOWN,  # TensorBoard has no word for it
    }
    return SessionEndInfo(status=known[status], end_time_secs=time.time())
