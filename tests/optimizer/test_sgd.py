from __future__ import annotations

import pytest
import torch
from torch import nn

from hybridnet.optimizer.sgd import sgd


class _Scalar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Parameter(torch.full((1, 1), 2.0))
        self.weight = nn.Parameter(torch.full((1, 1), 2.0))

    def pretrained_parameter_names(self) -> set[str]:
        return {"backbone"}


def test_two_steps_by_hand() -> None:
    """Nesterov momentum 0.5, gradient 1: the first step moves by lr·1.5, the second by lr·1.75; decay adds 0.1·w."""
    model = _Scalar()
    optimizer = sgd(model, base_lr=0.01, head_lr=0.1, weight_decay=0.0, momentum=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (model.backbone.sum() + model.weight.sum()).backward()
        optimizer.step()
    assert model.backbone.item() == pytest.approx(2 - 0.01 * (1.5 + 1.75), abs=1e-6)
    assert model.weight.item() == pytest.approx(2 - 0.1 * (1.5 + 1.75), abs=1e-6)


def test_without_momentum_and_with_decay() -> None:
    model = _Scalar()
    optimizer = sgd(model, base_lr=0.01, head_lr=0.1, weight_decay=0.1, momentum=0.0)
    (model.backbone.sum() + model.weight.sum()).backward()
    optimizer.step()
    assert model.weight.item() == pytest.approx(2 - 0.1 * (1 + 0.1 * 2), abs=1e-6)


def test_weights_that_are_trained_later_begin_without_momentum() -> None:
    model = nn.Linear(2, 2, bias=False)
    model.late = nn.Parameter(torch.full((1, 1), 2.0), requires_grad=False)
    model.pretrained_parameter_names = lambda: {"weight", "late"}
    optimizer = sgd(model, base_lr=0.01, head_lr=0.1, weight_decay=0.0, momentum=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (model.weight.sum() + model.late.sum()).backward()
        optimizer.step()
        model.late.requires_grad_(True)
    assert model.late.item() == pytest.approx(2 - 0.01 * 1.5, abs=1e-6)


def test_wrong_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum: must be >= 0 and < 1, got 1.0"):
        sgd(_Scalar(), base_lr=0.01, head_lr=0.1, weight_decay=0.0, momentum=1.0)
