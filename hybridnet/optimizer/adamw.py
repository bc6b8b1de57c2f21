"""AdamW with a group for the backbone and one for everything new."""

from __future__ import annotations

import torch

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
    return torch.optim.AdamW(groups, betas=tuple(betas), eps=eps, fused=True)  # one pass over the memory
