"""Worker processes: what they make arrives, and what goes wrong in them; they do not end before the main process.

Requests are functions that a worker calls: so it does whatever a test needs.
"""

from __future__ import annotations

import gc
import operator
import os
import random
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from hybridnet.data.image import load_image
from hybridnet.data.workers import SPARE_FILES, Workers
from hybridnet.errors import InputError, TrainingError

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="looks at processes as Linux has them")

SECONDS = 6  # in which processes must be gone
MAKE = operator.methodcaller("__call__")
PROCESS = partial(os.getpid)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks every 5 s whether its processes live."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))


@pytest.fixture
def start() -> Callable[..., Workers]:
    """Workers that call each request."""
    return lambda num_workers=1: Workers(MAKE, num_workers=num_workers, pin_memory=False)


def first(workers: Workers, request: Callable[[], Any]) -> Any:
    """What the first worker answers; every call of `batches` begins with it."""
    (answer,) = workers.batches([request])
    return answer


class Process:
    """A process that may end."""

    def __init__(self, number: int) -> None:
        self.descriptor = os.pidfd_open(number)

    def ends_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def close(self) -> None:
        os.close(self.descriptor)


@pytest.fixture
def watch() -> Iterator[Callable[[int], Process]]:
    processes: list[Process] = []

    def make(number: int) -> Process:
        processes.append(Process(number))
        return processes[-1]

    yield make
    for process in processes:
        process.close()


def fault_of(workers: Workers, *requests: Callable[[], Any]) -> tuple[str, str, str, str]:
    with pytest.raises(TrainingError) as error:
        list(workers.batches(requests))
    (fault,) = error.value.faults
    return fault


# What they make


def test_answers_come_in_the_order_of_the_requests(start: Callable) -> None:
    workers = start(2)
    for number in (7, 0, 3):
        assert list(workers.batches([partial(abs, -n) for n in range(number)])) == list(range(number))
    processes = list(workers.batches([PROCESS] * 6))
    assert processes == processes[:2] * 3 and len({*processes, os.getpid()}) == 3


def test_tensors_travel_in_shared_memory(start: Callable) -> None:
    (tensor,) = start().batches([partial(torch.full, (3, 5), 2.5)])
    assert tensor.is_shared() and torch.equal(tensor, torch.full((3, 5), 2.5))


def test_what_is_asked_for_later_is_made_ahead_and_an_abandoned_epoch_does_no_harm(start: Callable) -> None:
    workers = start(2)
    answers = workers.batches([partial(torch.tensor, [n]) for n in range(20)])
    assert [next(answers).item() for _ in range(3)] == [0, 1, 2]
    answers.close()
    assert list(workers.batches([partial(abs, -n) for n in range(5)])) == [0, 1, 2, 3, 4]


def test_nothing_random_is_drawn_in_the_main_process(start: Callable) -> None:
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())
    workers = start(2)
    for _ in range(2):
        list(workers.batches([PROCESS] * 3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), repr(np.random.get_state())) == before[1:]


# What goes wrong in them


def test_wrong_input_arrives_as_it_was_raised(start: Callable, tmp_path: Path) -> None:
    workers = start()
    with pytest.raises(InputError, match="no such file") as error:
        list(workers.batches([partial(abs, -1), partial(load_image, tmp_path / "none.png")]))
    assert error.value.faults[0].where == str(tmp_path / "none.png")
    assert "in load_image" in str(error.value.__cause__), "the worker's traceback should be kept"
    assert first(workers, partial(abs, -2)) == 2, "the workers should go on"


def test_an_unexpected_error_is_named(start: Callable) -> None:
    workers = start()
    process = first(workers, PROCESS)
    with pytest.raises(TrainingError) as error:
        list(workers.batches([partial(operator.getitem, {}, "picture 99")]))
    (fault,) = error.value.faults
    assert fault[:3] == ("unexpected KeyError", f"worker process {process}", "'picture 99'")
    assert "HYDRA_FULL_ERROR=1" in fault.hint
    assert re.search(r"Traceback .*workers\.py.*KeyError: 'picture 99'", str(error.value.__cause__), re.DOTALL)


def test_what_cannot_be_sent_is_told(start: Callable) -> None:
    """Else the thread that sends would drop it, and the main process would wait for ever."""
    fault = fault_of(start(), partial(operator.attrgetter, "name"), partial(compile, "0", "file", "eval"))
    assert fault.what == "unexpected TypeError" and "pickle" in fault.cause


