from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from mlflow import MlflowClient

from hybridnet.files import read_json
from hybridnet.logger.mlflow import ENVIRONMENT, MLflow
from hybridnet.logger.trackers import Trackers
from tests.conftest import ROOT

SETTINGS = {"seed": 3, "trainer.epochs": 2, "model.attention[0].heads": 4, "layers": [2, 1], "limit": None}
ROWS = [{"epoch": epoch, "train_loss": 1 / epoch, "valid_acc": epoch / 8} for epoch in (1, 2, 3)]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a database for all tests here: to make its tables takes a second."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'outputs' / 'mlflow.db'}"


@pytest.fixture
def begin(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MLflow]:
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "run").mkdir()

    def begin(**options: Any) -> MLflow:
        tracker = MLflow(uri=uri, experiment="single")
        about = {"name": "run", "group": None, "folder": tmp_path / "run", "settings": SETTINGS, "history": None}
        tracker.begin(**{**about, **options})
        return tracker

    return begin


def _run(tracker: MLflow) -> Any:
    return tracker._client.get_run(tracker._run)


def _metrics(tracker: MLflow) -> dict[str, list[tuple[int, float]]]:
    found = {name: tracker._client.get_metric_history(tracker._run, name) for name in _run(tracker).data.metrics}
    return {name: sorted((entry.step, entry.value) for entry in entries) for name, entries in found.items()}


def test_a_run_is_there_with_every_epoch(begin: Callable[..., MLflow], tmp_path: Path) -> None:
    tracker = begin()
    assert _run(tracker).info.status == "RUNNING"
    tracker.epoch(ROWS[0])
    tracker.epoch(ROWS[1])
    tracker.end("complete", {"valid_acc": 0.25, "steps": 8})
    run = _run(tracker)
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params == {
        "seed": "3",
        "trainer.epochs": "2",
        "model.attention.0.heads": "4",
        "layers": "[2, 1]",
        "limit": "null",
    }
    assert run.data.tags.items() >= {("folder", str(tmp_path / "run")), ("status", "complete")}
    assert _metrics(tracker) == {
        "train_loss": [(1, 1.0), (2, 0.5)],
        "valid_acc": [(1, 0.125), (2, 0.25)],
        "final/valid_acc": [(2, 0.25)],
        "final/steps": [(2, 8.0)],
    }
    assert tracker._client.get_experiment(run.info.experiment_id).name == "single"
    assert read_json(tmp_path / "run" / "mlflow.json") == {"run_id": run.info.run_id}


@pytest.mark.parametrize(
    ("status", "expected"),
    [("complete", "FINISHED"), ("pruned", "FINISHED"), ("failed", "FAILED"), ("stopped", "KILLED")],
)
def test_it_says_how_the_run_ended(begin: Callable[..., MLflow], status: Any, expected: str) -> None:
    tracker = begin()
    tracker.end(status, {})
    assert _run(tracker).info.status == expected
    assert _run(tracker).data.tags["status"] == status


def test_a_run_that_is_continued_is_the_same_one(begin: Callable[..., MLflow]) -> None:
    """Each epoch once, also those that were not told; a setting that has changed becomes a tag."""
    first = begin()
    first.epoch(ROWS[0])
    first.end("stopped", {})
    second = begin(history=ROWS[:2], settings=SETTINGS | {"trainer.epochs": 3, "new": 1})
    assert second._run == first._run
    assert _run(second).info.status == "RUNNING"
    second.epoch(ROWS[2])
    second.end("complete", {"steps": 12})
    run = _run(second)
    assert run.info.status == "FINISHED" and run.info.end_time >= run.info.start_time
    assert _metrics(second) == {
        "train_loss": [(1, 1.0), (2, 0.5), (3, 1 / 3)],
        "valid_acc": [(1, 0.125), (2, 0.25), (3, 0.375)],
        "final/steps": [(3, 12.0)],
    }
    assert (run.data.params["trainer.epochs"], run.data.params["new"]) == ("2", "1")
    assert run.data.tags["changed.trainer.epochs"] == "3"


