from __future__ import annotations

import contextlib
import csv
import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hybridnet import run as run_module
from hybridnet.errors import Fault, InputError, Stopped, TrainingError
from hybridnet.files import read_json, try_lock, write_json
from hybridnet.run import RESTORED, RunFolder
from hybridnet.trainer.state import State

PRECIOUS = ["history.json", "history.csv", "last.pt", "previous.pt", "best_model.pt", "metrics.json"]


@contextmanager
def _begun(folder: Path, **options: Any) -> Iterator[RunFolder]:
    with RunFolder(folder, **options) as run:
        run.begin({})
        yield run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For a run, below the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs" / "run"


def _status(folder: Path) -> dict[str, Any]:
    return read_json(folder / "status.json")


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _system_error(number: int, path: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([str(path)] if path else []))


def test_a_run_is_running_and_then_complete(folder: Path) -> None:
    with RunFolder(folder) as run:
        assert _content(folder) == {".lock": b""}
        run.begin({"config.yaml": "seed: 1\n", "overrides.yaml": "- ü\n"})
        assert (folder / ".hydra" / "config.yaml").read_text(encoding="utf-8") == "seed: 1\n"
        assert (folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8") == "- ü\n"
        running = _status(folder)
    complete = _status(folder)
    assert (running["status"], running["error"], running["ended"]) == ("running", None, None)
    assert (complete["status"], complete["error"]) == ("complete", None)
    assert running["pid"] == complete["pid"] == os.getpid()
    assert running["started"] == complete["started"] <= complete["ended"]
    assert datetime.fromisoformat(complete["started"]).tzinfo == datetime.fromisoformat(complete["ended"]).tzinfo
    assert datetime.now(timezone.utc) - datetime.fromisoformat(complete["started"]) < timedelta(minutes=1)


def test_a_run_that_was_refused_or_left_alone_stays_as_it_is(folder: Path) -> None:
    with contextlib.suppress(RuntimeError), _begun(folder):
        (folder / "last.pt").write_text("precious")
        raise RuntimeError
    before = _content(folder)
    os.utime(folder / ".lock", ns=(0, 0))
    with RunFolder(folder, is_continued=True):
        pass
    with pytest.raises(InputError), RunFolder(folder, is_continued=True):
        raise InputError(Fault("changed settings", "b", "c"))
    assert _content(folder) == before
    assert (folder / ".lock").stat().st_mtime_ns == 0


class _Listener:
    """Trackers that keep how the run has ended."""

    def begin(self, history: Any) -> None:
        pass

    def end(self, status: str, metrics: Any) -> None:
        self.heard = (status, metrics)


@pytest.mark.parametrize(
    ("error", "heard"), [(None, ("complete", {"valid_acc": 0.5})), (RuntimeError("boom"), ("failed", {}))]
)
def test_only_a_complete_run_tells_its_trackers_what_it_came_to(
    folder: Path, error: Exception | None, heard: tuple[str, Any]
) -> None:
    """A run that was to be trained longer, and failed, still has the metrics of its first end."""
    listener = _Listener()
    with contextlib.suppress(RuntimeError), RunFolder(folder) as run:
        run.begin({}, trackers=listener)
        write_json(folder / "metrics.json", {"valid_acc": 0.5})
        if error:
            raise error
    assert listener.heard == heard


STOPPED = Stopped(15)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (RuntimeError("boom"), "failed", "RuntimeError: boom"),
        (InputError(Fault("a", "b", "c")), "failed", "InputError: error: a in b: c"),
        (TrainingError(Fault("a", "b", "c", "d")), "failed", "TrainingError: error: a in b: c\nhint: d"),
        (_system_error(errno.ENOSPC), "failed", "OSError: [Errno 28] No space left on device"),
        (STOPPED, "stopped", "Stopped: stopped by SIGTERM"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt: "),
        (SystemExit(3), "stopped", "SystemExit: 3"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_told_and_passed_on(folder: Path, error: BaseException, status: str, text: str) -> None:
    with pytest.raises(type(error)) as caught, _begun(folder):
        raise error
    assert caught.value is error
    ended = _status(folder)
    assert (ended["status"], ended["error"], ended["ended"] is None) == (status, text, False)


@pytest.mark.parametrize(
    ("error", "is_saved", "messages"),
    [
        (STOPPED, True, ["stopped; continue with python train.py resume=outputs/run"]),
        (STOPPED, False, ["stopped before anything was saved"]),
        (
            RuntimeError("boom"),
            True,
            [
                "failed; outputs/run/train.log has the traceback",
                "continue with python train.py resume=outputs/run",
            ],
        ),
        (RuntimeError("boom"), False, ["failed; outputs/run/train.log has the traceback"]),
        (InputError(Fault("a", "b", "c")), False, []),
        (None, True, []),
    ],
)
def test_how_a_run_goes_on_is_said(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    error: BaseException | None,
    is_saved: bool,
    messages: list[str],
) -> None:
    caplog.set_level("INFO")
    with contextlib.suppress(type(error or ValueError())), _begun(folder):
        if is_saved:
            (folder / "last.pt").touch()
        if error:
            raise error
    assert [record.getMessage() for record in caplog.records] == messages
    tracebacks = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert tracebacks == [error] * isinstance(error, RuntimeError)


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("boom"), "failed"), (STOPPED, "stopped")])
def test_the_status_is_written_before_anything_is_said(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: str,
) -> None:
    """Whatever may hinder that, the folder tells how the run has ended."""
    caplog.set_level("INFO")

    def break_(*_: object, **__: object) -> None:
        raise OSError("the log is gone")

    with pytest.raises(OSError, match="the log is gone"), _begun(folder):
        monkeypatch.setattr(run_module.log, "_log", break_)
        raise error
    assert _status(folder)["status"] == status


