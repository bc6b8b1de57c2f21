from __future__ import annotations

import pytest
import torch

from hybridnet import config, experiment
from hybridnet.errors import InputError
from hybridnet.sweep.trial import signature, try_model
from tests.own_parts import Small

BASE = ["model=hybrid", "model.size=lite", "data.image_size=64", "data.batch_size=3"]


def _signature(*overrides: str) -> str:
    cfg = config.compose("train", [*BASE, *overrides])
    return signature(experiment.check(cfg), cfg)


@pytest.mark.parametrize(
    ("override", "is_distinct"),
    [
        ("model.dropout=0.3", False),
        ("seed=7", False),
        ("optimizer.base_lr=1e-5", False),
        ("trainer.epochs=3", False),
        ("model.heads=8", True),
        ("model.reduction=8", True),
        ("model/backbone=resnet34", True),
        ("model=ca", True),
        ("data.batch_size=4", True),
        ("data.image_size=[64,96]", True),
        ("trainer.precision=float32", True),
        ("optimizer=sgd", True),
    ],
)
def test_models_are_distinct_if_their_steps_are(override: str, is_distinct: bool) -> None:
    overrides = [override]
    if override == "model=ca":
        cfg = config.compose("train", ["model=ca", *BASE[2:]])
        assert signature(experiment.check(cfg), cfg) != _signature()
        return
    assert (_signature(*overrides) != _signature()) is is_distinct


def test_a_model_that_trains_leaves_nothing() -> None:
    try_model(config.compose("train", BASE))


def test_on_a_cpu_a_huge_batch_is_not_tried_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    monkeypatch.setattr("hybridnet.sweep.trial.rehearsal", lambda *_, shape, **__: lambda: shapes.append(shape))
    try_model(config.compose("train", [*BASE, "trainer.device=cpu", "data.image_size=[32,48]"]))
    try_model(config.compose("train", [*BASE[:3], "trainer.device=cpu", "data.batch_size=100000"]))
    assert shapes == [(3, 3, 32, 48), (256, 3, 64, 64)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (IndexError("too\nfar"), "error: model that does not train in a batch of random pictures: IndexError: too\n"),
        (torch.OutOfMemoryError("full"), r"error: out of memory in cpu: a batch of 3 pictures of 64×64 does not fit"),
    ],
)
def test_one_that_does_not_is_wrong_input(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def fail(self: Small) -> None:
        raise error

    monkeypatch.setattr(Small, "before_step", fail)
    cfg = config.compose("train", ["model=plain", "extra_targets=[tests.]", *BASE[2:], "trainer.device=cpu"])
    cfg.model.backbone._target_ = "tests.own_parts.Small"
    with pytest.raises(InputError, match=said):
        try_model(cfg)
