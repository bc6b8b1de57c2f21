from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hybridnet import files
from hybridnet import recorder as recorder_module
from hybridnet.checkpoint import load_checkpoint
from hybridnet.errors import TrainingError
from hybridnet.files import read_json
from hybridnet.recorder import Recorder
from hybridnet.trainer.state import State


class _Display:
    def __init__(self) -> None:
        self.shown: list[Any] = []

    def step(self, *values: float) -> None:
        self.shown.append(values)

    def epoch(self, row: dict[str, float], *, is_best: bool) -> None:
        self.shown.append((row, is_best))


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    identity = {"settings": {"seed": 1}, "data": {"train": "abc"}}
    return Recorder(tmp_path, _Display(), recipe={"format": 1, "label2id": {"a": 0}}, identity=identity)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Nothing is written before it is set."""
    event, write = threading.Event(), recorder_module.save_checkpoint
    monkeypatch.setattr(recorder_module, "save_checkpoint", lambda *a, **k: (event.wait(), write(*a, **k)))
    yield event
    event.set()


def _break_disk(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(recorder_module, "save_checkpoint", fail)


def _checkpoint(state: State, best: float) -> dict[str, Any]:
    return {"model": {"w": torch.tensor([best + 0.5])}, "best": {"w": torch.tensor([best])}, "state": dict(vars(state))}


def _record(recorder: Recorder, epochs: int, *, best_epochs: list[int]) -> State:
    state = State()
    for epoch in range(1, epochs + 1):
        state.epoch, state.best_epoch = epoch, best_epochs[epoch - 1]
        state.history = [*state.history, {"epoch": epoch, "valid_acc": epoch / 8}]
        recorder.epoch(state, _checkpoint(state, float(state.best_epoch)))
    recorder.wait()
    return state


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_epoch_is_recorded_in_all_files(recorder: Recorder, tmp_path: Path) -> None:
    state = _record(recorder, 2, best_epochs=[1, 1])
    assert _names(tmp_path) == ["best_model.pt", "history.csv", "history.json", "last.pt", "previous.pt"]
    last, previous, best = (load_checkpoint(tmp_path / name) for name in ("last.pt", "previous.pt", "best_model.pt"))
    assert last == {
        "format": 1,
        "label2id": {"a": 0},
        "settings": {"seed": 1},
        "data": {"train": "abc"},
        "model": {"w": torch.tensor([1.5])},
        "best": {"w": torch.tensor([1.0])},
        "state": vars(state),
    }
    assert previous["state"]["epoch"] == 1
    assert best == {"format": 1, "label2id": {"a": 0}, "model": {"w": torch.tensor([1.0])}, "metrics": state.history[0]}
    assert read_json(tmp_path / "history.json") == state.history
    assert (tmp_path / "history.csv").read_text() == "epoch,valid_acc\n1,0.125\n2,0.25\n"
    assert recorder.display.shown == [(state.history[0], True), (state.history[1], False)]


def test_the_best_model_is_written_when_it_has_changed(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `last.pt`, from which it can be made anew."""
    written: list[str] = []
    for name in ("save_checkpoint", "write_json", "write_text"):
        function = getattr(recorder_module, name)
        monkeypatch.setattr(
            recorder_module, name, lambda path, *a, f=function, **k: (written.append(path.name), f(path, *a, **k))
        )
    _record(recorder, 3, best_epochs=[1, 1, 3])
    history = ["history.json", "history.csv"]
    with_best, without = ["last.pt", "best_model.pt", *history], ["last.pt", *history]
    assert written == [*with_best, *without, *with_best]
    assert load_checkpoint(tmp_path / "best_model.pt")["model"] == {"w": torch.tensor([3.0])}


@pytest.mark.parametrize("error", [None, ValueError("some"), KeyboardInterrupt()])
def test_a_state_that_will_not_be_kept_is_written_only_where_the_run_does_not_end(
    error: BaseException | None, recorder: Recorder, tmp_path: Path
) -> None:
    recorder.final_epoch = 3
    with nullcontext() if error is None else pytest.raises(type(error)), recorder:
        state = _record(recorder, 3, best_epochs=[1, 1, 3])
        assert load_checkpoint(tmp_path / "last.pt")["state"]["epoch"] == 2
        assert load_checkpoint(tmp_path / "best_model.pt")["model"] == {"w": torch.tensor([3.0])}
        assert read_json(tmp_path / "history.json") == state.history
        if error:
            raise error
    last = load_checkpoint(tmp_path / "last.pt")
    assert last["state"]["epoch"] == (2 if error is None else 3)
    assert last["settings"] == {"seed": 1}


