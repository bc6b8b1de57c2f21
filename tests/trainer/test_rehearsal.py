from __future__ import annotations

import pytest
import torch
from torch import nn

from hybridnet import config
from hybridnet.errors import TrainingError
from hybridnet.trainer.rehearsal import rehearsal
from hybridnet.trainer.supervised import Trainer

SHAPE = (6, 3, 5, 7)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach())
        if self.fc.weight.shape[0] != 4:
            raise torch.OutOfMemoryError("no more")
        return self.fc(x.float().mean((2, 3)))

    def first_stages(self, num: int) -> list[nn.Module]:
        return []


def _trainer() -> Trainer:
    return config.build(config.compose("train", ["trainer.device=cpu", "trainer.precision=float32"]).trainer)


def _rehearsal(model: nn.Module) -> object:
    optimizer = torch.optim.SGD([{"params": model.parameters(), "name": "head"}], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    return rehearsal(_trainer(), model, optimizer=optimizer, scheduler=scheduler, shape=SHAPE, num_classes=4)


def test_each_call_updates_the_weights_on_the_same_batch() -> None:
    model = Network()
    rehearse = _rehearsal(model)
    before = model.fc.weight.detach().clone()
    rehearse()
    once = model.fc.weight.detach().clone()
    rehearse()
    assert not torch.equal(before, once) and not torch.equal(once, model.fc.weight)
    assert [tuple(x.shape) for x in model.seen] == [SHAPE, SHAPE] and torch.equal(*model.seen)


def test_a_batch_that_does_not_fit_is_explained() -> None:
    model = Network()
    model.fc = nn.Linear(3, 5)
    with pytest.raises(TrainingError, match="error: out of memory in cpu: a batch of 6 pictures of 5×7 does not fit"):
        _rehearsal(model)()
