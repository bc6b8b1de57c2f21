"""Convolution of small maps, or its gradient of the weights, as a matrix product for each position of the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hybridnet import processor

LARGEST_GRADIENT = 64  # positions of the output
SMALLEST_WEIGHT = 2**21  # bytes: about a core's own cache

Size = tuple[int, int]
Slices = tuple[slice, slice, slice]  # (all pictures, rows, columns) of (B, H, W, C)


def is_faster(x: Tensor, weight: Tensor, *, stride: int) -> bool:
    """Whether `kn2row` is faster than `conv2d` here: on a CPU, several pictures, few positions, large weights.

    oneDNN goes through all weights for each picture, and multiplies the padding: of a 3×3 kernel on a 2×2 map 5 of 9
    products. Forward and backward of 512 channels and 64 such maps took 9 instead of 43 ms in float32 and 15 instead
    of 31 in bf16, of 4×4 maps 42 instead of 66 and 73 instead of 76 (two Xeon cores without fast bf16); on two cores of
    a Zen 5 10 instead of 15 and 3 instead of 12, 50 instead of 32 and 13 instead of 23.
    """
    return _is_batch_on_cpu(x) and _is_small(x, weight, stride=stride, largest_map=_largest_map(_dtype(x)))


def gradient_is_faster(x: Tensor, weight: Tensor, *, stride: int) -> bool:
    """Whether `conv2d` is faster than PyTorch's here: as above, for larger maps, in bf16 by AVX-512.

    The gradient of the weights of 512 channels and 32 maps of 7×7 took 7.5 instead of 11 ms, of 256 to 512 channels at
    stride 2 4.5 instead of 8 (two cores of a Zen 5); in float32 it took twice as long.
    """
    return (
        _is_batch_on_cpu(x)
        and (weight.requires_grad and torch.is_grad_enabled())
        and (_dtype(x) == torch.bfloat16 and processor.is_fast_in_bf16_by_avx512())
        and _is_small(x, weight, stride=stride, largest_map=LARGEST_GRADIENT)
    )


def _largest_map(dtype: torch.dtype) -> int:
    """Positions of the output up to which the products are worth adding up."""
    if dtype == torch.bfloat16:
        return 16 if processor.is_fast_in_bf16_by_avx512() else 8
    return 4 if processor.halves_products() else 16


def is_eager() -> bool:
    """Whether operations are carried out as they are called: compilers and `torch.func` know `conv2d`, not these."""
    return not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


def _is_batch_on_cpu(x: Tensor) -> bool:
    return is_eager() and x.device.type == "cpu" and x.dim() == 4 and len(x) > 1


def _is_small(x: Tensor, weight: Tensor, *, stride: int, largest_map: int) -> bool:
    """Whether the output has few positions and the weights do not fit in the processor's cache."""
    height, width = _output_size(x.shape[2:], stride)
    return (
        height * width <= largest_map
        and weight.numel() * _dtype(x).itemsize >= SMALLEST_WEIGHT
        and weight.is_contiguous(memory_format=torch.channels_last)
    )