@pytest.mark.parametrize("content", [None, "{", '{"run_id": "of another database"}'])
def test_one_that_is_not_known_begins_with_its_history(
    begin: Callable[..., MLflow], tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "run" / "mlflow.json").write_text(content)
    tracker = begin(history=ROWS[:2])
    assert _metrics(tracker)["valid_acc"] == [(1, 0.125), (2, 0.25)]


def test_a_new_run_in_the_folder_of_one_that_saved_nothing_is_another_one(begin: Callable[..., MLflow]) -> None:
    first = begin()
    first.end("failed", {})
    assert begin()._run != first._run


def test_a_sweep_is_an_experiment(begin: Callable[..., MLflow]) -> None:
    one, two = begin(group="my sweep", name="0"), begin(group="my sweep", name="1")
    assert one._run != two._run
    experiments = {_run(tracker).info.experiment_id for tracker in (one, two)}
    assert len(experiments) == 1
    assert one._client.get_experiment(experiments.pop()).name == "my sweep"


def test_many_and_long_settings_are_taken(begin: Callable[..., MLflow], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server takes 100 at once, which the file does not insist on."""
    log_batch, sizes = MlflowClient.log_batch, []

    def counting(client: MlflowClient, run: str, **entries: Any) -> None:
        sizes.append(len(entries.get("params", ())))
        log_batch(client, run, **entries)

    monkeypatch.setattr(MlflowClient, "log_batch", counting)
    long = {f"a.{number}.{'b' * 300}": "c" * 9000 for number in range(2)}
    tracker = begin(settings={**{f"key{number}": number for number in range(250)}, **long})
    parameters = _run(tracker).data.params
    assert len(parameters) == 252 and max(sizes) == 100
    assert {len(value) for name, value in parameters.items() if name.startswith("a.")} == {6000}


def test_a_file_is_below_the_working_directory_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert MLflow(uri="sqlite:///a/b.db?timeout=9", experiment="e").uri == f"sqlite:///{tmp_path}/a/b.db?timeout=9"
    assert MLflow(uri="sqlite:////a/b.db", experiment="e").uri == "sqlite:////a/b.db"
    assert MLflow(uri="http://host:5000", experiment="e").uri == "http://host:5000"
    assert not (tmp_path / "a").exists(), "until a run begins"


def test_a_server_that_is_down_is_given_up_soon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    tracker = MLflow(uri="http://127.0.0.1:9", experiment="e")
    trackers = Trackers({"mlflow": tracker}, folder=tmp_path, group=None, settings={})
    started = time.monotonic()
    trackers.begin(None)
    assert time.monotonic() - started < 60, "MLflow's own patience is minutes"
    trackers.epoch(ROWS[0])
    trackers.end("complete", {})
    warnings = [text for text in caplog.messages if text.startswith("logger=mlflow is left out from here on: ")]
    assert len(warnings) == 1


SCRIPT = """
import sys
from pathlib import Path
from hybridnet.logger.mlflow import MLflow
folder, name = Path(sys.argv[1]), sys.argv[2]
(folder / name).mkdir()
tracker = MLflow(uri=f"sqlite:///{folder}/new/mlflow.db", experiment="e")
tracker.begin(name=name, group="sweep", folder=folder / name, settings={"job": name}, history=None)
for epoch in range(1, 21):
    tracker.epoch({"epoch": epoch, "valid_acc": epoch / 32})
tracker.end("complete", {})
"""


@pytest.mark.slow
def test_jobs_side_by_side_share_a_new_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    jobs = [subprocess.Popen([*command, str(number)], cwd=ROOT, stderr=subprocess.PIPE) for number in range(4)]
    for job in jobs:
        _, error = job.communicate()
        assert job.returncode == 0, error.decode()
    tracker = MLflow(uri=f"sqlite:///{tmp_path}/new/mlflow.db", experiment="e")
    (tmp_path / "last").mkdir()
    tracker.begin(name="last", group="sweep", folder=tmp_path / "last", settings={}, history=None)
    runs = tracker._client.search_runs([_run(tracker).info.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["0", "1", "2", "3", "last"]
    assert [run.data.metrics["valid_acc"] for run in runs if run.info.run_name != "last"] == [0.625] * 4
