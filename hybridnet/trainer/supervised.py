"""Supervised training: the loop, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hybridnet.errors import TrainingError
from hybridnet.settings import Count, Positive, Rate, checked
from hybridnet.trainer.device import find_device, find_precision, prepare_memory
from hybridnet.trainer.metrics import Evaluation, RunningTotals

ADVICE = "try optimizer.base_lr and optimizer.head_lr ten times lower, trainer.clip_norm=1 or trainer.precision=float32"


class Batch(Protocol):
    """Pictures and labels of one step."""

    labels: Tensor

    def __len__(self) -> int: ...
    def to(self, device: torch.device) -> Batch: ...


class Data(Protocol):
    """Where the batches come from."""

    steps_per_epoch: int

    def train_batches(self, epoch: int) -> Iterable[Batch]: ...
    def valid_batches(self) -> Iterable[Batch]: ...
    def to_input(self, batch: Batch, dtype: torch.dtype) -> Tensor: ...
    def targets(self, batch: Batch) -> Tensor: ...
    def loss_weights(self) -> Tensor: ...


class Recorder(Protocol):
    """Where the results go: files, a display."""

    def step(self, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Called every `log_every` steps and at the end of an epoch; `step` counts within the epoch."""

    def best(self, model: dict[str, Tensor], row: dict[str, float]) -> None:
        """Called when the monitored metric has improved."""

    def epoch(self, state: State, checkpoint: dict[str, Any]) -> None:
        """Called at the end of every epoch, with all that is needed to continue."""


@dataclass
class State:
    """How far the training is.

    Attributes:
        epoch: finished epochs.
        step: optimizer updates.
        best_epoch: the epoch with the best monitored metric, 0 before the first.
        history: one row per epoch.
        train_seconds: steps and waiting for data, without validation and saving.
        wait_seconds: the part of it in which the step waited for data.
        num_images: pictures trained on.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    train_seconds: float = 0.0
    wait_seconds: float = 0.0
    num_images: int = 0

    @property
    def best_row(self) -> dict[str, float]:
        """The history's row of the best epoch."""
        return self.history[self.best_epoch - 1]