def kn2row(x: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """`conv2d` without bias, padded by half the kernel: the sum of 1×1 convolutions of the shifted map.

    Paper: Vasudevan et al., "Parallel Multi Channel Convolution using General Matrix Multiplication",
    arXiv:1704.04428. Deviations: what lies in the padding is left out, and each product is added to the sum at once.
    The sums are float32, also in bf16.

    Args:
        x: (B, C, H, W).
        weight: (K, C, k, k), k odd.
        stride: of both axes.

    Returns:
        (B, K, h, w), h = H / stride rounded up, channels_last; within autocast in its format. Gradients are laid out
        like what they belong to.
    """
    return _Kn2Row.apply(x.to(_dtype(x)), weight.to(_dtype(x)), stride)


def conv2d(x: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """PyTorch's `conv2d`, apart from the gradient of the weights, which is computed as in `kn2row`.

    Args:
        x: (B, C, H, W).
        weight: (K, C, k, k), k odd.
        stride: of both axes.

    Returns:
        (B, K, h, w), h = H / stride rounded up; within autocast in its format.
    """
    return _Conv2d.apply(x.to(_dtype(x)), weight.to(_dtype(x)), stride)


class _Kn2Row(torch.autograd.Function):
    """By hand, as autograd would make and add up a gradient of the whole kernel for each of its positions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        pixels, kernel = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)  # (B, H, W, C), (K, k, k, C)
        size = _output_size(x.shape[2:], stride)
        y = x.new_zeros(len(x), *size, len(weight), dtype=torch.promote_types(x.dtype, torch.float32))
        for row, column, outputs, inputs in _positions(x.shape[2:], weight.shape[2:], stride):
            sums = y[outputs]
            sums += (pixels[inputs].flatten(0, 2) @ kernel[:, row, column].t()).view_as(sums)
        return y.to(x.dtype).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad_x = _grad_of_map(grad, x, weight, ctx.stride) if ctx.needs_input_grad[0] else None
        grad_weight = _grad_of_weight(grad, x, weight, ctx.stride) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight, None


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            padding = weight.shape[-1] // 2
            grad_x = torch.nn.grad.conv2d_input(x.shape, weight, grad, stride=ctx.stride, padding=padding)
        if ctx.needs_input_grad[1]:
            grad_weight = _grad_of_weight(grad, x, weight, ctx.stride)
        return grad_x, grad_weight, None


def _grad_of_map(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    grad, kernel = grad.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
    grad_pixels = torch.zeros_like(x.permute(0, 2, 3, 1), dtype=torch.promote_types(x.dtype, torch.float32))
    for row, column, outputs, inputs in _positions(x.shape[2:], weight.shape[2:], stride):
        sums = grad_pixels[inputs]
        sums += (grad[outputs].flatten(0, 2) @ kernel[:, row, column]).view_as(sums)
    return grad_pixels.to(x.dtype).permute(0, 3, 1, 2)


def _grad_of_weight(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    grad, pixels = grad.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
    positions = list(_positions(x.shape[2:], weight.shape[2:], stride))
    all_meet = len(positions) == weight[0, 0].numel()
    grad_kernel = (torch.empty_like if all_meet else torch.zeros_like)(weight.permute(0, 2, 3, 1))
    for row, column, outputs, inputs in positions:
        outer, inner = grad[outputs].flatten(0, 2), pixels[inputs].flatten(0, 2)
        torch.mm(outer.t(), inner, out=grad_kernel[:, row, column])
    return grad_kernel.permute(0, 3, 1, 2)


def _dtype(x: Tensor) -> torch.dtype:
    """What a convolution of x computes in."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _output_size(map_size: Size, stride: int) -> Size:
    height, width = (-(-extent // stride) for extent in map_size)
    return height, width


def _positions(map_size: Size, kernel_size: Size, stride: int) -> Iterator[tuple[int, int, Slices, Slices]]:
    """Every row and column of the kernel that meets the map: which outputs it adds to, and from which inputs."""
    rows, columns = (
        [_meets(position - length // 2, extent, stride) for position in range(length)]
        for length, extent in zip(kernel_size, map_size, strict=True)
    )
    for (row, (rows_out, rows_in)), (column, (columns_out, columns_in)) in product(enumerate(rows), enumerate(columns)):
        if rows_out.start < rows_out.stop and columns_out.start < columns_out.stop:
            yield row, column, (slice(None), rows_out, columns_out), (slice(None), rows_in, columns_in)


def _meets(offset: int, extent: int, stride: int) -> tuple[slice, slice]:
    """Along one axis: the outputs o for which the input stride·o + offset exists, and these inputs."""
    first = max(0, -(offset // stride))
    end = min(-(-extent // stride), (extent - 1 - offset) // stride + 1)
    start = stride * first + offset
    return slice(first, end), slice(start, start + stride * (end - first), stride)
