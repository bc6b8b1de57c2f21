from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from hybridnet.errors import Fault, Stopped, TrainingError
from hybridnet.trainer import checkpoints as module
from hybridnet.trainer.checkpoints import Checkpoints

# In time


class Watch:
    """Goes on by 20 seconds with a training batch, by 10 with one of the validation, and by 300 with a record."""

    def __init__(self) -> None:
        self.now = 500.0

    def monotonic(self) -> float:
        return self.now

    def going_on(self, batches: Iterator[Any], seconds: float) -> Iterator[Any]:
        for batch in batches:
            self.now += seconds
            yield batch


@pytest.fixture
def where(monkeypatch: pytest.MonkeyPatch, fit: Callable, tiny_data: type, make_recorder: type) -> Callable:
    """Where a run of two epochs is recorded: finished epochs, batches after them."""

    def run(minutes: float) -> list[tuple[int, int]]:
        watch = Watch()
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=watch.monotonic))

        class Data(tiny_data):
            def train_batches(self, epoch: int, *, first: int = 0) -> Iterator[Any]:
                return watch.going_on(super().train_batches(epoch, first=first), 20)

            def valid_batches(self) -> Iterator[Any]:
                return watch.going_on(super().valid_batches(), 10)

        class Slow(make_recorder):
            def _keep(self, *arguments: Any) -> None:
                super()._keep(*arguments)
                watch.now += 300

        recorder = Slow()
        fit(data=Data(), recorder=recorder, epochs=2, checkpoint_minutes=minutes)
        assert len(recorder.checkpoints) == 2
        return recorder.where

    return run


def test_the_time_since_the_last_record_decides(where: Callable) -> None:
    """60 s: after the third step, and after two further ones and two validation batches. Recording does not count."""
    assert where(1.0) == [(0, 3), (0, 5), (1, 3), (1, 5)]


def test_every_step_and_validation_batch_may_be_recorded(where: Callable) -> None:
    epoch = [1, 2, 3, 4, 5, 5, 5, 5, 5, 5]
    assert where(1 / 6) == [(0, batch) for batch in epoch] + [(1, batch) for batch in epoch]


def test_an_epochs_end_counts_as_a_record(where: Callable) -> None:
    """150 s are 5 steps and 5 validation batches: only the second epoch could be so long since the beginning."""
    assert where(149 / 60) == [(0, 5), (1, 5)]
    assert where(151 / 60) == []
    assert where(math.inf) == []


def test_a_record_in_time_changes_nothing(fit: Callable, noisy_model: Callable, differences: Callable) -> None:
    results = []
    for minutes in (math.inf, 1e-9):
        torch.manual_seed(4)
        results.append(fit(noisy_model(), checkpoint_minutes=minutes, ema_decay=0.9))
    rare, often = results
    assert len(rare.recorder.saved) == 0 and len(often.recorder.saved) == 3 * 10
    last = [result.recorder.checkpoints[-1] for result in results]
    for checkpoint in last:
        del checkpoint["state"]["train_seconds"], checkpoint["state"]["wait_seconds"]
    assert differences(*last) == []


# On request


def test_a_stop_is_raised_once_the_state_is_recorded(fit: Callable, make_recorder: type) -> None:
    answers = iter([None, None, None, Stopped(signal.SIGINT)])
    recorder = make_recorder()
    with pytest.raises(Stopped, match="stopped by SIGINT"):
        fit(recorder=recorder, stop=lambda: next(answers))
    assert recorder.where == [(0, 3)] and recorder.checkpoints == []


def test_a_stop_at_an_epochs_end_needs_no_further_record(fit: Callable, make_recorder: type) -> None:
    answers = iter([None] * 11 + [Stopped(signal.SIGTERM)])
    recorder = make_recorder()
    with pytest.raises(Stopped, match="SIGTERM"):
        fit(recorder=recorder, stop=lambda: next(answers))
    assert recorder.saved == [] and len(recorder.checkpoints) == 1


