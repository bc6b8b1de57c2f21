"""What the tests of exported files share: small trained models of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridnet import config, experiment
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.inference.trained import TrainedModel
from hybridnet.model.backbone.resnet import BasicBlock, ResNet
from tests.conftest import ROOT

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
VARIANTS = [
    *((name, ()) for name in MODELS),
    *((name, (f"model.size={size}",)) for name, size in (("bot", "full"), ("botlinear", "full"), ("hybrid", "lite"))),
    *(("botlinear", (f"model.feature_map={name}",)) for name in ("relu", "softmax", "inline")),
    ("hybrid", ("model.stage=1", "model.size=lite")),
]

ABOUT = {"classes": ["a", "ö"], "center_crop": 0.9}


def variants(*fast: str) -> list[Any]:
    """Every model in every form, as parameters of a test; those that are not named are slow: torch takes seconds."""
    found = []
    for name, overrides in VARIANTS:
        identity = "-".join((name, *(word.partition("=")[2] for word in overrides)))
        found.append(pytest.param(name, overrides, id=identity, marks=() if identity in fast else pytest.mark.slow))
    assert {"plain", "eca", "ca", "bot", "botlinear", "hybrid"} <= {param.id for param in found}
    assert set(fast) <= {param.id for param in found}
    return found


class Narrow(ResNet):
    """A ResNet of two narrow stages, 4 times smaller at its end: traced in a tenth of the time."""

    def __init__(self, **_: Any) -> None:
        nn.Module.__init__(self)
        self.channels = (16, 32)
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2 = BasicBlock(16, 16, stride=1), BasicBlock(16, 32, stride=2)

    def forward(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        x = self.bn1(self.conv1(x)).relu() if start == 0 else x
        for layer in (self.layer1, self.layer2)[start:stop]:
            x = layer(x)
        return x


def trained(name: str, overrides: tuple[str, ...] = ()) -> TrainedModel:
    """A model with random values everywhere: what begins as the identity would agree with anything."""
    stage = [] if name in ("plain", "eca") else ["model.stage=2"]
    cfg = config.compose("train", [f"model={name}", "extra_targets=[tests.]", *stage, *overrides])
    cfg = config.with_values(cfg, {"model.backbone._target_": f"{__name__}.Narrow"})
    network = experiment.build_model(cfg, num_classes=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_().mul_((parameter.numel() / len(parameter) if parameter.ndim else 1) ** -0.5)
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 1.5)
    preprocessing = Preprocessing(image_size=(24, 40), center_crop=0.9, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    return TrainedModel(
        network, model_config=config.plain(cfg.model), classes=["a", "ö", "c"], preprocessing=preprocessing
    ).eval()


def assert_same(program: Callable[[Tensor], Tensor], model: TrainedModel, *, smallest: tuple[int, int]) -> None:
    """In batches and sizes that are no example's, the smallest one among them."""
    for shape in ((1, 3, 24, 40), (3, 3, 37, 21), (2, 3, *smallest)):
        images = torch.randn(shape)
        with torch.no_grad():
            expected = model(images)
        torch.testing.assert_close(program(images), expected, rtol=1e-4, atol=1e-4)
        assert expected.std() > 0.1