def test_full_shared_memory_is_told(start: Callable) -> None:
    """Of files that may have 1 kB: torch says the same of a full /dev/shm, with another reason."""
    workers = start()
    first(workers, partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000)))
    assert len(first(workers, partial(torch.zeros, 10))) == 10
    fault = fault_of(workers, partial(torch.zeros, 1000))
    assert (fault.what, fault.where) == ("full shared memory", "/dev/shm")
    assert re.search(r"B of .*B are free; .*\(File too large \(27\)\)", fault.cause)
    assert first(workers, partial(abs, -3)) == 3


def limit_for(workers: Workers, num_free: int) -> int:
    """The limit that leaves the first worker so many descriptors, at least 2."""
    # With that of the folder itself, which was the first free one.
    used = {int(name) for name in first(workers, partial(os.listdir, "/proc/self/fd"))}
    free = [number for number in range(max(used) + num_free) if number not in used]
    return free[num_free - 2] + 1


@pytest.mark.parametrize(
    ("num_free", "asked"),
    [
        (SPARE_FILES - 1, partial(abs, -1)),
        (SPARE_FILES, partial(torch.zeros, 3)),
        (SPARE_FILES + 1, partial(torch.zeros, 3)),
        (SPARE_FILES + 2, partial(torch.zeros, 3)),
    ],
    ids=["reserve", "shared memory", "server", "second descriptor"],
)
def test_too_many_open_files_are_told(num_free: int, asked: Callable[[], Any], start: Callable) -> None:
    """Wherever they run out, and before the thread that hands batches over has none."""
    workers = start()
    limit = limit_for(workers, num_free)
    lower = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, limit))
    fault = fault_of(workers, lower, asked)
    assert (fault.what, fault.where) == ("too many open files", "data.num_workers=1")
    assert fault.cause == f"a process may have {limit} (ulimit -n)"
    assert "data.num_workers=auto" in fault.hint


def test_few_open_files_are_enough(start: Callable) -> None:
    workers = start()
    limit = limit_for(workers, SPARE_FILES + 12)
    lower = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, limit))
    *_, last = workers.batches([lower, *[partial(torch.tensor, [n]) for n in range(50)]])
    assert last.item() == 49


def test_too_little_memory_is_told(start: Callable) -> None:
    fault = fault_of(start(), partial(bytearray, sys.maxsize))
    assert (fault.what, fault.where) == ("too little memory", "data.num_workers=1")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (partial(signal.raise_signal, signal.SIGKILL), "was killed by SIGKILL; usually the system had no memory left"),
        (partial(os._exit, 3), "ended with exit code 3; what it wrote above says why"),
    ],
    ids=["killed", "exit code"],
)
def test_a_worker_that_ends_within_an_epoch_is_named(end: Callable[[], Any], words: str, start: Callable) -> None:
    workers = start(2)
    _, second = workers.batches([PROCESS] * 2)
    fault = fault_of(workers, PROCESS, end)
    assert (fault.what, fault.where) == ("lost worker process", "data.num_workers=2")
    assert fault.cause == f"process {second} {words}"


def test_a_worker_that_ends_between_two_epochs_is_named(start: Callable, watch: Callable) -> None:
    workers = start()
    number = first(workers, PROCESS)
    process = watch(number)
    os.kill(number, signal.SIGKILL)
    assert process.ends_within(SECONDS)
    assert fault_of(workers, PROCESS).cause.startswith(f"process {number} was killed by SIGKILL")


def test_a_batch_that_its_worker_can_no_longer_hand_over(start: Callable, watch: Callable) -> None:
    """Fetching it fails with ConnectionRefusedError."""
    workers = start()
    answers = workers.batches([PROCESS, *[partial(torch.zeros, 3)] * 20])
    number = next(answers)
    process = watch(number)
    os.kill(number, signal.SIGKILL)
    assert process.ends_within(SECONDS)
    with pytest.raises(TrainingError, match=f"process {number} was killed by SIGKILL"):
        list(answers)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torch's own end fails then
