"""What it means when the system refuses something to the loader or ends one of its processes, and a way out."""

from __future__ import annotations

import errno
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from hybridnet.errors import Fault, TrainingError
from hybridnet.files import in_bytes

try:
    import resource
except ImportError:  # Windows
    resource = None

SHARED_MEMORY = Path("/dev/shm")
THREADS = "data.num_workers=auto (threads, no processes)"
SMALLER = "a smaller data.batch_size"
FEWER = f"{THREADS} or fewer workers, or {SMALLER}"
LARGER_SHARED_MEMORY = f"{THREADS} needs none; or a larger one, in Docker with `docker run --shm-size=1g`"

# torch only writes what other errors have as a number.
WORDS = {"Too many open files": errno.EMFILE, "items of ancdata": errno.EMFILE, "allocate memory": errno.ENOMEM}
NUMBER = re.compile(r"</torch_.*\((\d+)\)$")
ENDED = re.compile(r"DataLoader worker \(pid(?:\(s\))? (?P<pids>[\d, ]+)\)(?: is killed by signal: (?P<signal>.+?)\.)?")


def explain(
    error: BaseException,
    *,
    num_workers: int | Literal["auto"] = "auto",
    exit_codes: Mapping[int, int | None] | None = None,
) -> TrainingError | None:
    """What `error`, or one that it was raised from, means; None if that is not known, or was said before.

    Args:
        error: of a thread or process that makes batches, or of torch about one.
        num_workers: which there are.
        exit_codes: of the worker processes that have ended, by process id, as `Process.exitcode` has them.
    """
    where = f"data.num_workers={num_workers}"
    has_processes = num_workers not in ("auto", 0)
    if exit_codes := exit_codes or _ended(error):
        return TrainingError(_lost(exit_codes, where))
    if isinstance(error, TrainingError):
        return None
    for reason in _chain(error):
        number = _number(reason)
        if number in (errno.EMFILE, errno.ENFILE):
            cause, hint = _limit_of_files(number)
            hint += f", or {THREADS}" if has_processes else ""
            return TrainingError(Fault("too many open files", where, cause, hint))
        if number == errno.ENOMEM:
            hint = FEWER if has_processes else SMALLER
            return TrainingError(Fault("too little memory", where, "the system has none left for a batch", hint))
        if _is_of_torch(reason) and "</torch_" in str(reason):
            what = str(reason).rpartition(": ")[2]
            cause = f"{_room()}; worker processes hand their batches over in it ({what})"
            return TrainingError(Fault("full shared memory", str(SHARED_MEMORY), cause, LARGER_SHARED_MEMORY))
    if isinstance(error, EOFError | ConnectionError):
        cause = "a worker process, or the server that starts them, broke off; what it wrote above says why"
        return TrainingError(Fault("lost connection", where, cause, FEWER))
    return None


def unexpected(error: BaseException, where: str) -> TrainingError:
    """Names an error that should not happen."""
    hint = "HYDRA_FULL_ERROR=1 in the environment shows where"
    return TrainingError(Fault(f"unexpected {type(error).__name__}", where, str(error) or "without a message", hint))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_of_torch(error: BaseException) -> bool:
    """Whether the text may be searched: that of other errors has names of files in it."""
    return type(error) is RuntimeError


def _number(error: BaseException) -> int | None:
    """The system's number of the error."""
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if not _is_of_torch(error):
        return None
    if found := NUMBER.search(str(error)):
        return int(found[1])
    return next((number for words, number in WORDS.items() if words in str(error)), None)


def _ended(error: BaseException) -> dict[int, int | None]:
    """The exit codes of the processes that torch says have ended."""
    found = ENDED.match(str(error)) if _is_of_torch(error) else None
    if not found:
        return {}
    numbers = {signal.strsignal(number): -number for number in signal.valid_signals()}
    return {int(pid): numbers.get(found["signal"]) for pid in found["pids"].split(",")}


def _lost(exit_codes: Mapping[int, int | None], where: str) -> Fault:
    causes = [f"process {pid} {_end(code)}" for pid, code in exit_codes.items()]
    hint = LARGER_SHARED_MEMORY if any("SIGBUS" in cause for cause in causes) else FEWER
    return Fault("lost worker process", where, "; ".join(causes), hint)


def _end(code: int | None) -> str:
    if code is None:
        return "ended unexpectedly"
    if code >= 0:
        return f"ended with exit code {code}; what it wrote above says why"
    name = next((number.name for number in signal.Signals if number == -code), f"signal {-code}")
    usual = {
        "SIGKILL": "; usually the system had no memory left",
        "SIGBUS": f"; usually {SHARED_MEMORY} was full ({_room()} now)",
    }
    return f"was killed by {name}{usual.get(name, '')}"


def _limit_of_files(number: int) -> tuple[str, str]:
    """Which one is reached, and how it is raised."""
    if number == errno.ENFILE or resource is None:
        return "the system's own limit is reached", "end other programs"
    limit, largest = resource.getrlimit(resource.RLIMIT_NOFILE)
    larger = 4 * limit if largest == resource.RLIM_INFINITY else min(4 * limit, largest)
    raised = f"`ulimit -n {larger}` before the start" if larger > limit else "a larger limit from the administrator"
    return f"a process may have {limit:,} (ulimit -n)", raised


def _room() -> str:
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return "its size is unknown"
    return f"{in_bytes(usage.free)} of {in_bytes(usage.total)} are free"
