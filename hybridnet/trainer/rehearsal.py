"""Training steps without data: does a model train at all, and how fast."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hybridnet.trainer.device import is_out_of_memory
from hybridnet.trainer.supervised import Trainer


def rehearsal(
    trainer: Trainer,
    model: nn.Module,
    *,
    optimizer: Optimizer,
    scheduler: LambdaLR,
    shape: tuple[int, int, int, int],
    num_classes: int,
) -> Callable[[], tuple[Tensor, Tensor]]:
    """The trainer's own step, always on the same batch of random pictures, which lies on the device already.

    Args:
        trainer: whose step.
        model: on the trainer's device; (B, 3, H, W) -> (B, num_classes).
        optimizer, scheduler: of the model.
        shape: of the batch: (B, 3, H, W).
        num_classes: of the model.

    Returns:
        A step: updates the weights; gives the mean loss () and the logits (B, num_classes).

    Raises:
        TrainingError: each call, if the batch does not fit into the memory.
    """
    inputs = torch.randn(shape, device=trainer.device, dtype=trainer.precision.dtype)
    inputs = inputs.contiguous(memory_format=trainer.memory_format)
    targets = torch.eye(num_classes, device=trainer.device)[torch.arange(len(inputs)) % num_classes]
    loss_weights = torch.ones(num_classes, device=trainer.device)
    training = trainer.begin(model, optimizer=optimizer, scheduler=scheduler)
    step = trainer.make_step(training)
    step.begin_epoch([])

    def rehearse() -> tuple[Tensor, Tensor]:
        try:
            return step(inputs, targets, loss_weights)
        except Exception as error:
            if is_out_of_memory(error):
                raise trainer.gradients.out_of_memory(error, training) from error
            raise

    return rehearse
