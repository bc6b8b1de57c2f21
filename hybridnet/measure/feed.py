"""What a real data set reaches of the speed that the same loop has on one batch that lies on the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat
from typing import Any, NamedTuple

from torch import nn

from hybridnet import config
from hybridnet.measure.rounds import Spread
from hybridnet.recorder import NoRecorder
from hybridnet.trainer.checkpoints import Checkpoints
from hybridnet.trainer.evaluator import nothing
from hybridnet.trainer.inputs import Inputs
from hybridnet.trainer.protocols import Batch, Batches
from hybridnet.trainer.state import Training
from hybridnet.trainer.step import Step
from hybridnet.trainer.supervised import Trainer


class Feed(NamedTuple):
    """Pictures per second, and how they compare round by round.

    Attributes:
        real: from the data.
        resident: from one batch.
        share: the one of the other.
        steps: of each measurement.
        batch_size: pictures in a step.
        textbook: by the loop of the tutorials; None where it was not asked.
        against_textbook: how many times as fast the data are here.
    """

    real: Spread
    resident: Spread
    share: Spread
    steps: int
    batch_size: int
    textbook: Spread | None = None
    against_textbook: Spread | None = None


class _Limited:
    """Data with a few batches; all the rest is as it was."""

    def __init__(self, data: Batches, steps: int) -> None:
        self.data = data
        self.steps_per_epoch = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def train_batches(self, epoch: int, *, first: int) -> Iterator[Batch]:
        return islice(iter(self.data.train_batches(epoch, first=first)), self.steps_per_epoch)


class _OneBatch(_Limited):
    """The same batch again and again, on the device already."""

    def __init__(self, data: Batches, steps: int, batch: Batch) -> None:
        super().__init__(data, steps)
        self.batch = batch

    def train_batches(self, epoch: int, *, first: int) -> Iterator[Batch]:
        return repeat(self.batch, self.steps_per_epoch)


def measure_feed(
    trainer: Trainer,
    model: nn.Module,
    data: Batches,
    cfg: config.DictConfig,
    *,
    rounds: int,
    seconds: float,
    textbook: Callable[[int], float] | None = None,
) -> Feed:
    """Train in the trainer's own loop, on the data and on one batch of them, in interleaved rounds.

    Args:
        trainer: with its loop.
        model: on the trainer's device.
        data: after its `setup`.
        cfg: with an optimizer and a scheduler.
        rounds: each of them one part of an epoch of either.
        seconds: that such a part lasts at least, if the epoch is long enough.
        textbook: another loop on the same pictures, also timed in every round: takes a number of steps and tells the
            seconds per picture.
    """
    optimizer = config.build(cfg.optimizer)(model)
    training = trainer.begin(model, optimizer=optimizer, scheduler=config.build(cfg.scheduler)(optimizer, 10**6))
    step, inputs = trainer.make_step(training), trainer.make_inputs()
    whole = max(1, data.steps_per_epoch - 1)  # batches; the last one of an epoch may be short
    batch = next(iter(data.train_batches(1, first=0))).to(trainer.device)

    def seconds_of(fed: Batches) -> float:
        return _seconds_per_image(trainer, training, step, inputs, fed)

    few = min(whole, 6)
    seconds_of(_OneBatch(data, few, batch))
    num_steps = math.ceil(seconds / (seconds_of(_OneBatch(data, few, batch)) * len(batch)))
    num_steps = min(whole, max(few, num_steps))
    real, resident = _Limited(data, num_steps), _OneBatch(data, num_steps, batch)
    seconds_of(real)
    calls = {"real": partial(seconds_of, real), "resident": partial(seconds_of, resident)}
    if textbook is not None:
        calls["textbook"] = partial(textbook, num_steps)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name, call in list(calls.items())[:: -1 if number % 2 else 1]:
            times[name].append(call())
    rates = {name: Spread.of([1 / value for value in values]) for name, values in times.items()}
    ahead = {
        name: Spread.of([theirs / own for own, theirs in zip(times["real"], values, strict=True)])
        for name, values in times.items()
    }
    return Feed(
        rates["real"],
        rates["resident"],
        ahead["resident"],
        num_steps,
        len(batch),
        textbook=rates.get("textbook"),
        against_textbook=ahead.get("textbook"),
    )


def _seconds_per_image(trainer: Trainer, training: Training, step: Step, inputs: Inputs, data: Any) -> float:
    recorder, state = NoRecorder(), training.state
    before, start = state.num_images, time.perf_counter()
    checkpoints = Checkpoints(training, recorder, nothing, minutes=math.inf)
    # Waits for the device.
    trainer.train_epoch(training, step, inputs, data, recorder=recorder, checkpoints=checkpoints)
    duration = time.perf_counter() - start
    state.epoch, state.batch = state.epoch + 1, 0
    training.totals.reset()
    return duration / (state.num_images - before)
