"""Convolution by Winograd's transforms: against PyTorch's, on maps that do not consist of whole tiles too."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hybridnet import processor
from hybridnet.model import winograd as module
from hybridnet.model.backbone.resnet import Conv
from hybridnet.model.winograd import is_faster, winograd


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever these tests run on."""
    monkeypatch.setattr(processor, "has_avx512", lambda: True)
    monkeypatch.setattr(processor, "halves_products", lambda: False)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (4, 4), (4, 8), (5, 7), (6, 3), (11, 14)], ids=str)
def test_equals_the_convolution(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    x = random(2, 5, *size).contiguous(memory_format=memory_format).requires_grad_()
    weight = random(7, 5, 3, 3, seed=1).contiguous(memory_format=memory_format).requires_grad_()
    y, expected = winograd(x, weight), F.conv2d(x, weight, padding=1)
    torch.testing.assert_close(y, expected, check_stride=False)
    grad = random(*expected.shape, seed=2)
    gradients, wanted = torch.autograd.grad(y, (x, weight), grad), torch.autograd.grad(expected, (x, weight), grad)
    torch.testing.assert_close(gradients, wanted, check_stride=False)
    for made in (y, *gradients):
        assert made.is_contiguous(memory_format=torch.channels_last)


def test_a_map_and_a_kernel_by_hand() -> None:
    """Two tiles, the second of which is mostly outside; every output sees another part of the kernel."""
    x = torch.tensor([[[[1.0, 0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 3.0, 0.0, 0.0]]]], dtype=torch.double)
    weight = torch.arange(9.0, dtype=torch.double).view(1, 1, 3, 3)
    upper = [4 * 1, 3 * 1 + 8 * 3, 7 * 3, 5 * 2 + 6 * 3, 4 * 2]
    lower = [1 * 1, 0 * 1 + 5 * 3, 4 * 3, 2 * 2 + 3 * 3, 1 * 2]
    expected = torch.tensor([[[upper, lower]]], dtype=torch.double)
    torch.testing.assert_close(winograd(x, weight), expected)


@pytest.mark.parametrize("needed", [(True, False), (False, True)], ids=["of the map", "of the weights"])
def test_one_gradient_alone(needed: tuple[bool, bool]) -> None:
    """After frozen stages, and in frozen ones whose input is asked about: half the products."""
    x, weight = random(2, 5, 6, 7).requires_grad_(needed[0]), random(7, 5, 3, 3).requires_grad_(needed[1])
    wanted = x if needed[0] else weight
    (expected,) = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), wanted)
    loss = winograd(x, weight).square().sum()
    with torch.profiler.profile(acc_events=True) as profile:
        (gradient,) = torch.autograd.grad(loss, wanted)
    torch.testing.assert_close(gradient, expected, check_stride=False)
    assert sum(event.count for event in profile.key_averages() if event.key == "aten::bmm") == 1


def test_what_only_the_weights_need_is_not_kept_for_a_frozen_layer() -> None:
    weight = last(random(8, 8, 3, 3))
    saved = []
    for frozen in (True, False):
        y = winograd(random(2, 8, 8, 8).requires_grad_(), weight.requires_grad_(not frozen))
        saved.append([None if tensor is None else tensor.shape for tensor in y.grad_fn.saved_tensors])
    assert saved == [[None, weight.shape], [(36, 8, 8), weight.shape]]


def test_float32_stays_precise() -> None:
    """Of a layer of ResNet-18: the map and both gradients are off by less than 1e-5 of their size."""
    x, weight = last(random(8, 128, 14, 14).relu()), last(random(128, 128, 3, 3, seed=1) / 34)
    grad = last(random(8, 128, 14, 14, seed=2))

    def results(dtype: torch.dtype, ours: bool) -> list[Tensor]:
        inputs = [tensor.to(dtype).requires_grad_() for tensor in (x, weight)]
        y = winograd(*inputs) if ours else F.conv2d(*inputs, padding=1)
        return [made.double() for made in (y, *torch.autograd.grad(y, inputs, grad.to(dtype)))]

    for our, true in zip(results(torch.float32, ours=True), results(torch.double, ours=False), strict=True):
        assert 0 < (our - true).norm() < 1e-5 * true.norm()


