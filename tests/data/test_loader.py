"""The batches of threads, of worker processes and of none are the same, in the same order."""

from __future__ import annotations

import copy
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hybridnet import config
from hybridnet.data import loader as loader_module
from hybridnet.data.batch import Batch, Crops, Mixing
from hybridnet.data.loader import PREFETCHED_BATCHES, Loader, Request, Samples
from hybridnet.data.metadata import MetadataImages
from hybridnet.errors import InputError, TrainingError

resource = pytest.importorskip("resource")
# Threads that are ahead of the training, threads that share the work on a batch, and none.
IN_PROCESS = [("auto", True), ("auto", False), (0, True)]


class Numbered(Samples):
    """Pictures of one pixel that tells epoch, index and repeat; remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def make(self, request: Request, pool: ThreadPoolExecutor | None = None) -> Batch:
        self.asked.append(request)
        if 99 in request.indices:
            raise KeyError("picture 99")
        columns = np.full_like(request.indices, request.epoch), request.indices, request.repeats
        images = torch.from_numpy(np.stack(columns, axis=-1).astype(np.uint8))[:, None, None]
        return Batch(
            images, torch.eye(3, 4).repeat(len(images), 1, 1), torch.from_numpy(request.indices % 3), request.num_images
        )


def loader_of(samples: Samples, **settings: Any) -> Loader:
    return Loader(samples, **{"batch_size": 4, "num_workers": "auto", "pin_memory": False, "is_ahead": True} | settings)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("prefetch", "feed"))]


def tensors(part: Batch | Mixing | Crops) -> Iterator[torch.Tensor]:
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, torch.Tensor):
            yield value
        elif dataclasses.is_dataclass(value):
            yield from tensors(value)


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    """Bit for bit, in every field."""
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(tensors(ours), tensors(theirs), strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "_num_threads", lambda: 2)


@pytest.mark.parametrize(("num_workers", "is_ahead"), IN_PROCESS)
def test_order_and_short_last_batch(num_workers: int | str, is_ahead: bool) -> None:
    order = np.array([5, 2, 9, 0, 7, 1, 8, 3, 6, 4])
    batches = list(loader_of(Numbered(), num_workers=num_workers, is_ahead=is_ahead).epoch(3, order))
    assert [batch.images[:, 0, 0, 1].tolist() for batch in batches] == [[5, 2, 9, 0], [7, 1, 8, 3], [6, 4]]
    assert [batch.labels.tolist() for batch in batches] == [[2, 2, 0, 0], [1, 1, 2, 0], [0, 1]]
    assert all((batch.images[..., 0] == 3).all() for batch in batches)


@pytest.mark.parametrize(("num_workers", "is_ahead"), IN_PROCESS)
def test_nothing_to_read(num_workers: int | str, is_ahead: bool) -> None:
    assert list(loader_of(Numbered(), num_workers=num_workers, is_ahead=is_ahead).epoch(0, np.arange(0))) == []


@pytest.mark.parametrize(
    ("order", "repeats"),
    [
        ([7, 3, 7, 7, 0, 3, 7, 5, 0, 3], [0, 0, 1, 2, 0, 1, 3, 0, 1, 2]),
        ([2, 2, 2, 2, 2], [0, 1, 2, 3, 4]),
        ([4, 1, 0, 3, 2], [0, 0, 0, 0, 0]),
        ([8], [0]),
    ],
)
def test_repeats_are_counted_through_the_whole_epoch(order: list[int], repeats: list[int]) -> None:
    requests = loader_of(Numbered()).requests(2, np.array(order))
    assert [len(request.indices) for request in requests[:-1]] == [4] * (len(requests) - 1)
    assert np.concatenate([request.indices for request in requests]).tolist() == order
    assert np.concatenate([request.repeats for request in requests]).tolist() == repeats
    assert {request.epoch for request in requests} == {2}


@pytest.mark.parametrize(("num_workers", "is_ahead"), IN_PROCESS)
def test_an_epoch_can_begin_with_any_batch(num_workers: int | str, is_ahead: bool) -> None:
    """With the repeats of the whole epoch, and nothing is made in vain."""
    order = np.array([5, 2, 5, 0, 7, 5, 8, 2, 6, 4])
    whole = list(loader_of(Numbered()).epoch(3, order))
    assert [batch.images[:, 0, 0, 2].tolist() for batch in whole] == [[0, 0, 1, 0], [0, 2, 0, 1], [0, 0]]
    for first in range(3):
        samples = Numbered()
        rest = loader_of(samples, num_workers=num_workers, is_ahead=is_ahead).epoch(3, order, first)
        assert_same(list(rest), whole[first:])
        assert len(samples.asked) == 3 - first
    samples = Numbered()
    assert list(loader_of(samples, num_workers=num_workers, is_ahead=is_ahead).epoch(3, order, 3)) == []
    assert samples.asked == []


def test_an_epoch_of_fewer_batches_than_were_trained_on_is_over() -> None:
    """As after a change of the batch size within an epoch."""
    assert list(loader_of(Numbered()).epoch(3, np.arange(10), 4)) == []


class FirstIsSlow(Numbered):
    """The first batch is ready only after the second."""

    def __init__(self) -> None:
        super().__init__()
        self.second_ready = threading.Event()

    def make(self, request: Request, pool: ThreadPoolExecutor | None = None) -> Batch:
        first = request.indices[0] == 0
        if first:
            assert self.second_ready.wait(10)
        batch = super().make(request)
        if not first:
            self.second_ready.set()
        return batch


def test_slow_batch_keeps_its_place(two_threads: None) -> None:
    samples = FirstIsSlow()
    found = [batch.images[0, 0, 0, 1].item() for batch in loader_of(samples).epoch(1, np.arange(20))]
    assert found == [0, 4, 8, 12, 16]
    assert samples.asked[0].indices[0] == 4, "the second batch should have been made first"


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
    assert threads()
    batches.close()
    assert not threads()
    assert len(list(loader.epoch(2, np.arange(40)))) == 10
    assert not threads()


@pytest.mark.parametrize(("num_workers", "is_ahead"), IN_PROCESS)
def test_exception_reaches_the_consumer_in_its_place(num_workers: int | str, is_ahead: bool) -> None:
    batches = loader_of(Numbered(), num_workers=num_workers, is_ahead=is_ahead).epoch(
        1, np.array([0, 1, 2, 3, 4, 99, 5, 6])
    )
    assert len(next(batches)) == 4
    with pytest.raises(KeyError, match="picture 99"):
        next(batches)
    assert not threads()


@pytest.mark.parametrize(("cores", "expected"), [(64, 16), (4, 4), (1, 1)])
def test_number_of_threads(cores: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    assert loader_module._num_threads() == expected


class Shared(Numbered):
    """Remembers in which threads the work was done, and what was announced."""

    def __init__(self) -> None:
        super().__init__()
        self.workers: set[str] = set()
        self.announced: list[int] = []

    def make(self, request: Request, pool: ThreadPoolExecutor | None = None) -> Batch:
        assert pool is not None
        both = threading.Barrier(2)
        self.workers |= set(pool.map(lambda _: (both.wait(10), threading.current_thread().name)[1], range(2)))
        return super().make(request)

    def will_need(self, request: Request) -> None:
        self.announced.append(int(request.indices[0]))


def test_threads_share_the_work_on_a_batch_and_the_next_is_announced(two_threads: None) -> None:
    samples = Shared()
    batches = loader_of(samples, is_ahead=False).epoch(1, np.arange(12))
    for number in range(3):
        next(batches)
        assert len(samples.asked) == number + 1, "nothing is made ahead of the training"
        assert samples.announced == [4, 8][: number + 1]
    assert len(samples.workers) == 2
    assert list(batches) == [] and not threads()


@pytest.mark.parametrize(("num_workers", "is_ahead"), IN_PROCESS)
def test_batches_are_pinned_only_when_asked_for(
    num_workers: int | str, is_ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = []
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: pinned.append(batch) or batch)
    for pin_memory in (False, True):
        settings = {"num_workers": num_workers, "is_ahead": is_ahead, "pin_memory": pin_memory}
        batches = list(loader_of(Numbered(), **settings).epoch(1, np.arange(10)))
        assert len(pinned) == (len(batches) if pin_memory else 0)


# With pictures

# The first epoch's pictures are smaller than those of the others.
SMALL = [
    "data.image_size=[12,16]",
    "data.batch_size=4",
    "data.progressive=[[10,12]]",
    "trainer.epochs=2",
    "data.augment.rotation=20",
    "data.augment.cutmix=1",
]


def two_epochs(data: MetadataImages) -> list[Batch]:
    return [*data.train_batches(1), *data.train_batches(2), *data.valid_batches()]


def replace(file: Path) -> None:
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(file)


@pytest.mark.parametrize("num_workers", ["auto", 0])
@pytest.mark.parametrize(
    ("change", "message"),
    [(Path.unlink, r"unreadable image in .*03\.png: no such file"), (replace, r"changed image in .*03\.png: it was")],
    ids=["deleted", "replaced"],
)
def test_a_picture_that_changes_during_the_run_is_named(
    change: Callable[[Path], object], message: str, num_workers: int | str, make_folder: Callable, build: Callable
) -> None:
    data = build(make_folder(), *SMALL, "data.cache=none", f"data.num_workers={num_workers}")
    change(data.train.files[3])
    with pytest.raises(InputError, match=message) as error:
        list(data.train_batches(1))
    assert error.value.faults[0].where == str(data.train.files[3])


@pytest.mark.parametrize("num_workers", ["auto", 0])
def test_a_system_that_refuses_files_is_explained(
    num_workers: int | str, make_folder: Callable, build: Callable
) -> None:
    data = build(make_folder(), *SMALL, "data.cache=none", f"data.num_workers={num_workers}")
    limit, largest = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, largest))  # those that are open stay so
    try:
        with pytest.raises(TrainingError) as error:
            list(data.train_batches(1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, largest))
    (fault,) = error.value.faults
    assert fault[:2] == ("too many open files", f"data.num_workers={num_workers}")
    assert isinstance(error.value.__cause__, InputError)


def test_a_store_does_not_need_the_files_any_more(make_folder: Callable, build: Callable) -> None:
    data = build(make_folder(), *SMALL)
    expected = two_epochs(data)
    for file in {*data.train.files, *data.valid.files}:
        file.unlink()
    assert_same(two_epochs(data), expected)


@pytest.mark.parametrize("cache", ["store", "none"])
def test_threads_change_nothing(cache: str, two_threads: None, make_folder: Callable, build: Callable) -> None:
    folder = make_folder()
    expected = two_epochs(build(folder, *SMALL, "data.num_workers=0"))
    assert expected[0].mixing is not None and expected[0].angles is not None
    assert_same(two_epochs(build(folder, *SMALL, f"data.cache={cache}")), expected)
    assert [expected[number].images.shape[1:3] for number in (0, 4, 8)] == [(10, 12), (12, 16), (12, 16)]


@pytest.mark.parametrize(("num_workers", "cache"), [(1, "none"), (3, "store")])
def test_worker_processes_change_nothing(num_workers: int, cache: str, make_folder: Callable, build: Callable) -> None:
    folder = make_folder()
    alone = build(folder, *SMALL, "data.num_workers=0")
    data = build(folder, *SMALL, f"data.num_workers={num_workers}", f"data.cache={cache}")
    random_state = torch.get_rng_state()
    expected = two_epochs(alone)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_same(two_epochs(data), expected)
    assert torch.equal(torch.get_rng_state(), random_state), "else the number of workers would change the training"
    assert_same(list(data.train_batches(2, first=1)), expected[5:8])
    assert history_of(data) == history_of(alone)
    assert_abandoned_epoch_does_no_harm(data, expected[4:8])


def test_an_error_of_a_worker_process_names_the_picture(make_folder: Callable, build: Callable) -> None:
    data = build(make_folder(), *SMALL, "data.num_workers=1", "data.cache=none")
    data.train.files[3].unlink()
    with pytest.raises(InputError, match=r"unreadable image in .*03\.png: no such file") as error:
        list(data.train_batches(1))
    assert error.value.faults[0].where == str(data.train.files[3]), "not torch's text with a traceback in it"


class Recorder:
    """Keeps the weights of the last epoch."""

    def step(self, *_: float) -> None: ...

    def epoch(self, state: Any, checkpoint: dict[str, Any]) -> None:
        self.weights = copy.deepcopy(checkpoint["model"])


def history_of(data: MetadataImages) -> tuple[list[dict[str, float]], list[list[float]]]:
    """Losses, accuracies and last weights of a short training."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3)),
    )
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "name": "all"}], lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    settings = ["trainer.epochs=3", "trainer.device=cpu", "trainer.precision=float32", "trainer.log_every=1"]
    trainer = config.build(config.compose("train", settings).trainer)
    recorder = Recorder()
    state, _ = trainer.fit(model, data, optimizer=optimizer, scheduler=scheduler, recorder=recorder)
    assert state.history[0]["train_loss"] != state.history[2]["train_loss"]
    return state.history, [weights.flatten().tolist() for weights in recorder.weights.values()]


def assert_abandoned_epoch_does_no_harm(data: MetadataImages, second_epoch: list[Batch]) -> None:
    batches = data.train_batches(1)
    next(batches)
    del batches
    assert_same(list(data.train_batches(2)), second_epoch)