def test_a_state_that_was_asked_for_is_the_last_one(recorder: Recorder, tmp_path: Path) -> None:
    """Also of a run that does not keep its own."""
    recorder.final_epoch = 1
    with pytest.raises(ValueError, match="some"), recorder:
        state = _record(recorder, 1, best_epochs=[1])
        recorder.save(state, _checkpoint(state, 5.0))
        raise ValueError("some")
    assert load_checkpoint(tmp_path / "last.pt")["best"] == {"w": torch.tensor([5.0])}
    assert not (tmp_path / "previous.pt").exists()


def test_within_an_epoch_only_the_state_is_recorded(recorder: Recorder, tmp_path: Path) -> None:
    state = State(batch=5)
    recorder.save(state, _checkpoint(state, 0.0))
    assert _names(tmp_path) == ["last.pt"]
    state.batch = 6
    recorder.save(state, _checkpoint(state, 0.0))
    assert load_checkpoint(tmp_path / "last.pt")["state"]["batch"] == 6
    assert load_checkpoint(tmp_path / "previous.pt")["state"]["batch"] == 5
    assert recorder.display.shown == []


def test_an_epoch_is_written_while_the_next_one_trains(
    recorder: Recorder, tmp_path: Path, slow_disk: threading.Event
) -> None:
    weights = torch.zeros(1)
    state = State(epoch=1, best_epoch=1, history=[{"epoch": 1, "valid_acc": 0.5}])
    recorder.epoch(state, {"model": {"w": weights}, "best": {"w": weights}, "state": dict(vars(state))})
    assert _names(tmp_path) == [] and recorder.display.shown == [(state.history[0], True)]
    weights += 1
    state.history.append({"epoch": 2})
    slow_disk.set()
    recorder.wait()
    assert load_checkpoint(tmp_path / "best_model.pt")["model"] == {"w": torch.zeros(1)}
    last = load_checkpoint(tmp_path / "last.pt")
    assert last["model"] == {"w": torch.zeros(1)} and last["state"]["history"] == [{"epoch": 1, "valid_acc": 0.5}]


NEXT: dict[str, Callable[[Recorder, State], None]] = {
    "wait": lambda recorder, state: recorder.wait(),
    "epoch": lambda recorder, state: recorder.epoch(state, _checkpoint(state, 2.0)),
    "save": lambda recorder, state: recorder.save(state, _checkpoint(state, 2.0)),
    "leave": lambda recorder, state: recorder.__exit__(None, None, None),
}