# Before a failure of the data


def failing(tiny_data: type, error: BaseException, *, epoch: int, batch: int | None = None, valid: int = 0) -> Any:
    """Data whose source fails in the place of a training batch, or of a validation batch."""

    def until(batches: Iterator[Any], first: int, last: int) -> Iterator[Any]:
        for number, item in enumerate(batches, start=first):
            if number == last:
                raise error
            yield item
        if number + 1 == last:
            raise error

    class Failing(tiny_data):
        epoch = 0

        def train_batches(self, number: int, *, first: int = 0) -> Iterator[Any]:
            self.epoch = number
            batches = super().train_batches(number, first=first)
            return until(batches, first, batch) if number == epoch and batch is not None else batches

        def valid_batches(self) -> Iterator[Any]:
            batches = super().valid_batches()
            return until(batches, 0, valid) if self.epoch == epoch and batch is None else batches

    return Failing()


FAILURES = [
    ({"epoch": 1, "batch": 0}, []),
    ({"epoch": 1, "batch": 1}, [(0, 1)]),
    ({"epoch": 2, "batch": 0}, []),
    ({"epoch": 2, "batch": 4}, [(1, 4)]),
    ({"epoch": 2, "batch": 5}, [(1, 5)]),
    ({"epoch": 1, "valid": 0}, [(0, 5)]),
    ({"epoch": 2, "valid": 4}, [(1, 5)]),
    ({"epoch": 2, "valid": 5}, [(1, 5)]),
]


@pytest.mark.parametrize(("place", "expected"), FAILURES, ids=str)
def test_no_step_is_lost_when_the_data_fail(
    place: dict[str, int],
    expected: list[tuple[int, int]],
    fit: Callable,
    tiny_data: type,
    make_recorder: type,
    noisy_model: Callable,
    differences: Callable,
) -> None:
    """The very error is passed on; and with the data back, the run ends where it would have ended."""
    torch.manual_seed(4)
    whole = fit(noisy_model(), ema_decay=0.9).recorder.checkpoints[-1]
    torch.manual_seed(4)
    error, recorder = OSError("the disk is gone"), make_recorder()
    with pytest.raises(OSError) as caught:
        fit(noisy_model(), failing(tiny_data, error, **place), recorder=recorder, ema_decay=0.9)
    assert caught.value is error
    assert recorder.where == expected
    assert len(recorder.checkpoints) == place["epoch"] - 1
    if not (recorder.saved or recorder.checkpoints):
        return
    checkpoint = (recorder.saved or recorder.checkpoints)[-1]
    parted = fit(noisy_model(), checkpoint=checkpoint, ema_decay=0.9).recorder.checkpoints[-1]
    for content in (whole, parted):
        del content["state"]["train_seconds"], content["state"]["wait_seconds"]
    assert differences(parted, whole) == []


@pytest.mark.parametrize(("place", "expected"), FAILURES, ids=str)
def test_a_stop_ends_the_source_of_the_data_as_well(
    place: dict[str, int], expected: list[tuple[int, int]], fit: Callable, tiny_data: type, make_recorder: type
) -> None:
    """Ctrl-C reaches the worker processes too. It is a stop then, not a failure, and recorded once."""
    recorder, data = make_recorder(), failing(tiny_data, RuntimeError("a worker exited"), **place)
    is_stopped = []

    def batches_until_stopped(batches: Callable) -> Callable:
        def make(*arguments: Any, **options: Any) -> Iterator[Any]:
            try:
                yield from batches(*arguments, **options)
            except RuntimeError:
                is_stopped.append(True)
                raise

        return make

    data.train_batches = batches_until_stopped(data.train_batches)
    data.valid_batches = batches_until_stopped(data.valid_batches)
    with pytest.raises(Stopped, match="SIGTERM"):
        fit(data=data, recorder=recorder, stop=lambda: Stopped(signal.SIGTERM) if is_stopped else None)
    assert recorder.where == expected