def test_a_failure_before_the_beginning_is_logged_with_its_traceback(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError), RunFolder(folder):
        raise RuntimeError("boom")
    (record,) = caplog.records
    assert (record.levelname, str(record.exc_info[1])) == ("ERROR", "boom")
    assert _content(folder) == {".lock": b""}


@pytest.mark.parametrize("result", PRECIOUS)
def test_a_folder_with_results_is_refused_and_left_alone(folder: Path, result: str) -> None:
    folder.mkdir(parents=True)
    (folder / result).write_text("precious")
    with pytest.raises(InputError) as caught:
        RunFolder(folder).__enter__()
    assert str(caught.value) == (
        f"error: used run folder in {folder}: it holds another run, which would be overwritten\n"
        "hint: continue it with resume=outputs/run, or choose another folder with hydra.run.dir=<folder>"
    )
    assert _content(folder) == {".lock": b"", result: b"precious"}
    with RunFolder(folder, is_continued=True):  # its lock is free
        pass


@pytest.mark.parametrize("status", ["running", "failed", "stopped"])
def test_the_folder_of_a_run_without_results_is_free(folder: Path, status: str) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "status.json", {"status": status})
    with _begun(folder):
        pass
    assert _status(folder)["status"] == "complete"


def _refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        RunFolder(folder, is_continued=True).__enter__()
    (fault,) = caught.value.faults
    assert (fault.what, fault.where) == ("run folder in use", str(folder))
    assert fault.hint == "choose another folder with hydra.run.dir=<folder>"
    return fault.cause


def test_a_second_process_is_refused_and_told_about_the_first(folder: Path) -> None:
    with RunFolder(folder) as run:
        assert _refusal(folder) == "another process has just begun to work in it"
        run.begin({})
        started = _status(folder)["started"]
        assert _refusal(folder) == f"process {os.getpid()} has been working in it since {started}"
        before = _content(folder)
        with pytest.raises(InputError, match="run folder in use"):
            RunFolder(folder).__enter__()
        assert _content(folder) == before
    with RunFolder(folder, is_continued=True):
        pass


def test_of_many_that_start_together_one_gets_the_folder(tmp_path: Path) -> None:
    won: list[RunFolder] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        with contextlib.suppress(InputError):
            won.append(RunFolder(tmp_path / "same").__enter__())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (run,) = won
    run.__exit__(None, None, None)


def test_left_over_temporaries_are_removed_by_the_one_that_holds_the_lock(folder: Path) -> None:
    (folder / ".hydra").mkdir(parents=True)
    left = [folder / ".last.pt.17.tmp", folder / ".hydra" / ".config.yaml.17.tmp"]
    with (folder / ".lock").open("w") as holder:
        assert try_lock(holder)
        for path in left:
            path.touch()
        _refusal(folder)
        assert all(path.exists() for path in left)
    (folder / "last.pt").touch()
    with pytest.raises(InputError, match="used run folder"):
        RunFolder(folder).__enter__()
    assert all(path.exists() for path in left)
    with RunFolder(folder, is_continued=True) as run:
        assert [path.exists() for path in left] == [False, True]
        run.begin({})
        assert not left[1].exists()
    assert (folder / "last.pt").exists()


