"""Convolution as a sum of products: against PyTorch's, on maps that are smaller than the kernel too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hybridnet.model import kn2row as module
from hybridnet.model.kn2row import is_faster, kn2row


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (5, 4), (6, 7)], ids=str)
def test_equals_the_convolution(
    size: tuple[int, int], kernel: int, stride: int, memory_format: torch.memory_format
) -> None:
    x = random(2, 5, *size).contiguous(memory_format=memory_format).requires_grad_()
    weight = random(7, 5, kernel, kernel, seed=1).contiguous(memory_format=memory_format).requires_grad_()
    y, expected = kn2row(x, weight, stride=stride), F.conv2d(x, weight, stride=stride, padding=kernel // 2)
    torch.testing.assert_close(y, expected, check_stride=False)
    grad = random(*expected.shape, seed=2)
    gradients, wanted = torch.autograd.grad(y, (x, weight), grad), torch.autograd.grad(expected, (x, weight), grad)
    torch.testing.assert_close(gradients, wanted, check_stride=False)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert [gradient.stride() for gradient in gradients] == [x.stride(), weight.stride()]


def test_a_map_and_a_kernel_by_hand() -> None:
    """Every output sees the whole map, each input through another part of the kernel."""
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    weight = torch.arange(9.0).view(1, 1, 3, 3)
    expected = [[4 * 1 + 5 * 2 + 7 * 3 + 8 * 4, 3 * 1 + 4 * 2 + 6 * 3 + 7 * 4]]
    expected += [[1 * 1 + 2 * 2 + 4 * 3 + 5 * 4, 0 * 1 + 1 * 2 + 3 * 3 + 4 * 4]]
    assert kn2row(x, weight, stride=1).tolist() == [[expected]]


@pytest.mark.parametrize("needed", [(True, False), (False, True)], ids=["of the map", "of the weights"])
def test_one_gradient_alone(needed: tuple[bool, bool]) -> None:
    """After frozen stages, and in frozen ones whose input is asked about: half the products."""
    x, weight = random(2, 5, 2, 2).requires_grad_(needed[0]), random(7, 5, 3, 3).requires_grad_(needed[1])
    wanted = x if needed[0] else weight
    (expected,) = torch.autograd.grad(F.conv2d(x, weight, padding=1).sum(), wanted)
    y = kn2row(x, weight, stride=1)
    with torch.profiler.profile() as profile:
        (gradient,) = torch.autograd.grad(y.sum(), wanted)
    torch.testing.assert_close(gradient, expected, check_stride=False)
    assert sum(event.count for event in profile.key_averages() if event.key == "aten::mm") == 9


def test_sums_are_float32_in_bf16() -> None:
    """Nine sums rounded to bf16 would be about twice as far from the truth, in the map and in its gradient."""
    x, weight = last(random(8, 64, 4, 4)).bfloat16(), last(random(64, 64, 3, 3, seed=1)).bfloat16()
    grad = last(random(8, 64, 4, 4, seed=2)).bfloat16()

    def conv2d(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=1)

    def results(convolve: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        inputs = x.detach().to(dtype, copy=True).requires_grad_()
        y = convolve(inputs, weight.to(dtype))
        y.backward(grad.to(dtype))
        return y.double(), inputs.grad.double()

    truth = results(conv2d, torch.double)
    theirs, ours = (results(convolve, torch.bfloat16) for convolve in (conv2d, partial(kn2row, stride=1)))
    for true, their, our in zip(truth, theirs, ours, strict=True):
        assert 0 < (our - true).norm() < 1.6 * (their - true).norm()


def test_within_autocast_it_computes_as_the_convolution_does() -> None:
    x, weight = random(2, 5, 2, 2, dtype=torch.float32), random(7, 5, 3, 3, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = kn2row(x, weight, stride=1)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32
    assert kn2row(x, weight, stride=1).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "size", "channels", "stride", "expected"),
    [
        (2, (4, 4), 256, 1, True),
        (2, (2, 8), 256, 1, True),
        (2, (8, 7), 256, 2, True),
        (1, (4, 4), 256, 1, False),  # the weights are read once anyway
        (2, (4, 5), 256, 1, False),
        (2, (9, 7), 256, 2, False),
        (2, (4, 4), 240, 1, False),  # 240·240·9 numbers are not quite 2 MiB
    ],
)
def test_when_it_is_faster(images: int, size: tuple[int, int], channels: int, stride: int, expected: bool) -> None:
    x, weight = torch.zeros(images, channels, *size), last(torch.zeros(channels, channels, 3, 3))
    assert is_faster(x, weight, stride=stride) is expected


def test_where_it_is_not_faster() -> None:
    x, weight = torch.zeros(2, 256, 4, 4), last(torch.zeros(256, 256, 3, 3))
    assert not is_faster(x, weight.contiguous(), stride=1)
    assert not is_faster(x.to("meta"), weight, stride=1)
    assert not is_faster(x[:0], weight, stride=1)
    assert not is_faster(x[0], weight, stride=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_faster(x, weight, stride=1)  # half the bytes
        large = last(torch.zeros(512, 256, 3, 3))
        assert is_faster(x[..., :2], large, stride=1)
        assert not is_faster(x[..., :3], large, stride=1)  # half the positions


def test_a_compiled_model_keeps_its_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilers know them, and a graph that is exported must hold for every size."""
    monkeypatch.setattr(module.torch.compiler, "is_compiling", lambda: True)
    assert not is_faster(torch.zeros(2, 256, 4, 4), last(torch.zeros(256, 256, 3, 3)), stride=1)
