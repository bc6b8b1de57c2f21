from __future__ import annotations

import pytest
import torch
from torch import nn

from hybridnet.scheduler.constant import constant


@pytest.mark.parametrize(("warmup_fraction", "expected"), [(0.0, [1, 1, 1, 1, 1]), (0.6, [1 / 3, 2 / 3, 1, 1, 1])])
def test_rates_by_hand(warmup_fraction: float, expected: list[float]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = constant(optimizer, 5, warmup_fraction=warmup_fraction)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(expected)