def test_where_there_are_no_locks_temporaries_may_be_another_s(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridnet.files.fcntl", None)
    (folder / ".hydra").mkdir(parents=True)
    left = [folder / ".last.pt.17.tmp", folder / ".hydra" / ".config.yaml.17.tmp"]
    for path in left:
        path.touch()
    with RunFolder(folder, is_continued=True) as run:
        run.begin({})
    assert all(path.exists() for path in left)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        RunFolder(tmp_path / "file" / "run").__enter__()
    assert str(caught.value) == (
        f"error: unusable run folder in {tmp_path / 'file' / 'run'}: Not a directory\n"
        "hint: choose another place with hydra.run.dir=<folder>"
    )


@pytest.fixture
def not_writable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a call fail as on a disk that was mounted again to be read only, also for an administrator."""

    def fail(name: str) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise _system_error(errno.EROFS)

        owner, _, function = name.rpartition(".")
        monkeypatch.setattr(getattr(run_module, owner) if owner else run_module, function, refuse)

    return fail


def test_a_folder_that_became_read_only_is_refused_before_and_after_the_data_are_read(
    folder: Path, not_writable: Callable[[str], None]
) -> None:
    refused = f"unusable run folder in {folder}: Read-only file system\nhint: choose another place with hydra"
    for name in ("write_json", "write_text", "tempfile.TemporaryFile", "remove_temporaries"):
        with RunFolder(folder, is_continued=True) as run:
            not_writable(name)
            with pytest.raises(InputError, match=refused):
                run.begin({"config.yaml": ""}) if "." not in name else run.require_room(nn.Linear(1, 1), _trainer())
        assert not (folder / "status.json").exists()
    with pytest.raises(InputError, match=refused):
        RunFolder(folder).__enter__()
    with (folder / ".lock").open("w") as stream:
        assert try_lock(stream)


def test_a_file_that_cannot_be_written_is_explained(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    error = _system_error(errno.EROFS, folder / "last.pt")
    with pytest.raises(TrainingError) as caught, _begun(folder):
        (folder / "last.pt").touch()
        raise error
    assert caught.value.__cause__ is error
    assert str(caught.value) == (
        f"error: unusable run folder in {folder / 'last.pt'}: Read-only file system\nhint: make it writable; what was "
        "saved before is whole; then continue with python train.py resume=outputs/run"
    )
    assert _status(folder)["status"] == "failed"
    assert _status(folder)["error"] == f"TrainingError: {caught.value}"
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_an_error_of_another_file_is_not_explained_as_one_of_the_run(folder: Path) -> None:
    for error in (_system_error(errno.ENOSPC, folder.parent / "a.csv"), _system_error(errno.ENOSPC)):
        with pytest.raises(OSError, match="No space left") as caught, _begun(folder):
            raise error
        assert caught.value is error


def test_a_status_that_cannot_be_written_does_not_hide_the_first_error(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: Any) -> None:
        raise _system_error(errno.ENOSPC, path)

    with pytest.raises(RuntimeError, match="boom"), _begun(folder):
        monkeypatch.setattr(run_module, "write_json", refuse)
        raise RuntimeError("boom")
    message = caplog.records[-1].getMessage()
    assert message.startswith("status.json still says running: ") and "No space left on device" in message
    assert _status(folder)["status"] == "running"
    with RunFolder(folder):  # the lock is free
        pass


def test_a_run_whose_last_word_cannot_be_written_has_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = _system_error(errno.ENOSPC, folder / "status.json")

    def refuse(path: Path, content: Any) -> None:
        raise error

    with pytest.raises(TrainingError, match="disk full in .*status.json: No space left") as caught, _begun(folder):
        monkeypatch.setattr(run_module, "write_json", refuse)
    assert caught.value.__cause__ is error
    with RunFolder(folder):
        pass


def _trainer(ema_decay: float = 0.0) -> Any:
    return SimpleNamespace(ema_decay=ema_decay)


def _model_of_1_mb() -> nn.Module:
    """On the meta device, half of it a buffer."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.empty(125_000, device="meta"))
    model.register_buffer("mean", torch.empty(62_500, device="meta", dtype=torch.float64))
    return model


@pytest.mark.parametrize(("ema_decay", "there", "needed"), [(0.0, 0, 14), (0.9, 0, 17), (0.0, 9, 5)])
def test_a_disk_without_room_is_refused_with_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ema_decay: float, there: int, needed: int
) -> None:
    """Three states of four times the model (five with an average), and two best models, are there while one is
    written.
    """
    usage = SimpleNamespace(free=needed * 10**6)
    monkeypatch.setattr(run_module.shutil, "disk_usage", {folder: usage}.get)
    monkeypatch.setattr(run_module, "size_limit", lambda: (5 if ema_decay else 4) * 10**6)
    with RunFolder(folder, is_continued=True) as run:
        for name, share in (("last.pt", 4), ("previous.pt", 4), ("best_model.pt", 1)):
            with (folder / name).open("wb") as stream:
                stream.truncate(there * share * 10**6 // 9)
        (folder / "predictions.csv").write_bytes(b"x" * 10**5)
        run.require_room(_model_of_1_mb(), _trainer(ema_decay))
        usage.free -= 1
        with pytest.raises(InputError) as caught:
            run.require_room(_model_of_1_mb(), _trainer(ema_decay))
    assert str(caught.value) == (
        f"error: no room in {folder}: the checkpoints need {needed} MB, {needed} MB are free\n"
        "hint: make room, choose another disk with hydra.run.dir=<folder>, or train a smaller model"
    )


@pytest.mark.parametrize(("ema_decay", "size"), [(0.0, 4), (0.9, 5)])
def test_a_limit_of_the_file_size_is_refused_with_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ema_decay: float, size: int
) -> None:
    with RunFolder(folder) as run:
        monkeypatch.setattr(run_module, "size_limit", lambda: size * 10**6)
        run.require_room(_model_of_1_mb(), _trainer(ema_decay))
        monkeypatch.setattr(run_module, "size_limit", lambda: size * 10**6 - 1)
        with pytest.raises(InputError, match="file size limit"):
            run.require_room(_model_of_1_mb(), _trainer(ema_decay))
        monkeypatch.setattr(run_module, "size_limit", lambda: 1_500_000)
        with pytest.raises(InputError) as caught:
            run.require_room(_model_of_1_mb(), _trainer(ema_decay))
    assert str(caught.value) == (
        f"error: file size limit in {folder}: a checkpoint has {size} MB, the limit of a file is 2 MB\n"
        "hint: raise it with ulimit -f unlimited, or train a smaller model"
    )


