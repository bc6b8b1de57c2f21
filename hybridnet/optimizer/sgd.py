"""SGD with Nesterov momentum, with a group for the backbone and one for everything new."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
    return _FromZero(groups, momentum=momentum, nesterov=momentum > 0, fused=True)


class _FromZero(torch.optim.SGD):
    """Begins every momentum at zero, which gives the same first step.

    PyTorch has none before a weight's first step, and its fused kernel fails where some of a group have one: when
    frozen stages are trained in the end.
    """

    def _init_group(
        self, group: dict[str, Any], params: Any, grads: list[Tensor], momenta: list[Tensor | None]
    ) -> bool:
        has_sparse = super()._init_group(group, params, grads, momenta)
        for place, momentum in enumerate(momenta):
            if momentum is None:
                momenta[place] = torch.zeros_like(grads[place])
        return has_sparse