@pytest.mark.parametrize(
    ("images", "channels", "size", "expected"),
    [
        (32, 512, (7, 7), True),
        (32, 256, (14, 14), True),
        (32, 128, (28, 28), True),
        (8, 128, (28, 28), True),
        (32, 64, (56, 56), False),  # the transforms cost what the products save
        (8, 512, (7, 7), False),  # so do those of the weights
        (1, 256, (14, 14), False),
        (64, 512, (5, 5), False),  # the tiles are mostly outside
        (64, 256, (9, 9), False),
        (48, 512, (6, 6), True),
        (64, 512, (8, 8), True),
        (64, 512, (4, 16), True),
    ],
)
def test_when_it_is_faster(images: int, channels: int, size: tuple[int, int], expected: bool) -> None:
    weight = last(torch.zeros(channels, channels, 3, 3))
    assert is_faster(torch.zeros(images, channels, *size), weight, stride=1) is expected


def test_both_numbers_of_channels_count() -> None:
    weight = last(torch.zeros(64, 512, 3, 3))
    assert not is_faster(torch.zeros(32, 512, 14, 14), weight, stride=1)
    assert is_faster(torch.zeros(32, 64, 28, 28), last(weight.transpose(0, 1)), stride=1)


def test_products_that_are_slower_are_worth_more(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.zeros(32, 64, 28, 28), last(torch.zeros(64, 64, 3, 3))
    assert not is_faster(x, weight, stride=1)
    monkeypatch.setattr(processor, "has_avx512", lambda: False)
    assert is_faster(x, weight, stride=1)


def test_not_where_products_have_half_the_speed_of_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.zeros(64, 512, 8, 8), last(torch.zeros(512, 512, 3, 3))
    assert is_faster(x, weight, stride=1)
    monkeypatch.setattr(processor, "halves_products", lambda: True)
    assert not is_faster(x, weight, stride=1)


def test_where_it_cannot_take_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.zeros(32, 128, 28, 28), last(torch.zeros(128, 128, 3, 3))
    assert is_faster(x, weight, stride=1)
    assert not is_faster(x, weight, stride=2)
    assert not is_faster(x, weight[..., 1:2, 1:2], stride=1)
    assert not is_faster(x, last(torch.zeros(128, 128, 5, 5)), stride=1)
    assert not is_faster(x, weight.contiguous(), stride=1)
    assert not is_faster(x.to("meta"), weight, stride=1)
    assert not is_faster(x[:0], weight, stride=1)
    assert not is_faster(x[0], weight, stride=1)
    assert not is_faster(x.double(), weight.double(), stride=1)
    assert not is_faster(x.bfloat16(), weight.bfloat16(), stride=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_faster(x, weight, stride=1)
    assert torch.func.vmap(lambda x: x.new_tensor(is_faster(x, weight, stride=1)))(x[None]).item() == 0
    monkeypatch.setattr(module.torch.compiler, "is_compiling", lambda: True)  # a graph must hold for every size
    assert not is_faster(x, weight, stride=1)


def test_the_transforms_are_there_where_a_model_without_memory_was_built_first() -> None:
    """The module is imported by the first model that is built."""
    with torch.device("meta"):
        again = importlib.reload(module)
    assert {matrix.device.type for matrix in (again.INPUT, again.KERNEL, again.OUTPUT)} == {"cpu"}


def test_a_layer_of_the_network_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Conv(128, 128, 3).to(memory_format=torch.channels_last)
    x = last(random(4, 128, 16, 16, dtype=torch.float32))
    taken = []
    monkeypatch.setattr(module, "winograd", lambda *args: taken.append(args) or winograd(*args))
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, padding=1), rtol=1e-4, atol=1e-4)
    assert len(taken) == 1
