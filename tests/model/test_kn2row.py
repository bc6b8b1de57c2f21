"""Convolution as a sum of products: against PyTorch's, on maps that are smaller than the kernel too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hybridnet import processor
from hybridnet.model import kn2row as module
from hybridnet.model.backbone.resnet import Conv
from hybridnet.model.kn2row import conv2d, gradient_is_faster, is_faster, kn2row


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def xeon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever these tests run on."""
    on(monkeypatch, has_bf16_in_avx512=False, halves_products=False)


def on(monkeypatch: pytest.MonkeyPatch, *, has_bf16_in_avx512: bool, halves_products: bool) -> None:
    monkeypatch.setattr(processor, "is_fast_in_bf16_by_avx512", lambda: has_bf16_in_avx512)
    monkeypatch.setattr(processor, "halves_products", lambda: halves_products)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (5, 4), (6, 7)], ids=str)
@pytest.mark.parametrize("convolve", [kn2row, conv2d])
def test_equals_the_convolution(
    convolve: Callable[..., Tensor],
    size: tuple[int, int],
    kernel: int,
    stride: int,
    memory_format: torch.memory_format,
) -> None:
    x = random(2, 5, *size).contiguous(memory_format=memory_format).requires_grad_()
    weight = random(7, 5, kernel, kernel, seed=1).contiguous(memory_format=memory_format).requires_grad_()
    y, expected = convolve(x, weight, stride=stride), F.conv2d(x, weight, stride=stride, padding=kernel // 2)
    torch.testing.assert_close(y, expected, check_stride=False)
    grad = random(*expected.shape, seed=2)
    gradients, wanted = torch.autograd.grad(y, (x, weight), grad), torch.autograd.grad(expected, (x, weight), grad)
    torch.testing.assert_close(gradients, wanted, check_stride=False)
    if convolve is kn2row:
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
@pytest.mark.parametrize(("convolve", "products"), [(kn2row, (9, 9)), (conv2d, (0, 9))])
def test_one_gradient_alone(
    convolve: Callable[..., Tensor], products: tuple[int, int], needed: tuple[bool, bool]
) -> None:
    """After frozen stages, and in frozen ones whose input is asked about: half the products."""
    x, weight = random(2, 5, 2, 2).requires_grad_(needed[0]), random(7, 5, 3, 3).requires_grad_(needed[1])
    wanted = x if needed[0] else weight
    (expected,) = torch.autograd.grad(F.conv2d(x, weight, padding=1).sum(), wanted)
    y = convolve(x, weight, stride=1)
    with torch.profiler.profile(acc_events=True) as profile:
        (gradient,) = torch.autograd.grad(y.sum(), wanted)
    torch.testing.assert_close(gradient, expected, check_stride=False)
    counted = sum(event.count for event in profile.key_averages() if event.key == "aten::mm")
    assert counted == products[needed.index(True)]


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


@pytest.mark.parametrize("convolve", [kn2row, conv2d])
def test_within_autocast_it_computes_as_the_convolution_does(convolve: Callable[..., Tensor]) -> None:
    x, weight = random(2, 5, 2, 2, dtype=torch.float32), random(7, 5, 3, 3, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = convolve(x, weight, stride=1)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32
    assert convolve(x, weight, stride=1).dtype == torch.float32


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


@pytest.mark.parametrize(
    ("has_bf16_in_avx512", "halves_products", "dtype", "largest"),
    [
        (True, True, torch.float32, 4),  # AMD with AVX-512
        (True, True, torch.bfloat16, 16),
        (False, False, torch.float32, 16),
        (False, False, torch.bfloat16, 8),
    ],
)
def test_the_largest_map_depends_on_the_processor(
    has_bf16_in_avx512: bool, halves_products: bool, dtype: torch.dtype, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, has_bf16_in_avx512=has_bf16_in_avx512, halves_products=halves_products)
    weight = last(torch.zeros(512, 512, 3, 3, dtype=dtype))
    for positions, expected in ((largest, True), (largest + 1, False)):
        assert is_faster(torch.zeros(2, 512, 1, positions, dtype=dtype), weight, stride=1) is expected


def test_the_gradient_of_the_weights_alone_may_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, has_bf16_in_avx512=True, halves_products=True)
    x = torch.zeros(2, 512, 8, 8, dtype=torch.bfloat16)
    weight = last(torch.zeros(512, 512, 3, 3, dtype=torch.bfloat16)).requires_grad_()
    assert gradient_is_faster(x, weight, stride=1)
    assert not gradient_is_faster(torch.zeros(2, 512, 5, 13, dtype=torch.bfloat16), weight, stride=1)
    assert not gradient_is_faster(x, weight[:200], stride=1)
    assert not gradient_is_faster(x.float(), weight.float(), stride=1)
    assert not gradient_is_faster(x.to("meta"), weight, stride=1)
    assert not gradient_is_faster(x, weight.detach(), stride=1)  # of a frozen stage
    with torch.no_grad():
        assert not gradient_is_faster(x, weight, stride=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gradient_is_faster(x.float(), weight.float(), stride=1)
    on(monkeypatch, has_bf16_in_avx512=False, halves_products=False)
    assert not gradient_is_faster(x, weight, stride=1)


def test_a_layer_of_the_network_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, has_bf16_in_avx512=True, halves_products=True)
    layer = Conv(512, 512, 3).to(memory_format=torch.channels_last)
    x = last(random(2, 512, 7, 7, dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trained, judged = layer(x), layer.eval()(x.requires_grad_(False))
        with torch.no_grad():
            plain = layer(x)
    assert type(trained.grad_fn).__name__ == "_Conv2dBackward"
    assert torch.equal(trained, judged) and torch.equal(trained, plain)


def test_a_layer_has_the_gradients_of_torch_func(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every picture of several batches at once, which only PyTorch's convolution knows."""
    on(monkeypatch, has_bf16_in_avx512=False, halves_products=False)
    layer = Conv(256, 256, 3).to(memory_format=torch.channels_last)
    x = random(2, 2, 256, 4, 4, dtype=torch.float32)
    assert is_faster(x[0], layer.weight, stride=1)

    def loss(weight: Tensor, batch: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (batch,)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(layer.weight, x)
    for number, batch in enumerate(x):
        (expected,) = torch.autograd.grad(loss(layer.weight, batch), layer.weight)
        torch.testing.assert_close(found[number], expected, rtol=1e-4, atol=1e-3)


def test_a_compiled_model_keeps_its_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilers know them, and a graph that is exported must hold for every size."""
    monkeypatch.setattr(module.torch.compiler, "is_compiling", lambda: True)
    assert not is_faster(torch.zeros(2, 256, 4, 4), last(torch.zeros(256, 256, 3, 3)), stride=1)
