"""`verify_resume=true`, and what it compares."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridnet.checkpoint import load_checkpoint, save_checkpoint
from hybridnet.errors import Stopped
from hybridnet.files import read_json, write_json
from hybridnet.signals import Interruption
from hybridnet.verification import _StopAt, differences, same
from tests.conftest import Command, content, outcome

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., Command]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 3e-7])),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0], dtype=torch.float64)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.tensor([1.0]), torch.tensor([[1.0]])),
        (torch.tensor(1.0), 1.0),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.tensor([1, 2]), [1, 2]),
        ({"a": 1}, ["a"]),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 1}),
        ({"a": 1, "b": 1}, {"a": 1}),
        ([1, 2], [1, 2, 3]),
        ([1, 2], [2, 1]),
        ({"a": [{"b": (torch.zeros(2), 1)}]}, {"a": [{"b": (torch.tensor([0.0, 1e-45]), 1)}]}),
        (1.0, 1.0 + 2**-52),
        ("a", "b"),
        ("1", 1),
        (None, 0),
    ],
)
def test_a_difference_in_the_last_bit_is_one(one: Any, other: Any) -> None:
    assert not same(one, other)
    assert not same(other, one)
    assert same(one, one) and same(other, other)


def test_copies_are_the_same() -> None:
    one = {"a": [torch.arange(3.0), (1, "x", None)], "b": {"c": torch.full((2, 2), torch.nan, dtype=torch.bfloat16)}}
    other = {"a": [torch.arange(3.0), (1, "x", None)], "b": {"c": torch.full((2, 2), torch.nan, dtype=torch.bfloat16)}}
    assert same(one, other)


def _change_text(folder: Path, name: str) -> None:
    text = (folder / name).read_text()
    place = re.search(r"\d(?=\D*$)", text).start()
    (folder / name).write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")


def _change_metrics(folder: Path, key: str) -> None:
    metrics = read_json(folder / "metrics.json")
    write_json(folder / "metrics.json", {**metrics, key: metrics[key] * (1 + 2**-40)})


def _change_checkpoint(folder: Path, name: str, *keys: Any) -> None:
    checkpoint = load_checkpoint(folder / name)
    inner = checkpoint
    for key in keys[:-1]:
        inner = inner[key]
    value = inner[keys[-1]]
    if isinstance(value, torch.Tensor):
        value.view(-1).view(torch.uint8)[0] ^= 1  # one bit
    else:
        inner[keys[-1]] = value + 1
    save_checkpoint(folder / name, checkpoint)


WEIGHT = "fc.weight"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda folder: None, []),
        (lambda folder: _change_text(folder, "history.json"), ["history.json"]),
        (lambda folder: _change_text(folder, "predictions.csv"), ["predictions.csv"]),
        (lambda folder: _change_metrics(folder, "valid_loss"), ["metrics.json"]),
        (lambda folder: _change_metrics(folder, "train_seconds"), []),
        (lambda folder: _change_metrics(folder, "train_images_per_second"), []),
        (lambda folder: _change_metrics(folder, "data_wait_seconds"), []),
        (lambda folder: _change_metrics(folder, "peak_memory_bytes"), []),
        (lambda folder: _change_checkpoint(folder, "best_model.pt", "model", WEIGHT), ["model in best_model.pt"]),
        (lambda folder: _change_checkpoint(folder, "last.pt", "model", WEIGHT), ["model in last.pt"]),
        (lambda folder: _change_checkpoint(folder, "last.pt", "average", WEIGHT), ["average in last.pt"]),
        (lambda folder: _change_checkpoint(folder, "last.pt", "best", WEIGHT), ["best in last.pt"]),
        (
            lambda folder: _change_checkpoint(folder, "last.pt", "optimizer", "state", 0, "exp_avg"),
            ["optimizer in last.pt"],
        ),
        (
            lambda folder: _change_checkpoint(folder, "last.pt", "optimizer", "param_groups", 0, "lr"),
            ["optimizer in last.pt"],
        ),
        (lambda folder: _change_checkpoint(folder, "last.pt", "random", "torch"), ["random in last.pt"]),
        (
            lambda folder: (_change_text(folder, "history.json"), _change_metrics(folder, "valid_acc")),
            ["history.json", "metrics.json"],
        ),
    ],
)
def test_each_kind_of_difference_is_found(
    reference: Path, tmp_path: Path, change: Callable[[Path], None], found: list[str]
) -> None:
    other = shutil.copytree(reference, tmp_path / "other")
    change(other)
    assert differences(reference, other) == found
    assert differences(other, reference) == found


def test_it_asks_to_stop_at_one_question_and_a_real_signal_comes_first() -> None:
    with Interruption() as real:
        counting = _StopAt(real, question=None)
        assert [counting.pending() for _ in range(3)] == [None] * 3 and counting.num_asked == 3
        stop = _StopAt(real, question=2)
        answers = [stop.pending() for _ in range(3)]
        assert [type(answer) for answer in answers] == [type(None), Stopped, type(None)]
        with pytest.raises(Stopped), stop.deferred():
            signal.raise_signal(signal.SIGINT)
            assert counting.pending().exit_code == 130


def test_a_run_that_can_be_continued_exactly_is_told_so(run: Run, tiny: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "v"
    code, output, error = run(*tiny, "verify_resume=true", "hydra.run.dir=v", "logger=notes")
    assert (code, error) == (0, "")
    assert "interrupted and continued, against uninterrupted: bit for bit the same" in output
    assert re.search(r"continuing after epoch 1, batch [1-9]", output), "it was interrupted in the second epoch"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {".hydra", "uninterrupted", "interrupted"}
    assert read_json(folder / "verify_resume.json") == {"verdict": "bit for bit the same", "different": []}
    assert read_json(folder / "status.json")["status"] == "complete"
    whole, parted = outcome(folder / "uninterrupted"), outcome(folder / "interrupted")
    assert whole == parted and whole["status"] == "complete"
    assert len(read_json(folder / "uninterrupted" / "history.json")) == 2, "a short one"
    assert not [*folder.rglob("notes.jsonl")], "no tracker is told"
    assert read_json(folder / "uninterrupted" / "environment.json")["earlier"] == []
    assert len(read_json(folder / "interrupted" / "environment.json")["earlier"]) == 1


def test_one_that_cannot_is_told_what_differs(run: Run, tiny: list[str], tmp_path: Path) -> None:
    """The backbone draws from a generator that no seed sets."""
    code, output, error = run(*tiny, "model/backbone=careless", "verify_resume=true", "hydra.run.dir=v")
    assert code == 1
    assert "interrupted and continued, against uninterrupted: different" in output
    different = (
        "history.json, predictions.csv, metrics.json, model in best_model.pt, model in last.pt, average in last.pt, "
        "best in last.pt, optimizer in last.pt"
    )
    assert error == (
        f"error: inexact resume in {tmp_path / 'v'}: {different} differ\n"
        "hint: a GPU needs trainer.deterministic=true; if that does not help, report it with environment.json\n"
    )
    assert read_json(tmp_path / "v" / "verify_resume.json") == {
        "verdict": "different",
        "different": different.split(", "),
    }
    assert read_json(tmp_path / "v" / "status.json")["status"] == "failed"


def test_a_real_signal_ends_the_verification(start: Start, run: Run, tiny: list[str], tmp_path: Path) -> None:
    """In its second run, before it is interrupted on purpose."""
    command = start(*tiny, "verify_resume=true", "hydra.run.dir=v", hold=("step", 8 + 2)).wait_until_held()
    command.send(signal.SIGTERM).go_on()
    assert command.wait() == 143, command.stderr
    assert not (tmp_path / "v" / "verify_resume.json").exists()
    statuses = {path.parent.name: read_json(path)["status"] for path in (tmp_path / "v").rglob("status.json")}
    assert statuses == {"v": "stopped", "uninterrupted": "complete", "interrupted": "stopped"}

    before = content(tmp_path / "v")
    code, output, error = run(*tiny, "verify_resume=true", "hydra.run.dir=v")
    assert (code, output) == (2, ""), "its folder is used"
    assert error == (
        f"error: used run folder in {tmp_path / 'v' / 'uninterrupted'}: it holds another run, which would be "
        "overwritten\n"
        "hint: continue it with resume=v/uninterrupted, or choose another folder with hydra.run.dir=<folder>\n"
    )
    assert content(tmp_path / "v") == before
