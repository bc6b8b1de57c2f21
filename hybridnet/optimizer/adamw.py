"""AdamW with a group for the backbone and one for everything new."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hybridnet.optimizer import Classifier, parameter_groups
from hybridnet.settings import NonNegative, Positive, Rate, checked


@checked
def adamw(
    model: Classifier,
    *,
    base_lr: NonNegative,
    head_lr: NonNegative,
    weight_decay: NonNegative,
    betas: tuple[Rate, Rate],
    eps: Positive,
) -> torch.optim.AdamW:
    """AdamW.

    Paper: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101.

    Args:
        model: its parameters are split into groups by `parameter_groups`.
        base_lr: learning rate of the backbone.
        head_lr: learning rate of everything else.
        weight_decay: of weights; norms, biases and position scalars have none.
        betas: decay of the averages of the gradient and of its square.
        eps: added to the denominator.

    Raises:
        ValueError: if a setting is out of range.
    """
    groups = parameter_groups(model, base_lr=base_lr, head_lr=head_lr, weight_decay=weight_decay)
    return _InMemoryOrder(groups, betas=tuple(map(float, betas)), eps=eps, fused=True)  # one pass over the memory


class _InMemoryOrder(torch.optim.AdamW):
    """Gives the CPU's kernel views whose dimensions are in the order of their memory.

    Of a gradient whose dimensions are not, a convolution's in channels_last, that kernel makes a copy and does not use
    it: half the time of an update.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        has_complex = super()._init_group(group, *lists)
        for tensors in lists:
            tensors[:] = map(_in_memory_order, tensors)
        return has_complex


def _in_memory_order(tensor: Tensor) -> Tensor:
    if tensor.dim() != 4 or tensor.device.type != "cpu" or tensor.is_contiguous():
        return tensor
    last = tensor.permute(0, 2, 3, 1)
    return last if last.is_contiguous() else tensor
