"""The same work on many items."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing

import pytest

from hybridnet.data.threads import BLOCK, in_threads, num_cpus


def test_processors_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 40, 41} if process == 0 else set())
    assert num_cpus() == 3


@pytest.mark.parametrize(("number", "expected"), [(64, 64), (None, 1)])
def test_a_system_that_does_not_tell_lets_it_use_all(
    monkeypatch: pytest.MonkeyPatch, number: int | None, expected: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: number)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert num_cpus() == expected


@pytest.mark.parametrize("at_once", [None, 1, 50])
@pytest.mark.parametrize("number", [0, 1, BLOCK, 5 * BLOCK + 3])
def test_results_are_in_the_order_of_the_items(number: int, at_once: int | None) -> None:
    assert list(in_threads(lambda n: n * n, range(number), at_once=at_once)) == [n * n for n in range(number)]


@pytest.mark.parametrize("at_once", [None, 3])
def test_threads_share_the_work(monkeypatch: pytest.MonkeyPatch, at_once: int | None) -> None:
    """Each of two blocks waits for the other one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    both, size = threading.Barrier(2, timeout=30), at_once or BLOCK

    def wait(number: int) -> int:
        return both.wait() and number if number % size == 0 else number

    assert len(list(in_threads(wait, range(2 * size), at_once=at_once))) == 2 * size


def test_an_error_is_raised_in_its_place() -> None:
    found = in_threads(lambda n: 1 // (n - 2 * BLOCK), range(3 * BLOCK))
    assert [next(found) for _ in range(2 * BLOCK)]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_the_rest_is_not_done_when_nobody_wants_it() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.001)  # all of them take seconds, so that the first one is taken long before the last is done
        done.append(number)

    with closing(in_threads(work, range(1_000 * BLOCK))) as found:
        next(found)
    assert len(done) < 1_000 * BLOCK
