from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb")

from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2 as proto

from hybridnet.files import read_json
from hybridnet.logger.wandb import WandB
from tests.conftest import wait_until

SETTINGS = {"seed": 3, "model.attention[0].heads": 4, "layers": [2, 1], "limit": None}
ROWS = [{"epoch": epoch, "train_loss": 1 / epoch, "valid_acc": epoch / 8} for epoch in (1, 2, 3)]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WandB]:
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")

    def begin(**options: Any) -> WandB:
        tracker = WandB(project="p", entity=None, mode="offline")
        about = {"name": "run", "group": None, "folder": tmp_path, "settings": SETTINGS, "history": None}
        tracker.begin(**{**about, **options})
        return tracker

    return begin


def _chunks(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each chunk of LevelDB's log format: 1 for a whole record, else first, middle, last."""
    place, block = 7, 32768  # behind wandb's own header
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        yield kind, content[place + 7 : place + 7 + length]  # shorter where it is still being written
        place += 7 + length


def _records(file: Path) -> Iterator[Any]:
    data = b""
    for kind, chunk in _chunks(file.read_bytes()):
        data += chunk
        if kind in (1, 4):
            with suppress(DecodeError):
                yield proto.Record.FromString(data)
            data = b""


def _parts(folder: Path) -> list[dict[str, Any]]:
    """What each part of a run has written: about the run, its rows, summary and exit code, which comes last.

    The process that writes is another one, and `finish` does not wait for it offline.
    """
    parts: list[dict[str, Any]] = []

    def are_whole() -> bool:
        parts[:] = _parts_so_far(folder)
        return all("exit code" in part for part in parts)

    wait_until(are_whole, "the files are written")
    return parts


def _parts_so_far(folder: Path) -> list[dict[str, Any]]:
    found = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        part: dict[str, Any] = {"rows": [], "summary": {}}
        for record in _records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                part["run"] = record.run
                part["config"] = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
                part["rows"].append({name: value for name, value in items.items() if name[0] != "_"})
                part["rows"][-1]["epoch"] = record.history.step.num
            elif kind == "summary":
                items = record.summary.update
                part["summary"] |= {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
            elif kind == "exit":
                part["exit code"] = record.exit.exit_code
        found.append(part)
    return found


def test_a_run_is_there_with_every_epoch(begin: Callable[..., WandB], tmp_path: Path) -> None:
    tracker = begin(group="sweep")
    tracker.epoch(ROWS[0])
    tracker.epoch(ROWS[1])
    tracker.end("complete", {"valid_acc": 0.25, "steps": 8})
    (part,) = _parts(tmp_path)
    run = part["run"]
    assert (run.project, run.run_group, run.display_name) == ("p", "sweep", "run")
    assert run.run_id == read_json(tmp_path / "wandb.json")["id"]
    assert part["config"].items() >= SETTINGS.items()
    assert part["rows"] == ROWS[:2]
    assert part["summary"].items() >= {"status": "complete", "final/valid_acc": 0.25, "final/steps": 8}.items()
    assert part["exit code"] == 0


@pytest.mark.parametrize(("status", "code"), [("complete", 0), ("pruned", 0), ("failed", 1), ("stopped", 255)])
def test_it_says_how_the_run_ended(begin: Callable[..., WandB], tmp_path: Path, status: Any, code: int) -> None:
    begin().end(status, {})
    assert _parts(tmp_path)[0]["exit code"] == code
    assert _parts(tmp_path)[0]["summary"]["status"] == status


def test_a_run_that_is_continued_keeps_its_id(begin: Callable[..., WandB], tmp_path: Path) -> None:
    """Its second part has the epochs that were not told: the second one, which ended with a kill, and the new one."""
    first = begin()
    first.epoch(ROWS[0])
    first.end("stopped", {})
    second = begin(history=ROWS[:2])
    second.epoch(ROWS[2])
    second.end("complete", {})
    parts = _parts(tmp_path)
    assert len({part["run"].run_id for part in parts}) == 1
    assert sorted(len(part["rows"]) for part in parts) == [1, 2]
    assert sorted((row for part in parts for row in part["rows"]), key=lambda row: row["epoch"]) == ROWS


def test_one_that_was_not_tracked_begins_with_its_history(begin: Callable[..., WandB], tmp_path: Path) -> None:
    begin(history=ROWS[:2]).end("complete", {})
    assert _parts(tmp_path)[0]["rows"] == ROWS[:2]


def test_the_run_before_that_did_not_end_is_left_alone(begin: Callable[..., WandB], tmp_path: Path) -> None:
    first, second = begin(name="0"), begin(name="1")
    second.epoch(ROWS[1])
    first.epoch(ROWS[0])
    second.end("complete", {})
    first.end("failed", {})
    rows = {part["run"].display_name: part["rows"] for part in _parts(tmp_path)}
    assert rows == {"0": [ROWS[0]], "1": [ROWS[1]]}
