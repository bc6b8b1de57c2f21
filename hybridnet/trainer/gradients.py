"""Forward and backward pass of a batch, in as many parts as the memory needs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridnet.errors import Fault, TrainingError
from hybridnet.trainer.device import Precision, is_out_of_memory
from hybridnet.trainer.randomness import random_states, restore_random_states
from hybridnet.trainer.state import Training

log = logging.getLogger(__name__)


class Gradients:
    """Adds the gradients of a batch's mean loss to those of the parameters.

    Args:
        precision: of the forward pass.
        num_parts: train a batch in so many parts. Each weighs as many pictures as it has, so that their gradients add
            up to the batch's; only BatchNorm sees one part at a time.
        oom: when the memory is full: `error`, or `accumulate`, which halves the parts until they fit.
        label_smoothing: share of every target that is spread evenly over the classes.
    """

    def __init__(
        self, precision: Precision, *, num_parts: int, oom: Literal["error", "accumulate"], label_smoothing: float
    ) -> None:
        self.precision = precision
        self.num_parts = num_parts
        self.oom = oom
        self.label_smoothing = label_smoothing
        self._has_looked = False

    def add(
        self, training: Training, inputs: Tensor, targets: Tensor, *, loss_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One batch; what did not fit is tried again from the same state.

        Args:
            training: whose model and gradients.
            inputs: (B, 3, H, W).
            targets: share of each class in each picture, (B, num_classes).
            loss_weights: of the classes, (num_classes,).

        Returns:
            The mean loss () and the logits (B, num_classes), detached.
        """
        training.input_shape = max(training.input_shape, tuple(inputs.shape))
        while True:
            undo = _Undo(training.model, self.precision.device) if self.oom == "accumulate" else None
            size = self.part_size(len(inputs), num_splits=training.state.num_splits)
            self._warn_of_single_pictures(training.model, len(inputs), size)
            try:
                return self._add_parts(training, inputs.split(size), targets.split(size), loss_weights)
            except Exception as error:
                if undo is None or size == 1 or not is_out_of_memory(error):
                    raise
            # Here, because the exception holds what the failed attempt has left in memory.
            training.state.num_splits += 1
            training.optimizer.zero_grad()
            undo()
            size = self.part_size(len(inputs), num_splits=training.state.num_splits)
            log.warning(
                f"the memory of {self.precision.device} is full: from here on a batch of {len(inputs)} pictures is "
                f"trained in parts of {size}, whose gradients are added"
            )

    def _warn_of_single_pictures(self, model: nn.Module, num_images: int, size: int) -> None:
        """In the first batch, which is a whole one: what is left over at an epoch's end is another matter."""
        if self._has_looked:
            return
        self._has_looked = True
        is_alone = 1 in (size, num_images % size)
        if self.num_parts > 1 and num_images > 1 and is_alone and any(map(_uses_batch, model.modules())):
            log.warning(
                f"trainer.accumulate={self.num_parts} leaves parts of one picture in a batch of {num_images}, and "
                "BatchNorm's statistics are those of that picture alone; fewer parts, or a larger data.batch_size, "
                "avoid it"
            )

    def part_size(self, num_images: int, *, num_splits: int) -> int:
        """How many pictures of a batch the model sees at once, after so many halvings."""
        return -(-num_images // (self.num_parts * 2**num_splits))

    def out_of_memory(self, error: Exception, training: Training) -> TrainingError:
        """What did not fit, in numbers, and the settings that make it smaller."""
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
        num_images, _, height, width = training.input_shape
        size = self.part_size(num_images, num_splits=training.state.num_splits)
        parts = f" in parts of {size}" if size < num_images else ""
        cause, hint = reason, "a smaller data.batch_size or data.image_size"
        if num_images:
            cause = f"a batch of {num_images} pictures of {height}×{width}{parts} does not fit ({reason})"
            hint = f"data.batch_size={num_images // 2} or a smaller data.image_size"
        if size == 1:
            hint = "a smaller data.image_size or a smaller model"
        elif self.oom == "error":
            hint += (
                f"; or the same batch in parts with trainer.accumulate={2 * self.num_parts}, "
                "or in as many as needed with trainer.oom=accumulate"
            )
        return TrainingError(Fault("out of memory", str(self.precision.device), cause, hint))

    def _add_parts(
        self, training: Training, inputs: Sequence[Tensor], targets: Sequence[Tensor], loss_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        num_images = sum(map(len, inputs))
        losses, all_logits = [], []
        for number, (part, target) in enumerate(zip(inputs, targets, strict=True), 1):
            with nullcontext() if number == len(inputs) else training.unshared():
                with self.precision.autocast():
                    logits = training.forward(part)
                loss = self._loss(logits, target, loss_weights) * (len(part) / num_images)
                training.scaler.scale(loss).backward()
            losses.append(loss.detach())
            all_logits.append(logits.detach())
        return torch.stack(losses).sum(), torch.cat(all_logits)

    def _loss(self, logits: Tensor, targets: Tensor, loss_weights: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), targets, weight=loss_weights, label_smoothing=self.label_smoothing)


def _uses_batch(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training


class _Undo:
    """Keeps what a forward pass changes, buffers and random states; a call restores them."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        self.random, self.device = random_states(device), device

    def __call__(self) -> None:
        for buffer, before in self.buffers:
            buffer.copy_(before)
        restore_random_states(self.random, self.device)
