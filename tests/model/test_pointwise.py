"""The 1×1 convolution as a product against a loop over pixels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hybridnet.model.pointwise import PointwiseConv2d


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_the_loops(
    bias: bool, memory_format: torch.memory_format, random_map: Callable[..., Tensor], conv1x1: Callable
) -> None:
    layer, x = PointwiseConv2d(24, 11, bias=bias).double(), random_map()
    expected = torch.from_numpy(conv1x1(x.numpy(), layer))
    torch.testing.assert_close(layer(x.contiguous(memory_format=memory_format)), expected, rtol=1e-9, atol=1e-9)


def test_starts_as_the_convolution_and_takes_its_weights() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(24, 11, 1)
    torch.manual_seed(0)
    layer = PointwiseConv2d(24, 11, bias=True)
    state = layer.state_dict()
    assert list(state) == ["weight", "bias"]
    assert all(torch.equal(state[name], value) for name, value in convolution.state_dict().items())


def test_keeps_channels_last_without_a_copy(random_map: Callable[..., Tensor]) -> None:
    x = random_map().contiguous(memory_format=torch.channels_last)
    layer = PointwiseConv2d(24, 11, bias=False).double()
    with torch.profiler.profile(acc_events=True) as profile:  # without it some versions warn
        y = layer(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not {"aten::copy_", "aten::clone"} & {event.key for event in profile.key_averages()}


def test_gradients(random_map: Callable[..., Tensor], assert_gradients: Callable[..., None]) -> None:
    layer, x = PointwiseConv2d(24, 11, bias=True).double(), random_map().requires_grad_()
    (layer(x) * random_map(2, 11, 5, 7, seed=2)).sum().backward()
    assert_gradients(layer)
    assert x.grad.all()