class Trainer:
    """Trains a classifier and keeps the weights of its best epoch.

    Args:
        epochs: passes over the training pictures.
        patience: stop after so many epochs without improvement; <= 0 never stops early.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: of the forward pass: `auto`, `bf16`, `fp16`, `float32`.
        channels_last: keep feature maps as (B, H, W, C) in memory, which convolutions prefer.
        clip_norm: largest norm of the gradient; infinity for no limit.
        label_smoothing: share of every training target that is spread evenly over the classes (Szegedy et al.,
            arXiv:1512.00567); the validation loss is without it.
        log_every: steps between two readings of loss and accuracy, each of which waits for the device.
        monitor: the metric that decides which epoch is best.
        plot: whether the caller shall show the curves at the end.

    Raises:
        ValueError: if a setting is out of range, or this machine has no such device or precision.
    """

    @checked
    def __init__(
        self,
        *,
        epochs: Count,
        patience: int,
        device: str,
        precision: Literal["auto", "bf16", "fp16", "float32"],
        channels_last: bool,
        clip_norm: Positive,
        label_smoothing: Rate,
        log_every: Count,
        monitor: Literal["valid_acc", "valid_loss", "valid_macro_f1"],
        plot: bool,
    ) -> None:
        self.epochs = epochs
        self.patience = patience if patience > 0 else epochs
        self.device = find_device(device)
        self.precision = find_precision(precision, self.device)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.clip_norm = clip_norm
        self.label_smoothing = label_smoothing
        self.log_every = log_every
        self.monitor = monitor
        self.plot = plot

    def fit(
        self, model: nn.Module, data: Data, *, optimizer: Optimizer, scheduler: LRScheduler, recorder: Recorder
    ) -> State:
        """Train until the last epoch, or until the monitored metric has not improved for `patience` epochs.

        The model must be on the device already, or the optimizer would hold other parameters.

        Raises:
            TrainingError: if a loss is not finite; nothing of that epoch is saved.
        """
        prepare_memory(self.device)
        state = State()
        scaler = self.precision.grad_scaler()
        while state.epoch < self.epochs and state.epoch - state.best_epoch < self.patience:
            state.epoch += 1
            row = self.train_epoch(model, data, optimizer, scheduler, scaler, state=state, recorder=recorder)
            row |= self.evaluate(model, data).summary()
            if not math.isfinite(row["valid_loss"]):
                raise TrainingError(f"the validation loss is not finite after epoch {state.epoch}; {ADVICE}")
            state.history.append(row)
            if state.best_epoch == 0 or self.is_better(row, state.best_row):
                state.best_epoch = state.epoch
                recorder.best(model.state_dict(), row)
            recorder.epoch(state, self.checkpoint(model, optimizer, scheduler, scaler, state=state))
        return state

    def train_epoch(
        self,
        model: nn.Module,
        data: Data,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        scaler: torch.amp.GradScaler,
        *,
        state: State,
        recorder: Recorder,
    ) -> dict[str, float]:
        """One pass over the training pictures; returns epoch, mean loss and accuracy, and the last step's rates."""
        model.train()
        totals = RunningTotals(self.device)
        loss_weights = data.loss_weights().to(self.device)
        clock = Clock(data.train_batches(state.epoch))
        for number, host_batch in enumerate(clock, start=1):
            batch = host_batch.to(self.device)
            with self.precision.autocast():
                logits = model(self.input(data, batch))
            loss_tensor = F.cross_entropy(
                logits.float(), data.targets(batch), weight=loss_weights, label_smoothing=self.label_smoothing
            )
            scaler.scale(loss_tensor).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            rates = [group["lr"] for group in optimizer.param_groups]
            scheduler.step()
            state.step += 1
            totals.add(loss_tensor, logits, batch.labels, step=state.step)

            if number % self.log_every == 0 or number == data.steps_per_epoch:
                loss, accuracy = self.read(totals, state, optimizer)
                recorder.step(state.epoch, number, loss, accuracy, totals.num_images / clock.seconds)
        state.train_seconds += clock.seconds
        state.wait_seconds += clock.wait_seconds
        state.num_images += totals.num_images
        row = {"epoch": state.epoch, "train_loss": loss, "train_acc": accuracy}
        return row | {"lr": rates[0], "head_lr": rates[-1]}

    @torch.inference_mode()
    def evaluate(self, model: nn.Module, data: Data) -> Evaluation:
        """The model's answers on the validation pictures, in the training's precision."""
        model.eval()
        logits, labels = [], []
        for host_batch in data.valid_batches():
            batch = host_batch.to(self.device)
            with self.precision.autocast():
                logits.append(model(self.input(data, batch)).float())
            labels.append(batch.labels)
        return Evaluation(torch.cat(logits).cpu(), torch.cat(labels).cpu())

    def input(self, data: Data, batch: Batch) -> Tensor:
        """The model's input in the format and memory layout of this trainer."""
        return data.to_input(batch, self.precision.dtype).contiguous(memory_format=self.memory_format)

    def read(self, totals: RunningTotals, state: State, optimizer: Optimizer) -> tuple[float, float]:
        """Mean loss and accuracy of the epoch so far.

        Raises:
            TrainingError: if a loss was not finite.
        """
        try:
            return totals.read()
        except FloatingPointError as error:
            rates = ", ".join(f"{group['name']} {group['lr']:.3g}" for group in optimizer.param_groups)
            raise TrainingError(
                f"the loss is not finite at epoch {state.epoch}, step {error} (learning rates: {rates}); {ADVICE}"
            ) from error

    def is_better(self, row: dict[str, float], best: dict[str, float]) -> bool:
        """Whether `row` beats `best` in the monitored metric; a loss is better when it is lower."""
        sign = -1 if self.monitor.endswith("loss") else 1
        return sign * row[self.monitor] > sign * best[self.monitor]

    def checkpoint(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        scaler: torch.amp.GradScaler,
        *,
        state: State,
    ) -> dict[str, Any]:
        """All that is needed to continue, in tensors and plain types."""
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "scaler": scaler.state_dict(),
            "state": dict(vars(state)),
            "random": {
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            },
        }


class Clock:
    """Iterates over batches and measures the time in all, and the part of it spent waiting for the next batch."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches = batches
        self.wait_seconds = 0.0
        self._start = time.perf_counter()
        self._end: float | None = None

    @property
    def seconds(self) -> float:
        """Since the start, or of the whole iteration once it has ended."""
        return (self._end or time.perf_counter()) - self._start

    def __iter__(self) -> Iterator[Batch]:
        source = iter(self.batches)
        while True:
            asked = time.perf_counter()
            batch = next(source, None)
            self.wait_seconds += time.perf_counter() - asked
            if batch is None:
                self._end = time.perf_counter()
                return
            yield batch
