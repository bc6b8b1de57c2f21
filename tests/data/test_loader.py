"""The batches of threads, of worker processes and of none are the same, in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from hybridnet.data import loader as loader_module
from hybridnet.data.batch import Batch
from hybridnet.data.loader import PREFETCHED_BATCHES, Loader, Request, Samples, collate
from hybridnet.data.metadata import MetadataImages
from hybridnet.errors import InputError

IN_PROCESS = ["auto", 0]


class Numbered(Samples):
    """Pictures of one pixel that tells epoch and index; remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[Request]] = []

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        self.asked.append(list(requests))
        return collate(self.sample, requests)

    def sample(self, request: Request) -> tuple[np.ndarray, np.ndarray, int]:
        epoch, index = request
        if index == 99:
            raise KeyError("picture 99")
        return np.array([[[epoch, index, 0]]], dtype=np.uint8), np.eye(3, 4, dtype=np.float32), index % 3


def loader_of(samples: Samples, **settings: Any) -> Loader:
    return Loader(samples, **{"batch_size": 4, "num_workers": "auto", "pin_memory": False} | settings)


def prefetch_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def tensors(batches: list[Batch]) -> list[torch.Tensor]:
    return [tensor for batch in batches for tensor in (batch.images, batch.colour, batch.labels)]


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(tensors(found), tensors(expected), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_num_threads", lambda: 2)


@pytest.mark.parametrize("num_workers", IN_PROCESS)
def test_order_and_short_last_batch(num_workers: int | str) -> None:
    order = np.array([5, 2, 9, 0, 7, 1, 8, 3, 6, 4])
    batches = list(loader_of(Numbered(), num_workers=num_workers).epoch(3, order))
    assert [batch.images[:, 0, 0, 1].tolist() for batch in batches] == [[5, 2, 9, 0], [7, 1, 8, 3], [6, 4]]
    assert [batch.labels.tolist() for batch in batches] == [[2, 2, 0, 0], [1, 1, 2, 0], [0, 1]]
    assert all((batch.images[..., 0] == 3).all() for batch in batches)


@pytest.mark.parametrize("num_workers", IN_PROCESS)
def test_nothing_to_read(num_workers: int | str) -> None:
    assert list(loader_of(Numbered(), num_workers=num_workers).epoch(0, np.arange(0))) == []


def test_collate() -> None:
    batch = collate(Numbered().sample, [(1, 2), (1, 5), (2, 7)])
    assert (batch.images.shape, batch.images.dtype) == ((3, 1, 1, 3), torch.uint8)
    assert (batch.colour.shape, batch.colour.dtype) == ((3, 3, 4), torch.float32)
    assert (batch.labels.tolist(), batch.labels.dtype) == ([2, 2, 1], torch.int64)


class FirstIsSlow(Numbered):
    """The first batch is ready only after the second."""

    def __init__(self) -> None:
        super().__init__()
        self.second_ready = threading.Event()

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        first = requests[0][1] == 0
        if first:
            assert self.second_ready.wait(10)
        batch = super().__getitems__(requests)
        if not first:
            self.second_ready.set()
        return batch


def test_slow_batch_keeps_its_place(two_threads: None) -> None:
    samples = FirstIsSlow()
    found = [batch.images[0, 0, 0, 1].item() for batch in loader_of(samples).epoch(1, np.arange(20))]
    assert found == [0, 4, 8, 12, 16]
    assert samples.asked[0][0] == (1, 4), "the second batch should have been made first"


class CountingPool(ThreadPoolExecutor):
    submitted = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future:
        CountingPool.submitted += 1
        return super().submit(*args, **kwargs)


def test_threads_read_ahead_but_not_everything(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "ThreadPoolExecutor", CountingPool)
    monkeypatch.setattr(CountingPool, "submitted", 0)
    batches = loader_of(Numbered(), batch_size=1).epoch(1, np.arange(50))
    for number in range(5):
        next(batches)
        assert CountingPool.submitted == 2 + PREFETCHED_BATCHES + number
    batches.close()


def test_early_end_leaves_no_threads(two_threads: None) -> None:
    loader = loader_of(Numbered())
    batches = loader.epoch(1, np.arange(40))
    next(batches)
    assert prefetch_threads()
    batches.close()
    assert not prefetch_threads()
    assert len(list(loader.epoch(2, np.arange(40)))) == 10
    assert not prefetch_threads()


@pytest.mark.parametrize("num_workers", IN_PROCESS)
def test_exception_reaches_the_consumer_in_its_place(num_workers: int | str) -> None:
    batches = loader_of(Numbered(), num_workers=num_workers).epoch(1, np.array([0, 1, 2, 3, 4, 99, 5, 6]))
    assert len(next(batches)) == 4
    with pytest.raises(KeyError, match="picture 99"):
        next(batches)
    assert not prefetch_threads()


@pytest.mark.parametrize(("cuda", "cores", "expected"), [(False, 64, 1), (True, 64, 16), (True, 4, 4), (True, None, 1)])
def test_number_of_threads(cuda: bool, cores: int | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(loader_module.os, "cpu_count", lambda: cores)
    assert loader_module._num_threads() == expected


def two_epochs(data: MetadataImages) -> list[Batch]:
    return [*data.train_batches(1), *data.train_batches(2)]


@pytest.mark.parametrize("num_workers", IN_PROCESS)
def test_unreadable_picture_is_named(num_workers: int | str, make_folder: Callable, build: Callable) -> None:
    data = build(make_folder(), "data.image_size=8", f"data.num_workers={num_workers}")
    data.train.files[3].unlink()
    with pytest.raises(InputError, match=r"unreadable image in .*03\.png: no such file") as error:
        list(data.train_batches(1))
    assert error.value.faults[0].where == str(data.train.files[3])


def test_worker_processes_change_nothing(make_folder: Callable, build: Callable) -> None:
    """One test for all that concerns processes: each takes seconds to start."""
    folder = make_folder()
    small = ["data.image_size=[12,16]", "data.batch_size=4"]
    expected = two_epochs(build(folder, *small, "data.num_workers=0"))
    assert_same(two_epochs(build(folder, *small)), expected)
    assert not torch.equal(expected[0].images, expected[4].images), "the epochs should differ"
    for num_workers in (1, 2):
        data = build(folder, *small, f"data.num_workers={num_workers}")
        assert_same(two_epochs(data), expected)
        assert_abandoned_epoch_does_no_harm(data, expected[4:])
        assert_worker_error_names_the_picture(data)


def assert_abandoned_epoch_does_no_harm(data: MetadataImages, second_epoch: list[Batch]) -> None:
    batches = data.train_batches(1)
    next(batches)
    del batches
    assert_same(list(data.train_batches(2)), second_epoch)


def assert_worker_error_names_the_picture(data: MetadataImages) -> None:
    file = data.train.files[3]
    hidden = file.rename(file.with_name("hidden"))
    with pytest.raises(InputError, match=r"unreadable image in .*03\.png: no such file"):
        list(data.train_batches(1))
    hidden.rename(file)
    # The exception keeps the processes until the garbage collector comes, which then waits 5 s for each.
    data._train_loader._processes._iterator._shutdown_workers()