def test_workers_of_which_only_some_can_be_started(start: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would end them: multiprocessing sends a SIGTERM, and waits."""
    workers = start(2)
    process_class = workers._loader.multiprocessing_context.Process
    begin, started = process_class.start, []

    def start_one(process: Any) -> None:
        if started:
            raise OSError(24, "Too many open files")
        begin(process)
        started.append(process)

    with monkeypatch.context() as patch:
        patch.setattr(process_class, "start", start_one)
        fault = fault_of(workers, PROCESS)
    assert (fault.what, fault.where) == ("too many open files", "data.num_workers=2")
    assert started[0].exitcode == -signal.SIGKILL
    gc.collect()  # here, not within another test
    assert len(set(workers.batches([PROCESS] * 4))) == 2, "another try"


def test_they_make_batches_in_a_job_of_joblib(root: Path) -> None:
    """Whose way to start processes is not known to others."""
    script = """
from joblib import Parallel, delayed
from tests.data.test_workers import in_a_job
print(*Parallel(n_jobs=2)(delayed(in_a_job)() for _ in range(2)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=40 * SECONDS
    )
    assert done.stdout == "[0, 1, 2] [0, 1, 2]\n", done.stderr


def in_a_job() -> list[int]:
    workers = Workers(MAKE, num_workers=1, pin_memory=False)
    return list(workers.batches([partial(abs, -number) for number in range(3)]))


# When they end


def test_they_end_with_the_object(start: Callable, watch: Callable) -> None:
    workers = start(2)
    answers = workers.batches([PROCESS] * 20)
    processes = [watch(next(answers)) for _ in range(2)]
    assert not processes[0].ends_within(0)
    workers_of_torch = workers._loader._iterator._workers
    del workers, answers
    gc.collect()
    assert all(process.ends_within(0) for process in processes)
    assert [worker.exitcode for worker in workers_of_torch] == [0, 0], "they may finish what they do"


MAIN_PROCESS = """
import torch  # first, as in a run: the order of imports is that of the exit
import operator, os, signal, sys
from functools import partial
from hybridnet.data.workers import Workers

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)  # a handler: what is ignored would be ignored by its children as well
workers = Workers(operator.methodcaller("__call__"), num_workers=2, pin_memory=False)
print(*workers.batches([partial(os.getpid)] * 2 + [partial(os.getppid)]), flush=True)
sys.stdin.readline()
print(*workers.batches([partial(abs, -number) for number in range(6)]), flush=True)
sys.stdin.readline()
unfinished = workers.batches([partial(os.getpid)] * 20)
next(unfinished)
"""


@pytest.fixture
def main_process(root: Path) -> Iterator[subprocess.Popen]:
    """Tells the numbers of its workers and of their server; after a line of input, numbers from them; then it ends."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(
        [sys.executable, "-c", MAIN_PROCESS], cwd=root, text=True, start_new_session=True, **pipes
    ) as process:
        yield process
        process.kill()


def is_deaf(number: int) -> bool:
    status = dict(line.split(":\t") for line in Path(f"/proc/{number}/status").read_text().splitlines())
    unheard = int(status["SigBlk"], 16) | int(status["SigIgn"], 16)
    return all(unheard >> (signal_number - 1) & 1 for signal_number in (signal.SIGINT, signal.SIGTERM))


def test_the_main_process_hears_its_signals_and_the_workers_do_not(start: Callable) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    workers = start()
    server, number, handler = workers.batches([partial(os.getppid), PROCESS, partial(signal.getsignal, signal.SIGTERM)])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert is_deaf(server) and is_deaf(number) and not is_deaf(os.getpid())
    assert handler is signal.SIG_IGN, "also where the server was started by others"


def test_signals_of_the_group_do_not_end_them_but_the_end_of_the_main_process(
    main_process: subprocess.Popen, watch: Callable
) -> None:
    numbers = [int(number) for number in main_process.stdout.readline().split()]
    others = [watch(number) for number in numbers]
    assert len(others) == 3 and all(map(is_deaf, numbers))
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(main_process.pid, number)
    print(file=main_process.stdin, flush=True)
    assert main_process.stdout.readline() == "0 1 2 3 4 5\n"
    assert not any(process.ends_within(0) for process in others)
    main_process.kill()
    assert all(process.ends_within(SECONDS) for process in others)


def test_nothing_is_left_of_a_normal_end(main_process: subprocess.Popen, watch: Callable) -> None:
    """Nor does it last: torch's end would wait 10 s for each process."""
    others = [watch(int(number)) for number in main_process.stdout.readline().split()]
    _, errors = main_process.communicate("\n\n", timeout=2 * SECONDS)
    assert (main_process.returncode, errors) == (0, "")
    assert all(process.ends_within(SECONDS) for process in others)
