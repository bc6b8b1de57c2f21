"""ECA against an explicit loop over neighbouring channels, and its two placements."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridnet import create_model
from hybridnet.model.backbone.resnet import BasicBlock
from hybridnet.model.eca import ECA, ECAClassifier


def layer_of(channels: int = 24, *, identity_init: bool = True) -> ECA:
    return ECA(channels, identity_init=identity_init).double().eval()


def classifier(*overrides: str) -> ECAClassifier:
    model = create_model("eca", num_classes=4, overrides=overrides)
    assert isinstance(model, ECAClassifier)
    return model


def reference(layer: ECA, x: np.ndarray, kernel_size: int, gain: float) -> np.ndarray:
    weight = layer.conv.weight.detach().flatten().tolist()
    batch, channels, height, width = x.shape
    y = np.empty_like(x)
    for b, c in np.ndindex(batch, channels):
        logit = 0.0
        for tap in range(kernel_size):
            neighbour = c + tap - kernel_size // 2
            if 0 <= neighbour < channels:
                logit += weight[tap] * sum(x[b, neighbour].flat) / (height * width)
        y[b, c] = x[b, c] * gain / (1 + exp(-logit))
    return y


# 24: t = int(5.58 / 2) = 2, even; 64: t = int(7 / 2) = 3, odd.
@pytest.mark.parametrize(("channels", "kernel_size"), [(24, 3), (64, 3), (128, 5)])
@pytest.mark.parametrize(("identity_init", "gain"), [(True, 2.0), (False, 1.0)])
def test_equals_the_loops(
    channels: int,
    kernel_size: int,
    identity_init: bool,
    gain: float,
    randomise: Callable[..., nn.Module],
    random_map: Callable[..., Tensor],
) -> None:
    layer = randomise(layer_of(channels, identity_init=identity_init), seed=0)
    x = random_map(2, channels, 5, 7) + 1  # means away from 0, or all gates were alike
    expected = torch.from_numpy(reference(layer, x.numpy(), kernel_size, gain))
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("identity_init", "gain"), [(True, 2.0), (False, 1.0)])
def test_value_by_hand(identity_init: bool, gain: float) -> None:
    layer = layer_of(4, identity_init=identity_init)  # t = int(3 / 2) = 1 = k
    assert layer.conv.weight.shape == (1, 1, 1)
    with torch.no_grad():
        layer.conv.weight.fill_(2)
    x = torch.tensor([0.0, 4.0, 0.0, 1.0]).reshape(1, 1, 2, 2).expand(1, 4, 2, 2).double() * log(3) / 2.5
    # The mean is ln 3 / 2, the gate g·σ(ln 3) = g·3/4.
    torch.testing.assert_close(layer(x), x * gain * 0.75, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("channels", "kernel_size"), [(1, 1), (16, 3), (24, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_kernel_size(channels: int, kernel_size: int) -> None:
    assert layer_of(channels).conv.weight.shape == (1, 1, kernel_size)
    assert layer_of(channels).conv.bias is None


def test_starts_as_the_identity(random_map: Callable[..., Tensor]) -> None:
    x = random_map().float()
    assert torch.equal(layer_of().float()(x), x)


def test_the_papers_init_is_not_the_identity(random_map: Callable[..., Tensor]) -> None:
    layer = layer_of(identity_init=False)
    assert layer.conv.weight.any()
    x = random_map()
    assert (layer(x).abs() < x.abs()).all()


def test_gradient_from_the_first_step(random_map: Callable[..., Tensor], assert_gradients: Callable[..., None]) -> None:
    layer = layer_of().train()
    (layer(random_map()) * random_map(seed=2)).sum().backward()
    assert_gradients(layer)
    assert layer.conv.weight.grad.all()


def test_items_are_independent(
    randomise: Callable[..., nn.Module],
    random_map: Callable[..., Tensor],
    assert_items_independent: Callable[[nn.Module, Tensor], None],
) -> None:
    assert_items_independent(randomise(layer_of(), seed=0), random_map())


def test_residual_placement_gives_every_block_its_own_layer() -> None:
    model = classifier()
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock)]
    layers = {block.attention for block in blocks}
    assert len(blocks) == len(layers) == 8
    assert all(isinstance(layer, ECA) for layer in layers)
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == 36
    assert isinstance(model.eca, nn.Identity)
    pretrained = model.pretrained_parameter_names()
    new = {name for name, _ in model.named_parameters() if name not in pretrained}
    assert len(new) == 8 + 2 and {"fc.weight", "fc.bias", "backbone.layer1.0.attention.conv.weight"} <= new


def test_top_placement_gates_the_pooled_vector(randomise: Callable[..., nn.Module]) -> None:
    model = randomise(classifier("model.placement=top", "model.stem=small"), seed=0).eval()
    assert sum(isinstance(module, ECA) for module in model.modules()) == 1
    assert "eca.conv.weight" not in model.pretrained_parameter_names()
    images = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    pooled = model.backbone(images).mean(dim=(2, 3))  # (B, C)
    gate = layer_gate(model.eca, pooled)
    torch.testing.assert_close(model(images), model.fc(pooled * gate))


def layer_gate(layer: ECA, pooled: Tensor) -> Tensor:
    return layer.gain * torch.sigmoid(layer.conv(pooled.unsqueeze(1)).squeeze(1))


def test_refuses_wrong_settings() -> None:
    with pytest.raises(ValueError, match=r"channels: must be >= 1, got 0"):
        layer_of(0)
    with pytest.raises(ValueError, match=r"expected residual or top, got 'bottom'"):
        ECAClassifier(None, 4, eca=ECA, placement="bottom", dropout=0.1)