def test_a_second_signal_ends_it_at_once(fit: Callable, tiny_data: type, make_recorder: type) -> None:
    recorder = make_recorder()
    with pytest.raises(KeyboardInterrupt):
        fit(data=failing(tiny_data, KeyboardInterrupt(), epoch=1, batch=2), recorder=recorder)
    assert recorder.saved == recorder.checkpoints == []


def test_what_the_data_explain_is_passed_on(fit: Callable, tiny_data: type) -> None:
    """Their memory is not the model's, and a smaller batch not the way out."""
    error = TrainingError(Fault("too little memory", "data.num_workers=2", "out of memory", "fewer workers"))
    with pytest.raises(TrainingError) as caught:
        fit(data=failing(tiny_data, error, epoch=1, batch=2))
    assert caught.value is error


# Only what is worth continuing


class Careless(torch.optim.SGD):
    """Spoils a weight in its second step."""

    num_steps = 0

    def step(self, closure: None = None) -> None:
        super().step(closure)
        self.num_steps += 1
        if self.num_steps == 2:
            self.param_groups[0]["params"][-1].data[0] = math.inf


def careless(model: nn.Module) -> torch.optim.Optimizer:
    return Careless([{"params": list(model.parameters()), "name": "all"}], lr=0.25)


SPOILT = r"^error: weights that are not finite in epoch 1, step 2: learning rates: all 0\.25\nhint: try optimizer\.base"


def test_weights_that_are_not_finite_are_not_recorded_in_time(fit: Callable, make_recorder: type) -> None:
    recorder = make_recorder()
    with pytest.raises(TrainingError, match=SPOILT):
        fit(make_optimizer=careless, recorder=recorder, checkpoint_minutes=1e-9)
    assert recorder.where == [(0, 1)] and recorder.checkpoints == []


def test_weights_that_are_not_finite_are_not_recorded_on_request(fit: Callable, make_recorder: type) -> None:
    recorder = make_recorder()
    answers = iter([None, None, Stopped(signal.SIGTERM)])
    with pytest.raises(TrainingError, match=SPOILT):
        fit(make_optimizer=careless, recorder=recorder, stop=lambda: next(answers))
    assert recorder.saved == recorder.checkpoints == []


def test_weights_that_are_not_finite_are_not_recorded_when_the_data_fail(
    fit: Callable, tiny_data: type, make_recorder: type
) -> None:
    recorder, data = make_recorder(), failing(tiny_data, OSError("gone"), epoch=1, batch=2)
    with pytest.raises(TrainingError, match=SPOILT):
        fit(data=data, make_optimizer=careless, recorder=recorder)
    assert recorder.saved == recorder.checkpoints == []


def test_statistics_that_are_not_finite_are_not_recorded(fit: Callable, tiny_data: type, make_recorder: type) -> None:
    """Variances overflow long before the loss does: BatchNorm divides by them."""
    recorder = make_recorder()
    with pytest.raises(TrainingError, match="weights that are not finite in epoch 1, step 1"):
        fit(data=tiny_data(scale=1e25), recorder=recorder, checkpoint_minutes=1e-9)
    assert recorder.saved == []


def test_a_loss_that_is_not_finite_is_not_recorded(
    make_training: Callable, model: nn.Module, make_recorder: type
) -> None:
    """Also where the weights still are; it is named by the step in which it was, not the last one."""
    training, recorder = make_training(model), make_recorder()
    training.state.rates = [0.5]
    for step, loss in ((1, 1.0), (2, math.nan), (3, 1.0)):
        training.totals.add(torch.tensor(loss), torch.eye(3), torch.tensor([0, 1, 2]), num_images=3, step=step)
        training.state.step = training.state.batch = step
    checkpoints = Checkpoints(training, recorder, lambda: None, minutes=math.inf)
    with pytest.raises(TrainingError, match=r"loss that is not finite in epoch 1, step 2: learning rates: all 0\.5"):
        checkpoints.within_epoch()
    assert recorder.saved == []
