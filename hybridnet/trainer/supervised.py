"""Supervised training: the loop, read from top to bottom."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hybridnet.errors import Fault, TrainingError
from hybridnet.monitor import direction
from hybridnet.settings import Count, Natural, Positive, Rate, checked
from hybridnet.trainer.average import WeightAverage
from hybridnet.trainer.checkpoints import Checkpoints, Stop
from hybridnet.trainer.clock import Clock
from hybridnet.trainer.compilation import CompileMode, find_compilation
from hybridnet.trainer.device import find_device, find_precision, is_out_of_memory, prepare_memory, set_determinism
from hybridnet.trainer.evaluator import Evaluator, nothing
from hybridnet.trainer.gradients import Gradients
from hybridnet.trainer.inputs import Inputs
from hybridnet.trainer.metrics import Evaluation
from hybridnet.trainer.protocols import Batch, Batches, Recorder
from hybridnet.trainer.randomness import offset_seed
from hybridnet.trainer.ranks import Ranks, never_empty
from hybridnet.trainer.state import ADVICE, State, Training, jump, rates
from hybridnet.trainer.step import Step

log = logging.getLogger(__name__)

# Between two readings of the device, at least: nobody reads faster, and at each a GPU has nothing to do for 1 ms.
SECONDS_BETWEEN_READINGS = 0.25


def never(state: State) -> bool:
    """Where no training is hopeless."""
    return False


class Trainer:
    """Trains a classifier and keeps the weights of its best epoch.

    Args:
        epochs: passes over the training pictures.
        patience: stop after so many epochs without improvement; <= 0 never stops early.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: of the forward pass: `auto`, `bf16`, `fp16`, `float32`.
        channels_last: keep feature maps as (B, H, W, C) in memory, which convolutions prefer.
        accumulate: train every batch in so many parts and add their gradients: the same batch size in less memory.
            BatchNorm sees one part at a time.
        oom: when the memory is full: `error`, or `accumulate`, which halves the parts until they fit.
        clip_norm: largest norm of the gradient; infinity for no limit.
        label_smoothing: share of every training target that is spread evenly over the classes (Szegedy et al.,
            arXiv:1512.00567); the validation loss is without it.
        ema_decay: evaluate and save an exponential moving average of the weights with this decay (see WeightAverage);
            0 for the weights themselves.
        freeze_stages: how many stages of the backbone, counted from the images, are frozen at first: they keep their
            weights and BatchNorm statistics, and no gradient is computed for them.
        freeze_epochs: for so many epochs; 0 for none.
        sync_batchnorm: compute BatchNorm's statistics over all GPUs that train together, not over each one's part.
        compile: how a step is carried out: `off`, operation by operation; `graph`, captured as a CUDA graph;
            `inductor`, compiled; `inductor_graph`, both; `auto`, what is fastest here (see `find_compilation`).
        deterministic: use only operations that give the same bits every time; slower, and only a GPU has others.
        log_every: steps between two readings of loss and accuracy, or more where that is less than a quarter of a
            second: each waits for the device. There is always one at an epoch's end.
        checkpoint_minutes: time between two checkpoints within an epoch; infinity for those at its end only.
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
        accumulate: Count,
        oom: Literal["error", "accumulate"],
        clip_norm: Positive,
        label_smoothing: Rate,
        ema_decay: Rate,
        freeze_stages: Natural,
        freeze_epochs: Natural,
        sync_batchnorm: bool,
        compile: CompileMode,
        deterministic: bool,
        log_every: Count,
        checkpoint_minutes: Positive,
        monitor: Literal["valid_acc", "valid_loss", "valid_macro_f1"],
        plot: bool,
    ) -> None:
        self.epochs = epochs
        self.patience = patience if patience > 0 else epochs
        self.ranks = Ranks.of_environment()
        self.device = find_device(device, self.ranks)
        self.precision = find_precision(precision, self.device)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.gradients = Gradients(self.precision, num_parts=accumulate, oom=oom, label_smoothing=label_smoothing)
        if self.ranks.num > 1 and oom == "accumulate":
            raise ValueError(
                "oom ('accumulate') works in one process only; set trainer.oom=error, trainer.accumulate=2"
            )
        if sync_batchnorm and self.device.type != "cuda":
            raise ValueError(f"sync_batchnorm needs GPUs, not {self.device}; set trainer.sync_batchnorm=false")
        if self.ranks.num > 1 and sync_batchnorm and accumulate > 1:
            # Of a batch of 9 two processes have 4 and 5: 4 parts of one and 3 of the other, which would wait for ever.
            raise ValueError(
                f"sync_batchnorm (true) and accumulate ({accumulate}) exclude each other, as the processes may have "
                "different numbers of parts; set trainer.accumulate=1 or trainer.sync_batchnorm=false"
            )
        self.compilation = find_compilation(compile, self.device, oom=oom, num_ranks=self.ranks.num)
        self.clip_norm = clip_norm
        self.ema_decay = ema_decay
        self.freeze_stages, self.freeze_epochs = freeze_stages, freeze_epochs
        self.sync_batchnorm = sync_batchnorm
        self.deterministic = deterministic
        self.log_every = log_every
        self.checkpoint_minutes = checkpoint_minutes
        self.monitor = monitor
        self.plot = plot

    def fit(
        self,
        model: nn.Module,
        data: Batches,
        *,
        optimizer: Optimizer,
        scheduler: LambdaLR,
        recorder: Recorder,
        stop: Stop = nothing,
        is_hopeless: Callable[[State], bool] = never,
        checkpoint: Mapping[str, Any] | None = None,
    ) -> tuple[State, Evaluation]:
        """Train until the last epoch, or until the monitored metric has not improved for `patience` epochs.

        The model must be on the device already, or the optimizer would hold other parameters.

        Args:
            model: (B, 3, H, W) -> (B, num_classes).
            data: the batches.
            optimizer, scheduler: new ones.
            recorder: of results and checkpoints.
            stop: asked at every step; what it returns is raised after a checkpoint was recorded.
            is_hopeless: asked before every epoch; if so, the training ends here, as after its last epoch.
            checkpoint: continue here: bit for bit what would have followed, on the same machine's CPU.

        Returns:
            How far it came, and the best epoch's answers; the model then has that epoch's weights.

        Raises:
            TrainingError: if a loss is not finite, of which nothing is saved, or the memory is full.
        """
        if checkpoint is None:
            self._warn_of_frozen_noise(model)
        training = self.begin(model, optimizer=optimizer, scheduler=scheduler, checkpoint=checkpoint)
        checkpoints = Checkpoints(training, recorder, stop, minutes=self.checkpoint_minutes)
        try:
            state = self.train_epochs(
                training, data, recorder=recorder, checkpoints=checkpoints, is_hopeless=is_hopeless
            )
            training.model.load_state_dict(training.best)
            if training.best_evaluation is None:  # that epoch was before this part of the run
                evaluate = self.make_evaluator(training.model)
                training.best_evaluation = evaluate(data, after_batch=checkpoints.stop_if_asked)
            return state, training.best_evaluation
        except Exception as error:
            if is_out_of_memory(error):
                raise self.gradients.out_of_memory(error, training) from error
            if explained := self.ranks.explained(error):
                raise explained from error
            raise

    def _warn_of_frozen_noise(self, model: nn.Module) -> None:
        is_known = getattr(model, "has_initial_weights", True)  # a model of somebody's own need not say
        if self.freeze_epochs and self.freeze_stages and not is_known:
            log.warning(
                f"trainer.freeze_epochs={self.freeze_epochs} freezes random weights at first: the backbone begins with "
                "none from model.pretrained=true or model.backbone.weights"
            )

    def begin(
        self,
        model: nn.Module,
        *,
        optimizer: Optimizer,
        scheduler: LambdaLR,
        checkpoint: Mapping[str, Any] | None = None,
    ) -> Training:
        """All that changes while training, as it is at the beginning or in a checkpoint; see `fit`."""
        prepare_memory(self.device)
        set_determinism(self.deterministic)
        if self.sync_batchnorm:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.ranks.share_weights(model)  # before the average begins with them
        training = Training(
            model,
            optimizer=optimizer,
            scheduler=scheduler,
            scaler=self.precision.grad_scaler(),
            average=WeightAverage(model, decay=self.ema_decay),
            device=self.device,
            ranks=self.ranks,
        )
        if checkpoint is not None:
            training.load_state_dict(checkpoint)
        elif not self.ranks.is_first:
            offset_seed(self.ranks.rank)
        return training

    def make_step(self, training: Training) -> Step:
        """What updates the weights of a training."""
        return Step(training, self.gradients, clip_norm=self.clip_norm, compilation=self.compilation)

    def make_inputs(self) -> Inputs:
        """What makes the steps' inputs and targets."""
        return Inputs(lambda data, batch: (self.input(data, batch), data.targets(batch)), self.compilation, self.device)

    def make_evaluator(self, model: nn.Module) -> Evaluator:
        """What evaluates a model on the validation pictures, in the training's precision."""
        return Evaluator(model, self.input, precision=self.precision, compilation=self.compilation, ranks=self.ranks)

    def is_finished(self, state: State) -> bool:
        """Whether the last epoch is done, or the monitored metric has not improved for `patience` epochs."""
        return state.epoch >= self.epochs or state.epoch - state.best_epoch >= self.patience

    def train_epochs(
        self,
        training: Training,
        data: Batches,
        *,
        recorder: Recorder,
        checkpoints: Checkpoints,
        is_hopeless: Callable[[State], bool],
    ) -> State:
        """The epochs that are left."""
        state, model = training.state, training.average.model
        step, inputs, evaluate = self.make_step(training), self.make_inputs(), self.make_evaluator(model)
        while not (self.is_finished(state) or is_hopeless(state)):
            checkpoints.stop_if_asked()
            row = self.train_epoch(training, step, inputs, data, recorder=recorder, checkpoints=checkpoints)
            self.ranks.share_buffers(model)
            evaluation = evaluate(data, guarded=checkpoints.guarded, after_batch=checkpoints.between_steps)
            row |= evaluation.summary()
            if not math.isfinite(row["valid_loss"]):
                where = f"epoch {state.epoch + 1}, validation"
                raise TrainingError(Fault("loss that is not finite", where, f"it is {row['valid_loss']}", ADVICE))
            state.history.append(row)
            state.epoch, state.batch = state.epoch + 1, 0
            training.totals.reset()
            if state.best_epoch == 0 or self.is_better(row, state.best_row):
                state.best_epoch = state.epoch
                training.keep_best(evaluation)
            checkpoints.epoch()
        return state

    def train_epoch(
        self,
        training: Training,
        step: Step,
        inputs: Inputs,
        data: Batches,
        *,
        recorder: Recorder,
        checkpoints: Checkpoints,
    ) -> dict[str, float]:
        """What is left of an epoch; returns its number, mean loss and accuracy, and the last step's rates."""
        state, model = training.state, training.model
        step.begin_epoch(model.first_stages(self.freeze_stages) if state.epoch < self.freeze_epochs else [])
        loss_weights = data.loss_weights().to(self.device)
        clock = Clock(state)
        batches = data.train_batches(state.epoch + 1, first=state.batch)
        for host_batch in clock.timed(checkpoints.guarded(batches)):
            batch, *made = inputs(data, host_batch)
            images, targets = never_empty(*made)
            share = self.ranks.share(len(batch), batch.num_images)
            loss_tensor, logits = step(images, targets, loss_weights * share)
            state.rates = rates(training.scheduler)
            state.step += 1
            state.batch += 1
            jump(training.scheduler, state.step)
            state.num_images += batch.num_images
            training.average.update(state.step)
            training.totals.add(loss_tensor, logits, batch.labels, num_images=batch.num_images, step=state.step)

            if state.batch == data.steps_per_epoch or self.is_reading_due(state, clock):
                loss, accuracy = training.read()
                clock.mark_reading()
                clock.lap()
                recorder.step(state.epoch + 1, state.batch, loss, accuracy, clock.images_per_second)
            clock.lap()
            checkpoints.between_steps()
        loss, accuracy = training.read()
        row = {"epoch": state.epoch + 1, "train_loss": loss, "train_acc": accuracy}
        return row | {"lr": state.rates[0], "head_lr": state.rates[-1]}

    def input(self, data: Batches, batch: Batch) -> Tensor:
        """The model's input in the format and memory layout of this trainer."""
        return data.to_input(batch, self.precision.dtype).contiguous(memory_format=self.memory_format)

    def is_reading_due(self, state: State, clock: Clock) -> bool:
        """Whether loss and accuracy are wanted now; all ranks agree."""
        if state.batch % self.log_every:
            return False
        return self.ranks.largest(clock.seconds_since_reading) >= SECONDS_BETWEEN_READINGS

    def is_better(self, row: dict[str, float], best: dict[str, float]) -> bool:
        """Whether `row` beats `best` in the monitored metric."""
        sign = direction(self.monitor)
        return sign * row[self.monitor] > sign * best[self.monitor]
