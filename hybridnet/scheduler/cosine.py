"""Linear warm-up, then half a cosine."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hybridnet.settings import Count, Probability, Rate, checked


@checked
def cosine(optimizer: Optimizer, num_steps: Count, *, warmup_fraction: Rate, final_fraction: Probability) -> LambdaLR:
    """Scale every learning rate from near 0 up to 1 and down to `final_fraction` over `num_steps` steps.

    Paper: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", arXiv:1608.03983 (one cycle).

    Args:
        optimizer: all its groups are scaled alike.
        num_steps: optimizer steps of the whole training.
        warmup_fraction: share of the steps in which the rate rises linearly.
        final_fraction: where the rate ends, as a share of its peak.

    Raises:
        ValueError: if a setting is out of range.
    """
    num_warmup = round(warmup_fraction * num_steps)

    def factor(step: int) -> float:
        if step < num_warmup:
            return (step + 1) / num_warmup
        progress = min(1.0, (step - num_warmup) / max(1, num_steps - num_warmup))
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
