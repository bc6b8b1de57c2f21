"""MLflow: a database of runs, in a file or on a server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybridnet.files import locked, read_json, write_json
from hybridnet.logger import Row, Status, require_package
from hybridnet.settings import checked

RUN = "mlflow.json"  # in the run folder: which run of MLflow's it is
SQLITE = "sqlite:///"
MOST_PARAMETERS = 100  # that MLflow takes at once
LONGEST_NAME, LONGEST_VALUE = 250, 6000  # in characters, cut by us: what MLflow does depends on its version

# Unless the user says otherwise: its telemetry asks the network, its log lines come between ours, and it would wait
# for minutes at every epoch for a server that is gone.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class MLflow:
    """Settings as parameters, metrics of every epoch and final ones; a sweep is an experiment.

    A run that is continued goes on as the same run; parameters cannot be changed there, so settings that were let
    through become tags.

    Args:
        uri: `sqlite:///<file>`, relative to the working directory, or `http://…` of a server.
        experiment: name of the experiment of runs that belong to no sweep.

    Raises:
        InputError: if the package is not installed.
        ValueError: if a setting is wrong.
    """

    @checked
    def __init__(self, *, uri: str, experiment: str) -> None:
        require_package("mlflow")
        self.uri = uri
        self.file: Path | None = None
        if uri.startswith(SQLITE):
            file, _, options = uri.removeprefix(SQLITE).partition("?")
            self.file = Path(file).absolute()
            self.uri = f"{SQLITE}{self.file.as_posix()}{f'?{options}' if options else ''}"
        self.experiment = experiment

    def begin(
        self, *, name: str, group: str | None, folder: Path, settings: Mapping[str, Any], history: Sequence[Row] | None
    ) -> None:
        for variable, value in ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient

        with self._alone():
            self._client = MlflowClient(tracking_uri=self.uri)
            experiment = self._experiment(group or self.experiment)
        run = None if history is None else self._earlier(folder)
        if run is None:
            run = self._client.create_run(experiment, run_name=name, tags={"folder": str(folder)})
            write_json(folder / RUN, {"run_id": run.info.run_id})
        else:
            self._client.update_run(run.info.run_id, status="RUNNING")
        self._run = run.info.run_id
        self._epoch = len(history or ())
        self._write_parameters(settings, known=run.data.params)
        known = self._known(run.data.metrics)
        self._write_metrics([entry for row in history or () for entry in _entries(row) if entry not in known])

    def epoch(self, row: Row) -> None:
        self._epoch = int(row["epoch"])
        self._write_metrics(_entries(row))

    def end(self, status: Status, metrics: Mapping[str, float]) -> None:
        self._write_metrics([(f"final/{name}", float(value), self._epoch) for name, value in metrics.items()])
        self._client.set_tag(self._run, "status", status)
        known = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
        self._client.set_terminated(self._run, known[status])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two processes that make the tables of one file at once are in each other's way."""
        if self.file is None:
            yield
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.file.with_name(f".{self.file.name}.lock"), on_wait=lambda: None):
            yield

    def _experiment(self, name: str) -> str:
        """The id of the experiment, which is made if there is none."""
        from mlflow.exceptions import MlflowException

        if found := self._client.get_experiment_by_name(name):
            return found.experiment_id
        try:
            return self._client.create_experiment(name)
        except MlflowException:
            found = self._client.get_experiment_by_name(name)  # on a server another job may have been faster
            if found is None:
                raise
            return found.experiment_id

    def _earlier(self, folder: Path) -> Any:
        """The run that the folder's belongs to, or None: it was not tracked, or elsewhere."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(read_json(folder / RUN)["run_id"])
        except (OSError, ValueError, KeyError, TypeError, MlflowException):
            return None

    def _known(self, names: Mapping[str, float]) -> set[tuple[str, float, int]]:
        """What the run has of the metrics `names`, as `_entries` gives it."""
        found = [entry for name in names for entry in self._client.get_metric_history(self._run, name)]
        return {(entry.key, entry.value, entry.step) for entry in found}

    def _write_parameters(self, settings: Mapping[str, Any], *, known: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        values = {_name(key): _value(value) for key, value in settings.items()}
        new = [Param(key, value) for key, value in values.items() if key not in known]
        for start in range(0, len(new), MOST_PARAMETERS):
            self._client.log_batch(self._run, params=new[start : start + MOST_PARAMETERS])
        changed = [RunTag(f"changed.{key}", values[key]) for key in known if values.get(key, known[key]) != known[key]]
        self._client.log_batch(self._run, tags=changed[:MOST_PARAMETERS])

    def _write_metrics(self, entries: Sequence[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        for start in range(0, len(entries), 1000):  # that MLflow takes at once
            metrics = [Metric(name, value, now, step) for name, value, step in entries[start : start + 1000]]
            self._client.log_batch(self._run, metrics=metrics)


def _entries(row: Row) -> list[tuple[str, float, int]]:
    """Name, value and step of each metric."""
    return [(name, float(value), int(row["epoch"])) for name, value in row.items() if name != "epoch"]


def _name(key: str) -> str:
    """MLflow takes no brackets: `model.attention[0].heads` -> `model.attention.0.heads`."""
    return key.replace("[", ".").replace("]", "")[:LONGEST_NAME]


def _value(value: Any) -> str:
    return ("null" if value is None else str(value))[:LONGEST_VALUE]