def test_the_room_is_looked_for_without_leaving_anything(folder: Path) -> None:
    with RunFolder(folder) as run:
        run.require_room(_model_of_1_mb(), _trainer())
        assert _content(folder) == {".lock": b""}


@pytest.mark.parametrize(
    ("status", "metrics", "epoch", "expected"),
    [
        ("complete", {"valid_acc": 1}, 3, True),
        ("complete", {"valid_acc": 1}, 2, False),  # more epochs are asked for
        ("complete", {"epochs": 3, "best_epoch": 2}, None, True),  # its state was not kept
        ("complete", {}, 3, False),
        ("complete", None, 3, False),
        ("running", {"valid_acc": 1}, 3, False),
        ("failed", {"valid_acc": 1}, 3, False),
        ("stopped", {"valid_acc": 1}, 3, False),
        (None, {"valid_acc": 1}, 3, False),
        ('["complete"]', {"valid_acc": 1}, 3, False),
        ('{"error": null}', {"valid_acc": 1}, 3, False),
        ("{", {"valid_acc": 1}, 3, False),
        (None, None, 1, False),
        (None, None, None, False),
    ],
)
def test_a_run_is_complete_if_all_was_done(
    folder: Path, status: str | None, metrics: Any, epoch: int | None, expected: bool
) -> None:
    trainer = SimpleNamespace(is_finished=lambda state: state.epoch >= 3)
    checkpoint = None if epoch is None else {"state": vars(State(epoch=epoch))}
    with RunFolder(folder, is_continued=True) as run:
        if status:
            (folder / "status.json").write_text(status if status[0] in "[{" else f'{{"status": "{status}"}}')
        if metrics is not None:
            write_json(folder / "metrics.json", metrics)
        for name in RESTORED if checkpoint else ():
            assert not run.is_complete(trainer, checkpoint), "its state makes them anew"
            (folder / name).touch()
        assert run.is_complete(trainer, checkpoint) is expected


