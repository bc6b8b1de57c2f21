"""What the system's refusals mean, from the words that Python and torch have for them."""

from __future__ import annotations

import errno
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hybridnet.data import failures
from hybridnet.data.failures import explain, unexpected
from hybridnet.errors import Fault, InputError, TrainingError

resource = pytest.importorskip("resource")
KILLED = "DataLoader worker (pid 4711) is killed by signal: Killed. "
BUS = (
    "DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory. Please try to raise your shared memory limit."
)


@pytest.fixture(autouse=True)
def _system(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have 1,024 open files, and 4,000 if it asks; /dev/shm has 64 MB, as in a container."""
    monkeypatch.setattr(resource, "getrlimit", {resource.RLIMIT_NOFILE: (1024, 4000)}.__getitem__)
    sizes = {failures.SHARED_MEMORY: shutil._ntuple_diskusage(total=67_108_864, used=64_000_000, free=3_108_864)}
    monkeypatch.setattr(shutil, "disk_usage", sizes.__getitem__)


def fault_of(error: BaseException, **known: Any) -> Fault:
    (fault,) = explain(error, **known).faults
    return fault


def raised_from(reason: BaseException, error: BaseException) -> BaseException:
    error.__cause__ = reason
    return error


def unreadable(reason: BaseException) -> BaseException:
    return raised_from(reason, InputError(Fault("unreadable image", "7.png", str(reason))))


# Open files

NO_FILES = [
    OSError(errno.EMFILE, "Too many open files", "photos/7.png"),
    unreadable(OSError(errno.EMFILE, "Too many open files", "photos/7.png")),
    RuntimeError("unable to open shared memory object </torch_11_22_33> in read-write mode: Too many open files (24)"),
    RuntimeError("received 0 items of ancdata"),
    RuntimeError(
        "Too many open files. Communication with the workers is no longer possible. Please increase the limit using "
        "`ulimit -n` in the shell or change the sharing strategy by calling …"
    ),
]


@pytest.mark.parametrize("error", NO_FILES, ids=repr)
def test_too_many_open_files(error: BaseException) -> None:
    assert fault_of(error, num_workers=6) == (
        "too many open files",
        "data.num_workers=6",
        "a process may have 1,024 (ulimit -n)",
        "`ulimit -n 4000` before the start, or data.num_workers=auto (threads, no processes)",
    )


@pytest.mark.parametrize(
    ("limits", "advice"),
    [
        ((256, resource.RLIM_INFINITY), "`ulimit -n 1024` before the start"),
        ((1024, 100_000), "`ulimit -n 4096` before the start"),
        ((1024, 1024), "a larger limit from the administrator"),
    ],
)
def test_no_more_open_files_are_suggested_than_allowed(
    limits: tuple[int, int], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    assert fault_of(NO_FILES[0], num_workers=1).hint.startswith(f"{advice}, or data.num_workers=auto")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENFILE, "Too many open files in system"),
        RuntimeError(
            "unable to open shared memory object </torch_1_2> in read-write mode: Too many open files in system (23)"
        ),
    ],
    ids=repr,
)
def test_too_many_open_files_of_all_programs(error: BaseException) -> None:
    fault = fault_of(error)
    assert (fault.what, fault.cause) == ("too many open files", "the system's own limit is reached")
    assert fault.hint.startswith("end other programs")


def test_systems_without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "resource", None)
    assert fault_of(NO_FILES[0]).cause == "the system's own limit is reached"


# Memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        unreadable(MemoryError()),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("unable to mmap 602112 bytes from file </torch_11_22_33>: Cannot allocate memory (12)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:129] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
    ],
    ids=repr,
)
def test_too_little_memory(error: BaseException) -> None:
    fault = fault_of(error, num_workers=2)
    assert (fault.what, fault.where) == ("too little memory", "data.num_workers=2")
    assert "data.batch_size" in fault.hint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unable to write to file </torch_11_22_33>: No space left on device (28)", "No space left on device (28)"),
        (
            "unable to allocate shared memory(shm) for file </torch_11_22_33>: No space left on device (28)",
            "No space left on device (28)",
        ),
        ("unable to resize file </torch_11_22_33> to the right size: File too large (27)", "File too large (27)"),
    ],
)
def test_full_shared_memory(text: str, reason: str) -> None:
    fault = fault_of(RuntimeError(text), num_workers=2)
    assert fault[:3] == (
        "full shared memory",
        "/dev/shm",
        f"3 MB of 67 MB are free; worker processes hand their batches over in it ({reason})",
    )
    assert all(words in fault.hint for words in ("data.num_workers=auto", "docker run --shm-size=1g"))


def test_shared_memory_whose_size_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(shutil, "disk_usage", fail)
    text = "unable to write to file </torch_11_22_33>: No space left on device (28)"
    assert fault_of(RuntimeError(text)).cause.startswith("its size is unknown; worker")


# Processes that ended

LOST = RuntimeError("DataLoader worker (pid(s) 4711) exited unexpectedly")


@pytest.mark.parametrize(
    ("error", "exit_codes", "cause"),
    [
        (LOST, {4711: -9}, "process 4711 was killed by SIGKILL; usually the system had no memory left"),
        (LOST, {4711: -11}, "process 4711 was killed by SIGSEGV"),
        (LOST, {4711: 1}, "process 4711 ended with exit code 1; what it wrote above says why"),
        (LOST, {4711: 0}, "process 4711 ended with exit code 0; what it wrote above says why"),
        (LOST, {4711: -40}, "process 4711 was killed by signal 40"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            {4712: -9},
            "process 4712 was killed by SIGKILL; usually the system had no memory left",
        ),
        (NO_FILES[0], {4712: -9}, "process 4712 was killed by SIGKILL; usually the system had no memory left"),
        (LOST, {}, "process 4711 ended unexpectedly"),
        (
            RuntimeError("DataLoader worker (pid(s) 4711, 4712) exited unexpectedly"),
            None,
            "process 4711 ended unexpectedly; process 4712 ended unexpectedly",
        ),
        (RuntimeError(KILLED), None, "process 4711 was killed by SIGKILL; usually the system had no memory left"),
        (
            RuntimeError("DataLoader worker (pid 4711) exited unexpectedly with exit code 1. Details are lost …"),
            None,
            "process 4711 ended unexpectedly",
        ),
    ],
    ids=repr,
)
def test_a_process_that_ended(error: BaseException, exit_codes: dict[int, int] | None, cause: str) -> None:
    fault = fault_of(error, num_workers=3, exit_codes=exit_codes)
    assert (fault.what, fault.where) == ("lost worker process", "data.num_workers=3")
    assert fault.cause == cause
    assert all(words in fault.hint for words in ("data.num_workers=auto", "fewer workers", "smaller data.batch_size"))


@pytest.mark.parametrize(
    ("error", "exit_codes"), [(LOST, {4711: -signal.SIGBUS}), (RuntimeError(BUS), None)], ids=["code", "text"]
)
def test_a_bus_error_is_full_shared_memory(error: BaseException, exit_codes: dict[int, int] | None) -> None:
    fault = fault_of(error, num_workers=3, exit_codes=exit_codes)
    assert fault.what == "lost worker process"
    cause = "process 4711 was killed by SIGBUS; usually /dev/shm was full (3 MB of 67 MB are free now)"
    assert fault.cause == cause
    assert "docker run --shm-size=1g" in fault.hint


@pytest.mark.parametrize("error", [EOFError(), BrokenPipeError(32, "Broken pipe"), ConnectionRefusedError()], ids=repr)
def test_a_lost_connection(error: BaseException) -> None:
    fault = fault_of(error, num_workers=2)
    assert (fault.what, fault.where) == ("lost connection", "data.num_workers=2")


# Everything else


@pytest.mark.parametrize(
    "error",
    [
        KeyError("picture 99"),
        ValueError("Too many open files (24)"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "shared memory/Too many open files.png"),
        unreadable(FileNotFoundError(errno.ENOENT, "No such file or directory", "7.png")),
        unreadable(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer", "7.png")),
        unreadable(OSError("image file is truncated")),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x24)"),
        RuntimeError("stack expects each tensor to be equal size (24)"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=repr,
)
def test_what_is_not_known_stays_as_it_is(error: BaseException) -> None:
    assert explain(error, num_workers=2) is None


@pytest.mark.parametrize("explained", NO_FILES, ids=repr)
def test_nothing_is_explained_twice(explained: BaseException) -> None:
    error = raised_from(explained, explain(explained))
    assert explain(error) is None


@pytest.mark.parametrize("known", [{}, {"num_workers": "auto"}, {"num_workers": 0}], ids=str)
def test_where_there_are_no_processes_none_are_spoken_of(known: dict[str, Any]) -> None:
    for error, hint in (
        (MemoryError(), "a smaller data.batch_size"),
        (NO_FILES[0], "`ulimit -n 4000` before the start"),
    ):
        fault = fault_of(error, **known)
        assert fault.where == f"data.num_workers={known.get('num_workers', 'auto')}"
        assert fault.hint == hint


@pytest.mark.parametrize(
    ("error", "what", "cause"),
    [
        (KeyError("picture 99"), "unexpected KeyError", "'picture 99'"),
        (AssertionError(), "unexpected AssertionError", "without a message"),
    ],
)
def test_unexpected(error: BaseException, what: str, cause: str) -> None:
    found = unexpected(error, "worker process 4711")
    assert isinstance(found, TrainingError)
    hint = "HYDRA_FULL_ERROR=1 in the environment shows where"
    assert found.faults == (Fault(what, "worker process 4711", cause, hint),)


@pytest.mark.parametrize("make", [lambda: explain(LOST), lambda: explain(NO_FILES[0])], ids=["lost", "files"])
def test_it_reads_as_a_line_and_a_hint(make: Callable[[], TrainingError]) -> None:
    lines = str(make()).splitlines()
    assert lines[0].startswith("error: ") and lines[1].startswith("hint: ") and len(lines) == 2
