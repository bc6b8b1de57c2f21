"""The same work on every picture, in threads: Pillow's decoders and NumPy release the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK = 16  # pictures: handing out a small one costs as much as decoding it


def num_cpus() -> int:
    """The processors that this process may use: Slurm and `taskset` give it fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on Windows and macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], *, at_once: int | None = None
) -> Iterator[Result]:
    """`map`, with a thread for every processor that it may use; the results are in the order of the items.

    Each thread takes `at_once` items, or as many as are best for pictures.

    What an item raises is raised in its place, at the latest. When the iterator is closed, the rest is not done.
    """
    items, size = list(items), at_once or BLOCK
    blocks = [items[start : start + size] for start in range(0, len(items), size)]

    def of_block(block: Sequence[Item]) -> list[Result]:
        return [function(item) for item in block]

    pool = ThreadPoolExecutor(num_cpus())
    try:
        yield from chain.from_iterable(pool.map(of_block, blocks))
    finally:
        pool.shutdown(cancel_futures=True)
