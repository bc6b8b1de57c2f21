"""Copies of a device's tensors on the CPU."""

from __future__ import annotations

import pytest
import torch

from hybridnet.transfer import to_host


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_copies_have_the_values_of_the_moment(device: str) -> None:
    """Of all kinds of tensors, in their order in memory; what happens to those later does not matter."""
    tensors = [
        torch.randn(8, 4, 3, 3, device=device).to(memory_format=torch.channels_last).requires_grad_(),
        torch.randn(5, 3, device=device).t(),
        torch.arange(7, device=device),
        torch.tensor(2.5, device=device),
        torch.empty(0, device=device),
    ]
    expected = [tensor.detach().cpu().clone() for tensor in tensors]
    copies = to_host(iter(tensors))
    with torch.no_grad():
        for tensor in tensors:
            tensor.zero_()
    for copy, tensor, values in zip(copies, tensors, expected, strict=True):
        assert copy.device.type == "cpu" and not copy.requires_grad
        assert torch.equal(copy, values) and copy.dtype == tensor.dtype and copy.stride() == tensor.stride()


def test_a_part_of_a_tensor_is_copied_without_the_rest() -> None:
    (copy,) = to_host([torch.arange(100.0).view(10, 10)[:, 3]])
    assert copy.tolist() == [10.0 * row + 3 for row in range(10)]
    assert copy.untyped_storage().nbytes() == 40


@pytest.mark.gpu
def test_a_gpu_is_waited_for() -> None:
    tensors = [torch.zeros(2**20, device="cuda") for _ in range(20)]
    torch.cuda._sleep(10**8)
    for number, tensor in enumerate(tensors):
        tensor.fill_(number)
    assert [copy.unique().tolist() for copy in to_host(tensors)] == [[number] for number in range(20)]
