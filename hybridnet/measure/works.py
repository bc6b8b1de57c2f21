"""The models that are compared, and what each is timed at: an update of its weights, or its answers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hybridnet import config, experiment
from hybridnet.trainer.graphs import NUM_WARM_UPS
from hybridnet.trainer.rehearsal import rehearsal
from hybridnet.trainer.supervised import Trainer

Task = Literal["training", "inference"]
TASKS: tuple[Task, ...] = ("training", "inference")
SIZED = ("bot", "botlinear", "hybrid")


@dataclass(frozen=True)
class Case:
    """A model at an image size.

    Attributes:
        model: its file in conf/model.
        size: `lite` or `full`, of models that have both.
        image_size: height and width.
        stage: the layer that the attention follows, where that is not the last one.
        overrides: further settings, as in training.
    """

    model: str
    size: str | None
    image_size: int
    stage: int | None = None
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`botlinear lite`, `bot full after layer 3`."""
        place = f"after layer {self.stage}" if self.stage else None
        return " ".join(part for part in (self.model, self.size, place) if part)

    @functools.cache  # noqa: B019 - half a second each time, and there are few cases
    def configuration(self) -> config.DictConfig:
        """The configuration of a training of this model.

        Raises:
            InputError: if there is no such model, a setting is wrong, or the images are too small.
        """
        own = [f"model={self.model}", "data=metadata", f"data.image_size={self.image_size}"]
        own += [f"model.size={self.size}"] if self.size else []
        own += [f"model.stage={self.stage}"] if self.stage else []
        cfg = config.compose("train", [*own, *self.overrides])
        experiment.check(cfg)
        return cfg

    @functools.cache  # noqa: B019 - initialising takes as long as a training step
    def blueprint(self, *, num_classes: int) -> nn.Module:
        """The model on the CPU, to be copied. Nothing is zero as at the beginning: no kernel may profit from that."""
        model = experiment.build_model(self.configuration(), num_classes=num_classes)
        for parameter in model.parameters():
            if not parameter.detach().any():
                nn.init.normal_(parameter, std=0.02)
        return model

    def build(self, trainer: Trainer, *, num_classes: int) -> nn.Module:
        """The model on a trainer's device."""
        model = copy.deepcopy(self.blueprint(num_classes=num_classes))
        return model.to(trainer.device, memory_format=trainer.memory_format)


def count_parameters(case: Case, *, num_classes: int) -> int:
    """Numbers that are trained."""
    return sum(parameter.numel() for parameter in case.blueprint(num_classes=num_classes).parameters())


def count_macs(case: Case, *, num_classes: int) -> int:
    """Multiplications with addition for one picture, in convolutions and matrix products."""
    model = copy.deepcopy(case.blueprint(num_classes=num_classes)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, case.image_size, case.image_size))  # the meta device has no autocast
    return counter.get_total_flops() // 2


class Work(NamedTuple):
    """What is timed.

    Attributes:
        call: does it once.
        warm_ups: so many calls are not like those that follow.
    """

    call: Callable[[], object]
    warm_ups: int


def make_work(case: Case, task: Task, batch_size: int, *, trainer: Trainer, num_classes: int) -> Work:
    """One update of the weights, or the answers, on a batch of random pictures that lies on the device already."""
    shape = (batch_size, 3, case.image_size, case.image_size)
    model = case.build(trainer, num_classes=num_classes)
    if task == "inference":
        inputs = torch.randn(shape, device=trainer.device, dtype=trainer.precision.dtype)
        inputs = inputs.contiguous(memory_format=trainer.memory_format)
        return Work(lambda: _answers(model, inputs, trainer), warm_ups=2)
    cfg = case.configuration()
    optimizer = config.build(cfg.optimizer)(model)
    scheduler = config.build(cfg.scheduler)(optimizer, 10**6)
    call = rehearsal(trainer, model, optimizer=optimizer, scheduler=scheduler, shape=shape, num_classes=num_classes)
    return Work(call, warm_ups=NUM_WARM_UPS + 1 if trainer.compilation.captures else 2)


@torch.inference_mode()
def _answers(model: nn.Module, inputs: Tensor, trainer: Trainer) -> Tensor:
    """As `hybridnet.trainer.evaluator.Evaluator` asks for them."""
    model.eval()
    with trainer.precision.autocast():
        return model(inputs).float()
