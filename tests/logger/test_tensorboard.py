from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from hybridnet.logger.tensorboard import TensorBoard

SETTINGS = {"seed": 3, "model.pretrained": False, "optimizer.base_lr": 1e-4, "resume": None, "layers": [2, 1]}
ROWS = [{"epoch": epoch, "train_loss": 1 / epoch, "valid_acc": epoch / 8} for epoch in (1, 2, 3)]


def _begin(folder: Path, **options: Any) -> TensorBoard:
    tracker = TensorBoard()
    tracker.begin(**{"name": "run", "group": None, "folder": folder, "settings": SETTINGS, "history": None, **options})
    return tracker


def _events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard")).Reload()


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = _events(folder)
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def _session(folder: Path, tag: str, field: str) -> Any:
    about = _events(folder).SummaryMetadata(tag).plugin_data.content
    return getattr(HParamsPluginData.FromString(about), field)


def test_a_run_is_there_with_every_epoch(tmp_path: Path) -> None:
    tracker = _begin(tmp_path)
    tracker.epoch(ROWS[0])
    assert _scalars(tmp_path) == {"train_loss": [(1, 1.0)], "valid_acc": [(1, 0.125)]}, "at once"
    tracker.epoch(ROWS[1])
    tracker.end("complete", {"valid_acc": 0.25, "steps": 8})
    assert _scalars(tmp_path) == {
        "train_loss": [(1, 1.0), (2, 0.5)],
        "valid_acc": [(1, 0.125), (2, 0.25)],
        "final/valid_acc": [(2, 0.25)],
        "final/steps": [(2, 8.0)],
    }


def test_its_settings_are_hyperparameters(tmp_path: Path) -> None:
    _begin(tmp_path).end("complete", {})
    start = _session(tmp_path, metadata.SESSION_START_INFO_TAG, "session_start_info")
    assert start.group_name == "run"
    found = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    assert found == {**SETTINGS, "resume": "null", "layers": "[2, 1]"}
    assert found["model.pretrained"] is False


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("complete", api_pb2.STATUS_SUCCESS),
        ("pruned", api_pb2.STATUS_SUCCESS),
        ("failed", api_pb2.STATUS_FAILURE),
        ("stopped", api_pb2.STATUS_UNKNOWN),
    ],
)
def test_it_says_how_the_run_ended(tmp_path: Path, status: Any, expected: int) -> None:
    _begin(tmp_path).end(status, {})
    assert _session(tmp_path, metadata.SESSION_END_INFO_TAG, "session_end_info").status == expected


def test_a_run_that_is_continued_has_each_epoch_once(tmp_path: Path) -> None:
    """Also one that went on from an earlier epoch than the last that was told, and one that was not told at all."""
    tracker = _begin(tmp_path)
    for row in (*ROWS[:2], {**ROWS[2], "valid_acc": 0.9}):
        tracker.epoch(row)
    tracker.end("stopped", {})
    tracker = _begin(tmp_path, history=ROWS[:2])
    tracker.epoch(ROWS[2])
    tracker.end("complete", {})
    expected = {"train_loss": [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]}
    expected["valid_acc"] = [(1, 0.125), (2, 0.25), (3, 0.375)]
    assert _scalars(tmp_path) == expected
    end = _session(tmp_path, metadata.SESSION_END_INFO_TAG, "session_end_info")
    assert end.status == api_pb2.STATUS_SUCCESS
