"""Tensors on their way from a device to the host."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def to_host(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Copies of tensors on the CPU, with the same strides; waits for a GPU once, not once for each.

    They lie in page-locked memory where they come from a GPU, which writes into no other by itself.
    """
    copies, streams = [], set()
    for tensor in tensors:
        copy = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda, requires_grad=False)
        copies.append(copy.copy_(tensor.detach(), non_blocking=tensor.is_cuda))
        if tensor.is_cuda:
            streams.add(torch.cuda.current_stream(tensor.device))
    for stream in streams:
        stream.synchronize()
    return copies
