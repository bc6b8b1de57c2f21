"""What can be wrong with a run folder, said so that a user can help it."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from contextlib import suppress
from pathlib import Path

from hybridnet.errors import Fault, TrainingError
from hybridnet.files import FULL, in_bytes, read_json, shortened, size_limit


def command(folder: Path) -> str:
    """That continues the run."""
    return f"python train.py {_resume(folder)}"


def used(folder: Path) -> Fault:
    """It holds a run."""
    hint = f"continue it with {_resume(folder)}, or choose another folder with hydra.run.dir=<folder>"
    return Fault("used run folder", str(folder), "it holds another run, which would be overwritten", hint)


def in_use(folder: Path) -> Fault:
    """Another process works in it."""
    who = "another process has just begun to work in it"
    with suppress(OSError, ValueError, KeyError, TypeError):
        status = read_json(folder / "status.json")  # of the run before, until the other process begins
        if status["status"] == "running" and _is_alive(status["pid"]):
            who = f"process {status['pid']} has been working in it since {status['started']}"
    return Fault("run folder in use", str(folder), who, "choose another folder with hydra.run.dir=<folder>")


def unusable(folder: Path, error: OSError) -> Fault:
    """It cannot be made, locked or written."""
    hint = "choose another place with hydra.run.dir=<folder>"
    return Fault("unusable run folder", str(folder), error.strerror or str(error), hint)


def explained(error: BaseException | None, folder: Path) -> BaseException | None:
    """The error of a run, or, where it is one of the folder's disk, one in its place that a user understands."""
    if not isinstance(error, OSError) or error.filename is None:
        return error
    if not Path(error.filename).is_relative_to(folder):
        return error
    hint = f"what was saved before is whole; then continue with {command(folder)}"
    if error.errno in FULL:
        free = in_bytes(shutil.disk_usage(folder).free)
        fault = Fault("disk full", error.filename, f"{error.strerror}, {free} are free", f"make room; {hint}")
    elif error.errno == errno.EFBIG:
        limit = f"the limit of a file is {in_bytes(size_limit())}"
        fault = Fault("file size limit", error.filename, limit, f"ulimit -f unlimited; {hint}")
    else:
        cause = error.strerror or str(error)
        fault = Fault("unusable run folder", error.filename, cause, f"make it writable; {hint}")
    return TrainingError(fault)


def _resume(folder: Path) -> str:
    return f"resume={shlex.quote(str(shortened(folder)))}"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
