"""What the model tests share: random weights, naive float64 building blocks, and the models that conf/ offers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridnet.model.backbone import Backbone

CONF = Path(__file__).parents[2] / "conf" / "model"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `model_name` runs for every model, also for one that is added later."""
    if "model_name" in metafunc.fixturenames:
        names = sorted(path.stem for path in CONF.glob("*.yaml"))
        assert "plain" in names and "hybrid" in names
        metafunc.parametrize("model_name", names, scope="module")


@pytest.fixture(scope="session")
def randomise() -> Callable[..., nn.Module]:
    return _randomise


@pytest.fixture(scope="session")
def random_map() -> Callable[..., Tensor]:
    """Feature maps whose sizes all differ, so that no two axes can be exchanged unnoticed."""

    def make(*shape: int, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*(shape or (2, 24, 5, 7)), generator=generator, dtype=torch.float64)

    return make


@pytest.fixture
def tiny_backbone() -> Backbone:
    return TinyBackbone().eval()


@pytest.fixture(scope="session")
def conv1x1() -> Callable[[np.ndarray, nn.Conv2d], np.ndarray]:
    return _conv1x1


@pytest.fixture(scope="session")
def batch_norm() -> Callable[[np.ndarray, nn.BatchNorm2d], np.ndarray]:
    return _batch_norm


@pytest.fixture(scope="session")
def assert_gradients() -> Callable[..., None]:
    return _assert_gradients


@pytest.fixture(scope="session")
def assert_items_independent() -> Callable[[nn.Module, Tensor], None]:
    return _assert_items_independent


class TinyBackbone(Backbone):
    """Four 1×1 convolutions of different widths, each with a ReLU: what a classifier needs, in a millisecond."""

    channels = (8, 12, 16, 20)

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *self.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs[i], inputs[i + 1], 1), nn.ReLU()) for i in range(len(self.channels))
        )

    def forward(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        for stage in self.stages[start:stop]:
            x = stage(x)
        return x

    def pretrained_parameter_names(self) -> set[str]:
        return {name for name, _ in self.named_parameters()}


def _randomise(module: nn.Module, *, seed: int) -> nn.Module:
    """Random values of order 1 everywhere: an identity, or a layer that ignores a tensor, would pass any comparison."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter.numel() / len(parameter) if parameter.ndim else 1
            parameter.normal_(generator=generator).mul_(fan_in**-0.5)
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.running_mean.normal_(generator=generator)
                norm.running_var.uniform_(0.5, 1.5, generator=generator)
    return module


def _conv1x1(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    weight = conv.weight.detach().double().numpy()[:, :, 0, 0]
    bias = 0 if conv.bias is None else conv.bias.detach().double().numpy()
    batch, _, height, width = x.shape
    out = np.empty((batch, len(weight), height, width))
    for b, i, j in np.ndindex(batch, height, width):
        out[b, :, i, j] = weight @ x[b, :, i, j] + bias
    return out


def _batch_norm(x: np.ndarray, norm: nn.BatchNorm2d) -> np.ndarray:
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        mean, var = norm.running_mean[c].item(), norm.running_var[c].item()
        if norm.training:
            mean = sum(x[:, c].flat) / x[:, c].size
            var = sum((value - mean) ** 2 for value in x[:, c].flat) / x[:, c].size
        out[:, c] = (x[:, c] - mean) / (var + norm.eps) ** 0.5 * norm.weight[c].item() + norm.bias[c].item()
    return out


def _assert_gradients(module: nn.Module, *, but: tuple[str, ...] = ()) -> None:
    """Every parameter has a finite gradient that is not zero; those whose name ends like `but` are not asked."""
    asked = {name: p.grad for name, p in module.named_parameters() if not name.endswith(but)}
    assert asked
    missing = [name for name, grad in asked.items() if grad is None or not grad.any()]
    assert not missing, missing
    assert all(grad.isfinite().all() for grad in asked.values())


def _assert_items_independent(module: nn.Module, x: Tensor) -> None:
    """In eval mode an item's result depends neither on its neighbours nor on its place in the batch."""
    assert len(x) > 1
    module.eval()
    together = module(x)
    for item in range(len(x)):
        torch.testing.assert_close(module(x[item : item + 1]), together[item : item + 1])
    torch.testing.assert_close(module(x.flip(0)), together.flip(0))
