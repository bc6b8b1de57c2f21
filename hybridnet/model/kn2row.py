"""Convolution of small maps as one matrix product for each position of the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGEST_MAP = 4  # positions of the output for each byte of a number: products get faster in bf16, adding them does not
SMALLEST_WEIGHT = 2**21  # bytes: about a core's own cache

Size = tuple[int, int]
Slices = tuple[slice, slice, slice]  # (all pictures, rows, columns) of (B, H, W, C)


def is_faster(x: Tensor, weight: Tensor, *, stride: int) -> bool:
    """Whether `kn2row` is faster than `conv2d` here: on a CPU, several pictures, few positions, large weights.

    oneDNN goes through all weights for each picture, and multiplies the padding: of a 3×3 kernel on a 2×2 map 5 of 9
    products. Forward and backward of 512 channels and 64 such maps took 9 instead of 43 ms in float32 and 15 instead
    of 31 in bf16, of 4×4 maps 42 instead of 66 and 73 instead of 76 (two Xeon cores).
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dim() != 4 or len(x) <= 1:
        return False
    (height, width), num_bytes = _output_size(x.shape[2:], stride), _dtype(x).itemsize
    return (
        height * width <= LARGEST_MAP * num_bytes
        and weight.numel() * num_bytes >= SMALLEST_WEIGHT
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


class _Kn2Row(torch.autograd.Function):
    """By hand, as autograd would make and add up a gradient of the whole kernel for each of its positions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.positions = list(_positions(x.shape[2:], weight.shape[2:], stride))
        pixels, kernel = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)  # (B, H, W, C), (K, k, k, C)
        size = _output_size(x.shape[2:], stride)
        y = x.new_zeros(len(x), *size, len(weight), dtype=torch.promote_types(x.dtype, torch.float32))
        for row, column, outputs, inputs in ctx.positions:
            sums = y[outputs]
            sums += (pixels[inputs].flatten(0, 2) @ kernel[:, row, column].t()).view_as(sums)
        return y.to(x.dtype).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        pixels, kernel, grad = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
        grad_pixels = torch.zeros_like(pixels, dtype=torch.promote_types(x.dtype, torch.float32))
        all_meet = len(ctx.positions) == kernel[0, ..., 0].numel()
        grad_kernel = torch.empty_like(kernel) if all_meet else torch.zeros_like(kernel)
        for row, column, outputs, inputs in ctx.positions:
            outer = grad[outputs].flatten(0, 2)
            if ctx.needs_input_grad[0]:
                sums = grad_pixels[inputs]
                sums += (outer @ kernel[:, row, column]).view_as(sums)
            if ctx.needs_input_grad[1]:
                torch.mm(outer.t(), pixels[inputs].flatten(0, 2), out=grad_kernel[:, row, column])
        return grad_pixels.to(x.dtype).permute(0, 3, 1, 2), grad_kernel.permute(0, 3, 1, 2), None


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
