"""An exponential moving average of the weights, which is evaluated and saved in their place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The average of a model's weights over the steps; the model itself where it is switched off.

    After step n the average moves to the weights by 1 - d, d = min(decay, (1 + n) / (10 + n)): a short training is not
    dominated by its first weights. BatchNorm's statistics are averaged as well: those of the model as it is now do not
    fit averaged weights while the learning rate is high. Counters are the model's.

    Paper: Tarvainen and Valpola, "Mean Teachers are Better Role Models", arXiv:1703.01780. Deviation: the rising decay,
    which is TensorFlow's.

    Args:
        model: that is trained.
        decay: 0 switches the average off.

    Attributes:
        model: with the averaged weights.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.source = model
        # Its weights want gradients too, and get none: at::matmul computes differently with those that do not.
        self.model = copy.deepcopy(model) if decay else model
        pairs = [*zip(_tensors(self.model), _tensors(model), strict=True)]
        self._averaged = [(own, new) for own, new in pairs if own.is_floating_point()]
        self._counters = [(own, new) for own, new in pairs if not own.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step number `step`, from 1."""
        if not self.decay:
            return
        move = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        move(*zip(*self._averaged, strict=True), step)
        if self._counters:
            torch._foreach_copy_(*zip(*self._counters, strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights; nothing where they are the model's own."""
        return self.model.state_dict() if self.decay else {}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue with the average of a checkpoint; without one, with the model's weights as they are now."""
        if self.decay:
            self.model.load_state_dict(saved or self.source.state_dict())


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
