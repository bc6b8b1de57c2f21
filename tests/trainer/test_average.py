from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hybridnet.trainer.average import WeightAverage


class Scale(nn.Module):
    """One weight, and a mean and a counter as BatchNorm has them."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))
        self.register_buffer("running_mean", torch.tensor([-weight]))
        self.register_buffer("num_batches", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight

    def train_to(self, weight: float) -> None:
        self.weight.data.fill_(weight)
        self.running_mean.fill_(-weight)
        self.num_batches += 1


def test_the_first_steps_count_more() -> None:
    """By hand: d is 2/11, 3/12, 4/13 and then the decay; 4 + 2/11 · (1 - 4) = 38/11, …"""
    model = Scale(1.0)
    average = WeightAverage(model, decay=0.3)
    expected = [38 / 11, 0.25 * 38 / 11 - 0.75 * 2, 0.0, 0.0]
    expected[2] = 0.3 * expected[1] + 0.7 * 8
    expected[3] = 0.3 * expected[2] + 0.7 * 8
    for step, weight in enumerate([4.0, -2.0, 8.0, 8.0], start=1):
        model.train_to(weight)
        average.update(step)
        assert average.model.weight.item() == pytest.approx(expected[step - 1], rel=1e-6)
        assert average.model.running_mean.item() == -average.model.weight.item(), "statistics go with their weights"
        assert model.weight.item() == weight


def test_late_steps_have_the_decay() -> None:
    model = Scale(0.0)
    average = WeightAverage(model, decay=0.99)
    model.train_to(1.0)
    average.update(1000)
    assert average.model.weight.item() == pytest.approx(1 - 0.99, rel=1e-5)
    average.update(80)  # 81 / 90 = 0.9
    assert average.model.weight.item() == pytest.approx(0.9 * 0.01 + 0.1, rel=1e-5)


def test_counters_are_the_models() -> None:
    model = Scale(1.0)
    average = WeightAverage(model, decay=0.9)
    for step in (1, 2):
        model.train_to(5.0)
        average.update(step)
        assert average.model.num_batches == step
    model.num_batches.fill_(7)
    assert average.model.num_batches == 2


def test_it_computes_as_a_model_with_its_weights_does() -> None:
    """PyTorch multiplies by weights that need no gradient in another way, and rounds otherwise."""
    average = WeightAverage(Scale(1.0), decay=0.9)
    average.update(1)
    assert all(p.requires_grad for p in average.model.parameters())


def test_switched_off_it_is_the_model() -> None:
    model = Scale(1.0)
    average = WeightAverage(model, decay=0.0)
    assert average.model is model and average.state_dict() == {}
    average.update(1)
    average.load_state_dict(WeightAverage(Scale(3.0), decay=0.9).state_dict())  # of a run that had it on
    assert model.weight.item() == 1.0 and model.weight.requires_grad


def test_it_continues_where_it_was() -> None:
    model = Scale(1.0)
    average = WeightAverage(model, decay=0.9)
    model.train_to(3.0)
    average.update(1)
    saved = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    other_model = Scale(3.0)
    other = WeightAverage(other_model, decay=0.9)
    other.load_state_dict(saved)
    for one in (model, other_model):
        one.train_to(10.0)
    average.update(2)
    other.update(2)
    assert other.model.weight.item() == average.model.weight.item()
    assert other.model.num_batches == other_model.num_batches == 1


def test_switched_on_in_a_run_that_had_none_it_begins_with_the_weights_as_they_are() -> None:
    model = Scale(1.0)
    average = WeightAverage(model, decay=0.9)
    model.train_to(5.0)
    average.load_state_dict({})
    assert average.model.weight.item() == 5.0 and average.model.num_batches == 1
    assert average.model is not model
