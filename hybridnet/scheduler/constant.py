"""Linear warm-up, then a constant learning rate."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hybridnet.settings import Count, Rate, checked


@checked
def constant(optimizer: Optimizer, num_steps: Count, *, warmup_fraction: Rate) -> LambdaLR:
    """Scale every learning rate from near 0 up to 1, and keep it there.

    Args:
        optimizer: all its groups are scaled alike.
        num_steps: optimizer steps of the whole training.
        warmup_fraction: share of the steps in which the rate rises linearly.

    Raises:
        ValueError: if a setting is out of range.
    """
    num_warmup = round(warmup_fraction * num_steps)
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, num_warmup)))
