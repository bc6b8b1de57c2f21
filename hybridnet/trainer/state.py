"""What changes while training, and its form in a checkpoint."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hybridnet.errors import Fault, TrainingError
from hybridnet.trainer.average import WeightAverage
from hybridnet.trainer.metrics import Evaluation, RunningTotals
from hybridnet.trainer.randomness import offset_seed, random_states, restore_random_states
from hybridnet.trainer.ranks import Ranks
from hybridnet.transfer import to_host

log = logging.getLogger(__name__)

ADVICE = "try optimizer.base_lr and optimizer.head_lr ten times lower, trainer.clip_norm=1 or trainer.precision=float32"


@dataclass
class State:
    """How far the training is.

    Attributes:
        epoch: finished epochs.
        batch: batches of the epoch after those that were trained on.
        step: optimizer updates.
        best_epoch: the epoch with the best monitored metric, 0 before the first.
        history: one row per epoch.
        rates: learning rate of every parameter group at the last step.
        num_splits: how often the parts of a batch were halved because the memory was full.
        train_seconds: steps and waiting for data, without validation and saving.
        wait_seconds: the part of it in which the step waited for data.
        num_images: pictures trained on, by all ranks.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    num_splits: int = 0
    train_seconds: float = 0.0
    wait_seconds: float = 0.0
    num_images: int = 0

    @property
    def best_row(self) -> dict[str, float]:
        """The history's row of the best epoch."""
        return self.history[self.best_epoch - 1]


class Training:
    """All that changes while training.

    Args:
        model: on its device.
        optimizer: of the model's parameters.
        scheduler: of the optimizer; a function of the step.
        scaler: of fp16 gradients.
        average: of the model's weights.
        device: that trains.
        ranks: the processes that train together, each with its own `Training`.

    Attributes:
        forward: the model's forward pass as it is carried out.
        unshared: context of a backward pass whose gradients stay on this rank for now.
        state: how far the training is.
        totals: sums over the epoch in progress.
        best: weights and buffers of the best epoch, on the CPU.
        best_evaluation: their answers on the validation pictures; None where they come from a checkpoint.
        input_shape: (B, 3, H, W) of the largest batch so far; zeros before the first.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: Optimizer,
        scheduler: LambdaLR,
        scaler: torch.amp.GradScaler,
        average: WeightAverage,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scaler = scaler
        self.average = average
        self.device = device
        self.ranks = ranks
        self.forward: Callable[[Tensor], Tensor] = model
        self.unshared: Callable[[], AbstractContextManager] = nullcontext
        self.state = State()
        self.totals = RunningTotals(device, ranks)
        self.best: dict[str, Tensor] = {}
        self.best_evaluation: Evaluation | None = None
        self.input_shape = (0, 0, 0, 0)

    def read(self) -> tuple[float, float]:
        """Mean loss and accuracy of the epoch so far. Waits for the device.

        Raises:
            TrainingError: if a loss was not finite.
        """
        try:
            return self.totals.read()
        except FloatingPointError as error:
            where = f"epoch {self.state.epoch + 1}, step {error}"
            raise TrainingError(Fault("loss that is not finite", where, self.describe_rates(), ADVICE)) from error

    def describe_rates(self) -> str:
        """`learning rates: backbone 0.0001, head 0.001`, whatever else tells the groups apart."""
        names = [group.get("name", f"group {number}") for number, group in enumerate(self.optimizer.param_groups, 1)]
        rates = [f"{n.partition(',')[0]} {rate:.3g}" for n, rate in zip(names, self.state.rates, strict=True)]
        return f"learning rates: {', '.join(dict.fromkeys(rates))}"

    def keep_best(self, evaluation: Evaluation) -> None:
        """Take a copy of the weights that were evaluated, and their answers."""
        self.best_evaluation = evaluation
        weights = self.average.model.state_dict()
        self.best = dict(zip(weights, to_host(weights.values()), strict=True))

    def has_finite_weights(self) -> bool:
        """Whether no weight is NaN or infinite. Waits for the device."""
        return all(torch.isfinite(tensor).all() for tensor in self.model.state_dict().values())

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to continue, in tensors and plain types; every rank must ask for it."""
        own = {"totals": self.totals.state_dict(), "random": random_states(self.device)}
        first, *others = self.ranks.gathered(own)
        model, average = self.model.state_dict(), self.average.state_dict()
        is_best = self.state.batch == 0 and self.state.epoch == self.state.best_epoch > 0
        return {
            "model": model,
            "average": average,
            # Right after the best epoch they are the same tensors, which torch.save writes once.
            "best": dict(average or model) if is_best else self.best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "state": dict(vars(self.state)),
            **first,
            "others": others,  # what the other ranks have of their own
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called.

        Settings of the optimizer and the schedule are this training's, so that a changed one counts from here on;
        unchanged, they are what they were. Another kind of optimizer begins anew.
        """
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.best = dict(saved["best"])
        self.state = State(**copy.deepcopy(saved["state"]))
        self._load_own([{"totals": saved["totals"], "random": saved["random"]}, *saved.get("others", [])])
        self._load_optimizer(saved["optimizer"])
        if saved["scaler"]:  # empty where the run was not in fp16 before
            self.scaler.load_state_dict(saved["scaler"])
        if self.state.step:
            jump(self.scheduler, self.state.step)

    def _load_optimizer(self, saved: Mapping[str, Any]) -> None:
        """Nothing, if it is of another kind of optimizer: then it has settings that this one does not know."""
        groups = self.optimizer.param_groups
        if saved["param_groups"][0].keys() - groups[0].keys():
            log.warning("the optimizer begins anew: what was saved is of another kind, or of a later version of torch")
            return
        settings = [{k: v for k, v in group.items() if k != "params"} for group in groups]
        self.optimizer.load_state_dict(copy.deepcopy(saved))  # which it would go on to change
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)
        _lay_out_like_parameters(self.optimizer)

    def _load_own(self, of_ranks: Sequence[Mapping[str, Any]]) -> None:
        """What each rank has of its own; if there were more or fewer ranks, the first takes all sums."""
        if len(of_ranks) == self.ranks.num:
            own = of_ranks[self.ranks.rank]
            self.totals.load_state_dict(own["totals"])
            restore_random_states(own["random"], self.device)
            return
        self.totals.load_state_dict(of_ranks[0]["totals"])
        for other in of_ranks[1:]:
            self.totals.add_state_dict(other["totals"])
        restore_random_states(of_ranks[0]["random"], self.device)
        if not self.ranks.is_first:
            self.totals.clear_sums()
            offset_seed(self.ranks.rank)


def _lay_out_like_parameters(optimizer: Optimizer) -> None:
    """Give what an optimizer keeps of each weight that weight's order in memory: fused updates take it for granted."""
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def rates(scheduler: LambdaLR) -> list[float]:
    """The learning rate of every parameter group, which the optimizer may have on a device."""
    factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
    return [rate * factor for rate, factor in zip(scheduler.base_lrs, factors, strict=True)]


def jump(scheduler: LambdaLR, step: int) -> None:
    """Set the learning rates to what they are after `step` steps: a LambdaLR is a function of the step.

    Also step by step: `scheduler.step()` alone warns if the very first update was left out, as fp16 does at times.
    """
    scheduler.load_state_dict(scheduler.state_dict() | {"last_epoch": step - 1, "_step_count": step + 1})
    scheduler.step()
