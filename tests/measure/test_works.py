"""What is compared: the project's models with their known sizes, the trainer's step, and the evaluation's answers."""

from __future__ import annotations

import pytest
import torch

import hybridnet
from hybridnet import config
from hybridnet.errors import InputError
from hybridnet.measure.works import SIZED, Case, count_macs, count_parameters, make_work
from hybridnet.trainer.supervised import Trainer


@pytest.fixture
def trainer() -> Trainer:
    cfg = config.compose("train", ["trainer.device=cpu", "trainer.precision=float32"])
    return config.build(cfg.trainer)


def test_plain_has_the_known_size() -> None:
    """1.82 G multiplications with 1000 classes are in every table of ResNets."""
    case = Case("plain", None, 224)
    assert count_parameters(case, num_classes=1000) == 11_689_512
    assert count_macs(case, num_classes=1000) == pytest.approx(1.82e9, rel=0.005)


def test_overrides_reach_the_model() -> None:
    case = Case("hybrid", "full", 64, stage=3, overrides=("model.heads=8",))
    overrides = ["model.size=full", "model.stage=3", "model.heads=8"]
    model = hybridnet.create_model("hybrid", num_classes=3, overrides=overrides)
    assert count_parameters(case, num_classes=3) == sum(p.numel() for p in model.parameters())
    assert case.name == "hybrid full after layer 3"


def test_models_with_two_sizes_are_known() -> None:
    for model in ("plain", "eca", "ca", "bot", "botlinear", "hybrid"):
        has_size = "size" in config.compose("train", [f"model={model}"]).model
        assert (model in SIZED) == has_size


def test_nothing_is_zero_that_will_not_be_so_after_a_step() -> None:
    model = Case("hybrid", "lite", 64).blueprint(num_classes=3)
    assert all(parameter.detach().any() for parameter in model.parameters())


def test_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"did you mean model=hybrid\?"):
        Case("hybird", None, 64).configuration()


def test_training_updates_the_weights_and_inference_answers(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("plain", None, 64)
    models = []
    build = Case.build
    monkeypatch.setattr(Case, "build", lambda *a, **k: models.append(build(*a, **k)) or models[-1])
    work = make_work(case, "training", 2, trainer=trainer, num_classes=3)
    before = [parameter.detach().clone() for parameter in models[0].parameters()]
    loss, logits = work.call()
    assert loss.isfinite() and logits.shape == (2, 3) and models[0].training
    changed = [not torch.equal(old, new) for old, new in zip(before, models[0].parameters(), strict=True)]
    assert any(changed), "not all: the schedule begins with a very small rate"
    answers = make_work(case, "inference", 5, trainer=trainer, num_classes=3).call()
    assert answers.shape == (5, 3) and answers.is_inference() and not models[1].training
