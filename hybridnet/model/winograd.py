"""3×3 convolution of float32 maps with as little as a quarter of the multiplications: Winograd's minimal filtering."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hybridnet import processor
from hybridnet.model.kn2row import is_eager

TILE = 4  # outputs on each axis, computed from
PATCH = 6  # inputs, of which neighbouring patches share two


def _on_both_axes(*rows: tuple[float, ...]) -> Tensor:
    """The transform of a tile's rows and columns at once, for a tile written as one column."""
    matrix = torch.tensor(rows, dtype=torch.double, device="cpu")  # models are also built on the meta device
    return torch.kron(matrix, matrix)


# F(4×4, 3×3) of the paper: the points 0, 1, -1, 2, -2 and infinity.
INPUT = _on_both_axes(
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
KERNEL = _on_both_axes(
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = _on_both_axes(
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class Cost(NamedTuple):
    """By how many times fewer multiplications it takes to be faster by a tenth: `fixed`, and `of_map` for the
    transforms of the maps, shared by their channels, and `of_kernel` for those of the kernel, shared by the tiles.
    """

    fixed: float
    of_map: float
    of_kernel: float


# Fitted to 32 to 512 channels, 5×5 to 56×56 positions and 1 to 64 pictures on two Xeon cores; the second one with
# AVX-512 hidden, where products are half as fast and memory is not.
WITH_AVX512, WITHOUT = Cost(1.6, 154, 60), Cost(1.55, 110, 28)

Size = tuple[int, int]


def is_faster(x: Tensor, weight: Tensor, *, stride: int) -> bool:
    """Whether `winograd` can take the place of `conv2d` here and is faster: float32 on a CPU, many channels and tiles.

    Forward and backward of 32 maps took 50 instead of 73 ms for 512 channels of 7×7, 46 instead of 66 for 256 of 14×14
    and 47 instead of 69 for 128 of 28×28; with 64 of 56×56 79 instead of 73 (two Xeon cores, AVX-512). With AVX2 alone
    71 instead of 133, 71 instead of 128, 70 instead of 131 and 102 instead of 139. Not with AVX-512 on an AMD
    processor, where a step of ResNet-18 took 1.2 times as long (Zen 5).
    """
    if not is_eager() or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if x.dim() != 4 or not x.numel():  # not a batch of maps, or an empty one: conv2d knows what to say
        return False
    if not x.dtype == weight.dtype == torch.float32 or stride != 1 or weight.shape[2:] != (3, 3):
        return False
    if processor.halves_products():
        return False
    height, width = x.shape[2:]
    rows, columns = _num_tiles(x.shape[2:])
    fewer = 9 * height * width / (PATCH * PATCH * rows * columns)
    channels = 2 / (1 / x.shape[1] + 1 / len(weight))
    cost = WITH_AVX512 if processor.has_avx512() else WITHOUT
    needed = cost.fixed + cost.of_map / channels + cost.of_kernel / (len(x) * rows * columns)
    return fewer > needed and weight.is_contiguous(memory_format=torch.channels_last)


def winograd(x: Tensor, weight: Tensor) -> Tensor:
    """`conv2d` without bias, padded by 1, at stride 1: tiles of 4×4 outputs by 36 products instead of 144.

    Paper: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308. The gradients are
    computed in the same way. The result is about 4 to 8 times as far from the exact one as `conv2d`'s, by 2e-6 to
    4e-6 of its size: in float32 that is little, in less precise formats it would be too much.

    Args:
        x: (B, C, H, W).
        weight: (K, C, 3, 3).

    Returns:
        (B, K, H, W), channels_last.
    """
    return _Winograd.apply(x, weight)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        patches = _patches(x)
        ctx.save_for_backward(patches if ctx.needs_input_grad[1] else None, weight)
        return _outputs(torch.bmm(patches, _kernels(weight).mT), x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        patches, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3).transpose(0, 1)
            grad_x = _outputs(torch.bmm(_patches(grad), _kernels(turned).mT), grad.shape)
        if ctx.needs_input_grad[1]:
            products = torch.bmm(_grad_of_products(grad).mT, patches)  # (36, K, C)
            grad_weight = (KERNEL.to(grad.dtype).t() @ products.flatten(1)).view(3, 3, *products.shape[1:])
            grad_weight = grad_weight.permute(2, 0, 1, 3).contiguous().permute(0, 3, 1, 2)
        return grad_x, grad_weight


def _patches(x: Tensor) -> Tensor:
    """The transformed 6×6 inputs of every tile, (36, tiles, C)."""
    b, c, h, w = x.shape
    rows, columns = _num_tiles((h, w))
    padded = x.new_empty(b, TILE * rows + 2, TILE * columns + 2, c)
    padded[:, 1 : h + 1, 1 : w + 1] = x.permute(0, 2, 3, 1)
    for border in (padded[:, :1], padded[:, h + 1 :], padded[:, :, :1], padded[:, :, w + 1 :]):
        border.zero_()
    patches = padded.unfold(1, PATCH, TILE).unfold(2, PATCH, TILE)  # (B, rows, columns, C, 6, 6)
    patches = patches.permute(4, 5, 0, 1, 2, 3).reshape(PATCH * PATCH, -1)
    return (INPUT.to(x.dtype) @ patches).view(PATCH * PATCH, -1, c)


def _kernels(weight: Tensor) -> Tensor:
    """The transformed kernels, (K, C, 3, 3) -> (36, K, C)."""
    kernels = weight.permute(2, 3, 0, 1).reshape(9, -1)
    return (KERNEL.to(weight.dtype) @ kernels).view(PATCH * PATCH, *weight.shape[:2])


def _outputs(products: Tensor, shape: torch.Size) -> Tensor:
    """Tiles from the products (36, tiles, K), put together to (B, K, H, W), channels_last."""
    b, _, h, w = shape
    rows, columns = _num_tiles((h, w))
    tiles = (OUTPUT.to(products.dtype) @ products.flatten(1)).view(TILE, TILE, b, rows, columns, -1)
    outputs = tiles.permute(2, 3, 0, 4, 1, 5).reshape(b, TILE * rows, TILE * columns, -1)
    return outputs[:, :h, :w].contiguous().permute(0, 3, 1, 2)


def _grad_of_products(grad: Tensor) -> Tensor:
    """The gradient of the products, (36, tiles, K), from that of the outputs, (B, K, H, W)."""
    b, k, h, w = grad.shape
    rows, columns = _num_tiles((h, w))
    outputs = F.pad(grad.permute(0, 2, 3, 1), (0, 0, 0, TILE * columns - w, 0, TILE * rows - h))
    tiles = outputs.reshape(b, rows, TILE, columns, TILE, k).permute(2, 4, 0, 1, 3, 5).reshape(TILE * TILE, -1)
    return (OUTPUT.to(grad.dtype).t() @ tiles).view(PATCH * PATCH, -1, k)


def _num_tiles(map_size: Size) -> Size:
    height, width = (-(-extent // TILE) for extent in map_size)
    return height, width