def test_only_the_state_goes_past_the_page_cache(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best model is read again at the end."""
    past, usual = [], files.DirectFile
    monkeypatch.setattr(files, "DirectFile", lambda path: past.append(path.name) or usual(path))
    _record(recorder, 2, best_epochs=[1, 2])
    recorder.wait()
    assert [name.split(".")[1] for name in past] == ["last", "last"]
    assert "best_model.pt" in _names(tmp_path)


@pytest.mark.parametrize("written", [True, False], ids=["written", "being written"])
@pytest.mark.parametrize("weight", [1.0, 2.0], ids=["the same", "others"])
def test_at_the_end_the_best_model_is_read_back(
    weight: float,
    written: bool,
    recorder: Recorder,
    slow_disk: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On leaving; also of a run that goes on and has nothing left to train."""
    not_needed: list[str] = []
    monkeypatch.setattr("hybridnet.recorder.will_not_need", lambda path: not_needed.append(path.name))
    state = State(epoch=1, best_epoch=1, history=[{"epoch": 1, "valid_acc": 0.5}])
    model = nn.ParameterDict({"w": torch.tensor([weight])})
    if written:
        slow_disk.set()
    outcome = nullcontext() if weight == 1 else pytest.raises(TrainingError, match="weights that were evaluated")
    with outcome, recorder:
        recorder.epoch(state, _checkpoint(state, 1.0))
        if written:
            recorder.wait()
        recorder.finish(model)
        slow_disk.set()
    assert not_needed == (["best_model.pt"] if weight == 1 else [])


def test_a_best_model_that_was_not_written_is_not_read_back(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The disk's error is told, not that of the missing file."""
    _break_disk(monkeypatch, OSError(errno.ENOSPC, "No space left"))
    state = State(epoch=1, best_epoch=1, history=[{"epoch": 1, "valid_acc": 0.5}])
    with pytest.raises(OSError, match="No space left"), recorder:
        recorder.epoch(state, _checkpoint(state, 1.0))
        recorder.finish(nn.ParameterDict({"w": torch.ones(1)}))


@pytest.mark.parametrize("what", NEXT)
def test_whoever_comes_next_waits_for_the_epoch_that_is_being_written(
    what: str, recorder: Recorder, tmp_path: Path, slow_disk: threading.Event
) -> None:
    state = State(epoch=1, best_epoch=1, history=[{"epoch": 1, "valid_acc": 0.5}])
    recorder.epoch(state, _checkpoint(state, 1.0))
    threading.Timer(0.2, slow_disk.set).start()
    NEXT[what](recorder, state)
    assert slow_disk.is_set() and "best_model.pt" in _names(tmp_path)


@pytest.mark.parametrize("what", NEXT)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), RuntimeError("No such thing")])
def test_an_epoch_that_could_not_be_written_is_told(
    what: str, error: Exception, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break_disk(monkeypatch, error)
    state = State(epoch=1, best_epoch=1, history=[{"epoch": 1, "valid_acc": 0.5}])
    recorder.epoch(state, _checkpoint(state, 1.0))
    with pytest.raises(type(error), match="No s"):
        NEXT[what](recorder, state)
    recorder.__exit__(None, None, None)  # told once


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), RuntimeError("No such thing")])
def test_the_error_that_ends_a_run_is_not_hidden_behind_one_of_the_disk(
    error: Exception, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _break_disk(monkeypatch, error)
    state = State(epoch=1, best_epoch=1, history=[{"epoch": 1, "valid_acc": 0.5}])
    with pytest.raises(ZeroDivisionError), recorder:
        recorder.epoch(state, _checkpoint(state, 1.0))
        raise ZeroDivisionError
    (message,) = caplog.messages
    assert message == f"the last epoch could not be saved: {error}"


def test_a_step_is_shown(recorder: Recorder, tmp_path: Path) -> None:
    recorder.step(2, 30, 0.5, 0.25, 100.0)
    assert recorder.display.shown == [(2, 30, 0.5, 0.25, 100.0)]
    assert _names(tmp_path) == []


def test_before_a_run_goes_on_the_other_files_are_made_anew(
    recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    _record(recorder, 3, best_epochs=[1, 2, 2])
    (tmp_path / "best_model.pt").write_bytes(b"of the epoch after")
    (tmp_path / "history.json").unlink()
    (tmp_path / "history.csv").unlink()
    (tmp_path / "last.pt").write_bytes(b"damaged")
    before = (tmp_path / "previous.pt").read_bytes()
    state = State(epoch=2, batch=7, step=27, best_epoch=1, history=[{"valid_acc": 0.5}, {"valid_acc": 0.25}])
    recorder.restore({**_checkpoint(state, 4.0), "data": {"train": "of the run as it began"}})
    best = load_checkpoint(tmp_path / "best_model.pt")
    assert best == {
        "format": 1,
        "label2id": {"a": 0},
        "model": {"w": torch.tensor([4.0])},
        "metrics": {"valid_acc": 0.5},
    }
    assert read_json(tmp_path / "history.json") == state.history
    assert (tmp_path / "history.csv").read_text() == "valid_acc\n0.5\n0.25\n"
    last = load_checkpoint(tmp_path / "last.pt")
    assert last["data"] == {"train": "abc"}, "what was let through counts from here on"
    assert (last["state"], last["model"], last["format"]) == (vars(state), {"w": torch.tensor([4.5])}, 1)
    assert (tmp_path / "previous.pt").read_bytes() == before, "not the damaged one"
    assert caplog.messages == ["continuing after epoch 2, batch 7 of the next one (step 27)"]


def test_within_the_first_epoch_there_is_nothing_to_make_anew(recorder: Recorder, tmp_path: Path) -> None:
    recorder.restore({"state": vars(State(batch=3, step=3)), "best": {}})
    assert _names(tmp_path) == ["last.pt"], "which may have been damaged"
