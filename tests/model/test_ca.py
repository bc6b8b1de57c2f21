"""CoordinateAttention against explicit loops over rows, columns and channels."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridnet.model.ca import CoordinateAttention


def layer_of(*, channels: int = 24, reduction: int = 2, identity_init: bool = True) -> CoordinateAttention:
    return CoordinateAttention(channels, reduction=reduction, identity_init=identity_init).double().eval()


def reference(layer: CoordinateAttention, x: np.ndarray, gain: float, conv1x1: Callable, norm: Callable) -> np.ndarray:
    batch, channels, height, width = x.shape
    strips = np.empty((batch, channels, height + width, 1))
    for b, c in np.ndindex(batch, channels):
        for i in range(height):
            strips[b, c, i, 0] = sum(x[b, c, i, j] for j in range(width)) / width
        for j in range(width):
            strips[b, c, height + j, 0] = sum(x[b, c, i, j] for i in range(height)) / height
    f = norm(conv1x1(strips, layer.conv1), layer.bn1)
    f = f * np.clip(f + 3, 0, 6) / 6
    rows = conv1x1(f[:, :, :height], layer.conv_h)
    columns = conv1x1(f[:, :, height:], layer.conv_w)
    y = np.empty_like(x)
    for b, c, i, j in np.ndindex(*x.shape):
        row_gate = gain / (1 + exp(-rows[b, c, i, 0]))
        column_gate = gain / (1 + exp(-columns[b, c, j, 0]))
        y[b, c, i, j] = x[b, c, i, j] * row_gate * column_gate
    return y


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("identity_init", "gain"), [(True, 2.0), (False, 1.0)])
def test_equals_the_loops(
    training: bool,
    identity_init: bool,
    gain: float,
    randomise: Callable[..., nn.Module],
    random_map: Callable[..., Tensor],
    conv1x1: Callable,
    batch_norm: Callable,
) -> None:
    layer = randomise(layer_of(identity_init=identity_init), seed=0).train(training)
    x = random_map()
    expected = reference(layer, x.numpy(), gain, conv1x1, batch_norm)  # first: the layer moves its running statistics
    torch.testing.assert_close(layer(x), torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("identity_init", "expected"), [(True, 4.5), (False, 1.125)])
def test_value_by_hand(identity_init: bool, expected: float) -> None:
    layer = layer_of(channels=1, identity_init=identity_init)
    with torch.no_grad():
        layer.bn1.running_var.fill_(1 - layer.bn1.eps)
        layer.conv1.weight.fill_(1)
        for conv, bias in ((layer.conv_h, log(3) - 6), (layer.conv_w, -3)):
            conv.weight.fill_(1 / 8)  # the mean of 8 equal hidden channels
            conv.bias.fill_(bias)
    # The row's mean is 6, the first column's 3, and hardswish leaves both as they are.
    # Row gate σ(6 + ln 3 - 6) = 3/4, column gate σ(3 - 3) = 1/2: 3 · g·3/4 · g·1/2.
    y = layer(torch.tensor([[[[3.0, 9.0]]]], dtype=torch.float64))
    assert y[0, 0, 0, 0].item() == pytest.approx(expected, rel=1e-12)


def test_starts_as_the_identity(random_map: Callable[..., Tensor]) -> None:
    x = random_map().float()
    assert torch.equal(layer_of().float()(x), x)


def test_the_papers_init_is_not_the_identity(random_map: Callable[..., Tensor]) -> None:
    layer = layer_of(identity_init=False)
    assert all(parameter.any() for parameter in (*layer.conv_h.parameters(), *layer.conv_w.parameters()))
    x = random_map()
    assert (layer(x).abs() < x.abs()).all()  # two sigmoids, both below 1


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(24, 2, 12), (24, 1, 24), (30, 4, 8), (512, 32, 16)])
def test_hidden_width(channels: int, reduction: int, hidden: int) -> None:
    layer = layer_of(channels=channels, reduction=reduction)
    assert layer.conv1.weight.shape == (hidden, channels, 1, 1)
    assert layer.conv_h.weight.shape == layer.conv_w.weight.shape == (channels, hidden, 1, 1)


def test_number_of_parameters() -> None:
    assert sum(p.numel() for p in layer_of(channels=512, reduction=32).parameters()) == 25_632


def test_gradient_to_every_parameter(
    randomise: Callable[..., nn.Module], random_map: Callable[..., Tensor], assert_gradients: Callable[..., None]
) -> None:
    layer = randomise(layer_of(), seed=0).train()
    (layer(random_map()) * random_map(seed=2)).sum().backward()
    assert_gradients(layer)


def test_the_zero_convolutions_learn_from_the_first_step(random_map: Callable[..., Tensor]) -> None:
    layer = layer_of().train()
    (layer(random_map()) * random_map(seed=2)).sum().backward()
    for conv in (layer.conv_h, layer.conv_w):
        assert conv.weight.grad.any() and conv.bias.grad.any()


@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_items_are_independent(
    size: tuple[int, int],
    randomise: Callable[..., nn.Module],
    random_map: Callable[..., Tensor],
    assert_items_independent: Callable[[nn.Module, Tensor], None],
) -> None:
    assert_items_independent(randomise(layer_of(), seed=0), random_map(2, 24, *size))


def test_refuses_a_reduction_below_one() -> None:
    with pytest.raises(ValueError, match=r"reduction: must be >= 1, got 0"):
        layer_of(reduction=0)