@pytest.mark.parametrize("name", ["best_model.pt", "history.json", "history.csv", "predictions.csv"])
def test_a_run_that_has_lost_a_result_is_not_complete(folder: Path, name: str) -> None:
    """Its state has what makes it anew."""
    trainer, checkpoint = SimpleNamespace(is_finished=lambda _: True), {"state": vars(State(epoch=3))}
    with RunFolder(folder, is_continued=True) as run:
        write_json(folder / "status.json", {"status": "complete"})
        write_json(folder / "metrics.json", {"valid_acc": 1})
        for result in ("best_model.pt", "history.json", "history.csv", "predictions.csv"):
            (folder / result).touch()
        assert run.is_complete(trainer, checkpoint)
        (folder / name).unlink()
        assert not run.is_complete(trainer, checkpoint)


def test_an_early_end_is_said(folder: Path) -> None:
    with RunFolder(folder, is_continued=True) as run:
        write_json(folder / "metrics.json", {"epochs": 3, "best_epoch": 1})
        assert run.ended_early(SimpleNamespace(epochs=3, patience=2)) == ""
        assert run.ended_early(SimpleNamespace(epochs=7, patience=2)) == (
            "; it stopped early, after epoch 3 of 7 (trainer.patience=2): "
            "trainer.patience=0 resume_allow=[trainer.patience] goes on"
        )


def test_a_complete_run_without_its_state_cannot_be_trained_longer(folder: Path) -> None:
    trainer = SimpleNamespace(is_finished=lambda state: state.epoch - state.best_epoch >= 2)
    with RunFolder(folder, is_continued=True) as run:
        (folder / "status.json").write_text('{"status": "complete"}')
        write_json(folder / "metrics.json", {"epochs": 3, "best_epoch": 1})
        assert run.is_complete(trainer, None)
        write_json(folder / "metrics.json", {"epochs": 3, "best_epoch": 2})
        with pytest.raises(
            InputError, match=r"missing state in .*last\.pt: the run is complete, and its state was not"
        ):
            run.is_complete(trainer, None)


@pytest.mark.parametrize("outcome", ["complete", "pruned"])
@pytest.mark.parametrize("keeps_state", [True, False])
def test_what_goes_with_the_end_of_the_training(keeps_state: bool, outcome: str, tmp_path: Path) -> None:
    """The state before the last one, and the last one too if that is asked for."""
    with RunFolder(tmp_path) as run:
        run.begin({})
        run.outcome, run.keeps_state = outcome, keeps_state
        for name in ("last.pt", "previous.pt", "best_model.pt"):
            (tmp_path / name).touch()
    assert (tmp_path / "best_model.pt").exists()
    assert (tmp_path / "last.pt").exists() == (keeps_state or outcome == "pruned")
    assert (tmp_path / "previous.pt").exists() == (outcome == "pruned")


@pytest.mark.parametrize("error", [Stopped(15), ValueError("some")])
def test_a_training_that_is_cut_off_keeps_the_state_before_the_last_one(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)), RunFolder(tmp_path) as run:
        run.begin({})
        (tmp_path / "previous.pt").touch()
        run.keeps_state = False
        (tmp_path / "last.pt").touch()
        raise error
    assert (tmp_path / "previous.pt").exists() and (tmp_path / "last.pt").exists()


@pytest.mark.parametrize("status", ["running", "stopped", "failed"])
def test_a_run_that_keeps_no_state_may_begin_again(status: str, folder: Path) -> None:
    """It was killed after its last epoch, and had saved no other one."""
    with RunFolder(folder, is_continued=True) as run:
        run.keeps_state = False
        write_json(folder / "status.json", {"status": status})
        (folder / "best_model.pt").touch()
        assert not run.is_complete(SimpleNamespace(), None)


@pytest.mark.parametrize("status", ["running", "complete"])
@pytest.mark.parametrize("result", PRECIOUS)
def test_results_without_a_checkpoint_are_not_overwritten(folder: Path, status: str, result: str) -> None:
    with RunFolder(folder, is_continued=True) as run:
        write_json(folder / "status.json", {"status": status})
        write_json(folder / result, {})
        with pytest.raises(InputError, match="used run folder"):
            run.is_complete(SimpleNamespace(), None)


