from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hybridnet.scheduler.cosine import cosine


def _rates(num_steps: int, **settings: float) -> list[list[float]]:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 1.0)]
    optimizer = torch.optim.SGD(groups)
    scheduler = cosine(optimizer, num_steps, **settings)
    rates = []
    for _ in range(num_steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


def test_rates_by_hand() -> None:
    """Two steps of warm-up, then half a cosine over the other eight down to a tenth."""
    head = [rate for _, rate in _rates(10, warmup_fraction=0.2, final_fraction=0.1)]
    expected = [0.5, 1.0] + [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    assert head == pytest.approx(expected)


def test_all_groups_are_scaled_alike() -> None:
    for base, head in _rates(7, warmup_fraction=0.3, final_fraction=0.0):
        assert base == pytest.approx(head / 10)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_short_trainings_have_a_positive_rate_at_every_step(num_steps: int) -> None:
    assert all(head > 0 for _, head in _rates(num_steps, warmup_fraction=0.05, final_fraction=0.0))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="warmup_fraction: must be >= 0 and < 1, got 1.0"):
        _rates(3, warmup_fraction=1.0, final_fraction=0.0)
