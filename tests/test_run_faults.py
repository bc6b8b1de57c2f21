from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybridnet import run_faults
from hybridnet.errors import TrainingError
from hybridnet.files import write_json


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a run, below the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "run"
    folder.mkdir(parents=True)
    return folder


def _system_error(number: int, path: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), *([str(path)] if path else []))


def test_a_used_folder_is_refused_with_both_ways_out(folder: Path) -> None:
    assert str(run_faults.used(folder)) == (
        f"error: used run folder in {folder}: it holds another run, which would be overwritten\n"
        "hint: continue it with resume=outputs/run, or choose another folder with hydra.run.dir=<folder>"
    )


def test_the_command_can_be_pasted(folder: Path) -> None:
    assert run_faults.command(folder) == "python train.py resume=outputs/run"
    assert run_faults.command(folder.with_name("my run")) == "python train.py resume='outputs/my run'"


@pytest.mark.parametrize(
    ("status", "is_named"),
    [
        ({"status": "running", "pid": 4711, "started": "then"}, True),
        ({"status": "running", "pid": 4712, "started": "then"}, True),
        ({"status": "running", "pid": 4713, "started": "then"}, False),
        ({"status": "stopped", "pid": 4711, "started": "then"}, False),
        ({"status": "running", "pid": 4711}, False),
        ({"status": "running"}, False),
        (["running"], False),
        (None, False),
    ],
)
def test_the_status_of_the_run_before_is_not_taken_for_the_first_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch, status: Any, is_named: bool
) -> None:
    """A run that is continued writes its own status once its data are read."""

    def kill(process: int, number: int) -> None:
        assert number == 0
        if process != 4711:
            raise {4712: PermissionError, 4713: ProcessLookupError}[process]  # another user's; ended

    monkeypatch.setattr(os, "kill", kill)
    if status:
        write_json(folder / "status.json", status)
    else:
        (folder / "status.json").write_text("{")
    named = f"process {status['pid']} has been working in it since then" if is_named else ""
    assert run_faults.in_use(folder).cause == (named or "another process has just begun to work in it")


FULL = "what was saved before is whole; then continue with python train.py resume=outputs/run"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (
            errno.ENOSPC,
            f"error: disk full in FILE: No space left on device, 1.2 GB are free\nhint: make room; {FULL}",
        ),
        (errno.EDQUOT, f"error: disk full in FILE: Disk quota exceeded, 1.2 GB are free\nhint: make room; {FULL}"),
        (
            errno.EFBIG,
            f"error: file size limit in FILE: the limit of a file is 7 MB\nhint: ulimit -f unlimited; {FULL}",
        ),
        (
            errno.EROFS,
            f"error: unusable run folder in FILE: Read-only file system\nhint: make it writable; {FULL}",
        ),
        (
            errno.EACCES,
            f"error: unusable run folder in FILE: Permission denied\nhint: make it writable; {FULL}",
        ),
    ],
)
def test_a_file_that_cannot_be_written_is_explained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    monkeypatch.setattr(run_faults.shutil, "disk_usage", {folder: SimpleNamespace(free=1_234_567_890)}.get)
    monkeypatch.setattr(run_faults, "size_limit", lambda: 7_000_000)
    explained = run_faults.explained(_system_error(number, folder / "last.pt"), folder)
    assert isinstance(explained, TrainingError)
    assert str(explained) == text.replace("FILE", str(folder / "last.pt"))


def test_any_other_error_stays_as_it_is(folder: Path) -> None:
    elsewhere = _system_error(errno.ENOSPC, folder.parent / "a.csv")
    for error in (None, RuntimeError("boom"), KeyboardInterrupt(), _system_error(errno.ENOSPC), elsewhere):
        assert run_faults.explained(error, folder) is error