def test_the_metrics_are_read(folder: Path) -> None:
    with RunFolder(folder) as run:
        write_json(folder / "metrics.json", {"valid_acc": 0.5})
        assert run.metrics() == {"valid_acc": 0.5}


ENVIRONMENT = {"command": ["a"], "seed": 1, "device": "cpu", "device_name": "x86_64", "precision": "float32"}
ENVIRONMENT |= {
    "processes": 1,
    "threads": 2,
    "platform": "Linux",
    "python": "3.11.7",
    "cuda": None,
    "packages": {"torch": "2.10"},
}


def test_every_part_of_a_run_has_its_environment(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = [ENVIRONMENT, ENVIRONMENT | {"threads": 4, "command": ["b"]}, ENVIRONMENT | {"packages": {"torch": "2.11"}}]
    with RunFolder(folder) as run:
        run.write_environment(parts[0])
    assert read_json(folder / "environment.json") == parts[0] | {"earlier": []}
    assert caplog.messages == []
    with RunFolder(folder, is_continued=True) as run:
        run.write_environment(parts[1])
    assert read_json(folder / "environment.json") == parts[1] | {"earlier": [parts[0]]}
    with RunFolder(folder, is_continued=True) as run:
        run.write_environment(parts[2])
    assert read_json(folder / "environment.json") == parts[2] | {"earlier": parts[:2]}
    begin, end = "the run began in another environment (", "): last digits may differ"
    assert caplog.messages == [
        f"{begin}threads 2, now 4{end}",
        f"{begin}threads 4, now 2; torch 2.10, now 2.11{end}",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_the_same_environment_is_no_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for command in ("a", "b"):
        with RunFolder(folder, is_continued=True) as run:
            run.write_environment(ENVIRONMENT | {"command": [command], "seed": 3, "git_commit": command})
    assert caplog.messages == []


def test_the_environment_of_a_run_that_failed_before_its_first_results_is_forgotten(folder: Path) -> None:
    for _ in range(2):
        with RunFolder(folder) as run:
            run.write_environment(ENVIRONMENT)
    assert read_json(folder / "environment.json")["earlier"] == []


@pytest.mark.parametrize("text", ["", "{", "null", "\xff"])
def test_a_damaged_environment_does_not_stop_a_run(folder: Path, text: str) -> None:
    with RunFolder(folder, is_continued=True) as run:
        (folder / "environment.json").write_text(text, encoding="latin-1")
        run.write_environment(ENVIRONMENT)
    assert read_json(folder / "environment.json") == ENVIRONMENT | {"earlier": []}


def _with_bad_pictures(folder: Path) -> list[str]:
    """Ten pictures that can be used, one missing, one damaged, and one of training that is also for validation."""
    rng, lines = np.random.default_rng(0), ["path,label,split"]
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3)).astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]},{'train' if number < 8 else 'valid'}")
    (folder / "3.png").unlink()
    (folder / "10.png").write_bytes((folder / "10.png").read_bytes()[:-999])
    shutil.copy(folder / "8.png", folder / "2.png")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    write_json(folder / "label2id.json", {"a": 0, "b": 1})
    return [
        *("train.py", "model=plain", "data=metadata", "data.image_size=64", "data.batch_size=4", "trainer.epochs=1"),
        *(f"data.metadata={folder / 'metadata.csv'}", f"data.label2id={folder / 'label2id.json'}"),
        *(f"data.cache_dir={folder / 'cache'}", "trainer.device=cpu", "hydra.run.dir=run"),
    ]


def test_a_run_leaves_out_what_it_is_told_to(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = command(*_with_bad_pictures(tmp_path), "data.on_bad_image=skip", "data.on_leak=keep")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: 2 pictures that cannot be used; see left_out.csv" in done.stdout
    assert "1 validation picture with copies in training" in done.stdout
    with (tmp_path / "run" / "left_out.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["line"], row["path"], row["split"]) for row in rows] == [
        ("5", "3.png", "train"),
        ("12", "10.png", "valid"),
    ]
    assert rows[0]["cause"] == "no such file"
    assert "truncated" in rows[1]["cause"]
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert (metrics["num_valid"], metrics["num_leaked"]) == (3, 1)
    with (tmp_path / "run" / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == ["8.png", "9.png", "11.png"]
