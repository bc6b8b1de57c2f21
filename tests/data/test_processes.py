"""The same work on many items, in processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from hybridnet.data import processes
from hybridnet.data.processes import OwnContext, prepare, workforce
from hybridnet.data.threads import in_threads

NUM_ITEMS = 70
SECONDS = 10.0  # in which processes must be gone


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """And enough to do for both."""
    monkeypatch.setattr(processes, "LEAST_ITEMS", NUM_ITEMS)
    monkeypatch.setattr(processes, "BLOCK", 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def process_of(_: int) -> int:
    return os.getpid()


def test_results_are_in_the_order_of_the_items() -> None:
    with workforce(NUM_ITEMS) as mapped:
        assert list(mapped(abs, range(-NUM_ITEMS, 0))) == list(range(NUM_ITEMS, 0, -1))
        assert list(mapped(abs, [])) == []
        assert list(mapped(str, [1, 2])) == ["1", "2"], "again"


def test_several_processes_share_the_work_and_are_gone_afterwards() -> None:
    main = sys.modules["__main__"]
    with workforce(NUM_ITEMS) as mapped:
        found = set(mapped(partial(_slow_process, 0.01), range(NUM_ITEMS)))
    assert sys.modules["__main__"] is main
    assert len(found) == 2
    assert os.getpid() not in found
    assert not any(map(_is_alive, found))


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="the system blocks no signals")
def test_they_are_deaf_from_their_start() -> None:
    with workforce(NUM_ITEMS) as mapped:
        (blocked,) = mapped(partial(signal.pthread_sigmask, signal.SIG_BLOCK), [()])
    assert blocked == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def _slow_process(seconds: float, _: int) -> int:
    time.sleep(seconds)
    return os.getpid()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("why", ["few items", "one processor", "a process that may have no children"])
def test_threads_do_it_where_processes_are_not_worth_it(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "one processor":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    if why == "a process that may have no children":
        monkeypatch.setitem(processes.multiprocessing.current_process()._config, "daemon", True)
    with workforce(NUM_ITEMS - (why == "few items")) as mapped:
        assert mapped is in_threads


def test_an_error_is_raised_in_its_place() -> None:
    with workforce(NUM_ITEMS) as mapped:
        results = mapped(_inverse, [*range(8, 0, -1), 0, *range(NUM_ITEMS)])
        assert [next(results) for _ in range(8)] == [1 / n for n in range(8, 0, -1)]
        with pytest.raises(ZeroDivisionError):
            next(results)


def _inverse(number: int) -> float:
    return 1 / number


def test_the_rest_is_not_done_when_nobody_wants_it(tmp_path: Path) -> None:
    with workforce(NUM_ITEMS) as mapped:
        with closing(mapped(partial(_leave, tmp_path), range(NUM_ITEMS))) as results:
            next(results)
        assert list(mapped(abs, [-1])) == [1], "what is asked for afterwards comes next"
    assert 4 <= len(list(tmp_path.iterdir())) < NUM_ITEMS / 2


def _leave(folder: Path, number: int) -> None:
    time.sleep(0.05)
    (folder / str(number)).touch()


# When they end, or do not begin


def test_threads_go_on_where_a_process_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    with workforce(NUM_ITEMS) as mapped:
        assert list(mapped(partial(_killed_at, 30, os.getpid()), range(NUM_ITEMS))) == list(range(NUM_ITEMS))
        assert list(mapped(abs, [-1])) == [1], "and with whatever comes next"
    assert "has ended, or could not start; threads go on without it" in caplog.messages[0]


def test_a_process_ends_when_it_is_told_to_although_it_ignores_signals() -> None:
    """Python 3.12 tells those that are left of a broken pool, and waits for them; before, they were asked to leave."""
    ours, theirs = multiprocessing.Pipe()
    process = OwnContext().Process(target=_ignoring, args=(theirs,))
    process.start()
    assert ours.recv() == "ready"
    process.terminate()
    process.join(timeout=20)
    assert process.exitcode == -signal.SIGKILL


def _ignoring(connection: Connection) -> None:
    prepare()
    connection.send("ready")
    time.sleep(60)


def _killed_at(number: int, main: int, item: int) -> int:
    if os.getpid() != main:
        time.sleep(0.01)  # that something is done before
        if item == number:
            os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_threads_do_it_where_no_process_can_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Refused(ProcessPoolExecutor):
        def submit(self, *_: Any) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Refused)
    with workforce(NUM_ITEMS) as mapped:
        assert set(mapped(process_of, range(NUM_ITEMS))) == {os.getpid()}
    assert len(caplog.messages) == 1


def test_also_in_a_job_of_joblib(root: Path) -> None:
    """Its way to start processes is not known to others. Not here, where it would be started in the tests' process."""
    script = """
from joblib import Parallel, delayed
from tests.data.test_processes import in_a_job
print(*Parallel(n_jobs=2)(delayed(in_a_job)() for _ in range(2)))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=6 * SECONDS)
    assert done.stdout == "True True\n", done.stderr
    assert "Traceback" not in done.stderr


def in_a_job() -> bool:
    """Whether two processes did the work, and the start method is as before."""
    method, processes.LEAST_ITEMS = multiprocessing.get_start_method(allow_none=True), NUM_ITEMS
    with workforce(NUM_ITEMS) as mapped:
        found = {*mapped(partial(_slow_process, 0.01), range(NUM_ITEMS))} - {os.getpid()}
    return len(found) == 2 and multiprocessing.get_start_method(allow_none=True) == method


# A user's script, which does everything once more where it is imported.
SCRIPT = """
import os, signal, sys, time
from functools import partial
from multiprocessing.connection import Connection
from hybridnet.data import processes

print("begins", flush=True)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)  # a handler: what is ignored would be ignored by its children as well
processes.LEAST_ITEMS, os.sched_getaffinity = 2, lambda _: {0, 1}
with processes.workforce(1000) as mapped:
    found = mapped(eval, ["(__import__('time').sleep(0.01), __import__('os').getpid())[1]"] * 1000)
    seen = set()
    while len(seen) < 2:
        seen.add(next(found))
    print(*seen, flush=True)
    sys.stdin.readline()
    assert {*found} <= seen
print("ends", signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)
"""


@pytest.fixture
def script(root: Path, tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Tells the numbers of its two processes; goes on after a line of input."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT, "utf-8")
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, str(file)], cwd=root, text=True, start_new_session=True, env=environment, **pipes
    ) as process:
        yield process
        process.kill()


def test_a_script_is_not_imported_and_signals_of_its_group_do_not_disturb(script: subprocess.Popen) -> None:
    assert script.stdout.readline() == "begins\n"
    assert len(script.stdout.readline().split()) == 2
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(script.pid, number)
    output, errors = script.communicate("\n", timeout=6 * SECONDS)
    assert (script.returncode, output, errors) == (0, "ends set()\n", "")


def test_they_end_with_the_main_process(script: subprocess.Popen) -> None:
    script.stdout.readline()
    others = [int(number) for number in script.stdout.readline().split()]
    assert all(map(_is_alive, others))
    script.kill()
    _wait_until(lambda: not any(map(_is_alive, others)))


def _wait_until(is_done: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not is_done():
        assert time.monotonic() < end
        time.sleep(0.05)
