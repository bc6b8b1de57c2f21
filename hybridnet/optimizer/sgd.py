"""SGD with Nesterov momentum, with a group for the backbone and one for everything new."""

from __future__ import annotations

import torch

from hybridnet.optimizer import Classifier, parameter_groups
from hybridnet.settings import NonNegative, Rate, checked


@checked
def sgd(
    model: Classifier, *, base_lr: NonNegative, head_lr: NonNegative, weight_decay: NonNegative, momentum: Rate
) -> torch.optim.SGD:
    """SGD with momentum.

    Paper: Sutskever et al., "On the Importance of Initialization and Momentum in Deep Learning", ICML 2013.

    Args:
        model: its parameters are split into groups by `parameter_groups`.
        base_lr: learning rate of the backbone.
        head_lr: learning rate of everything else.
        weight_decay: of weights; norms, biases and position scalars have none.
        momentum: Nesterov's; 0 for none.

    Raises:
        ValueError: if a setting is out of range.
    """
    groups = parameter_groups(model, base_lr=base_lr, head_lr=head_lr, weight_decay=weight_decay)
    optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=True)
    # A momentum of zero gives the same first step as none, and the fused kernel fails where some of a group have none:
    # when frozen stages are trained in the end.
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
