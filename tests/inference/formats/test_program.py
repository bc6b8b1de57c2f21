from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hybridnet.inference.formats.program import exported_program
from tests.inference.formats.models import trained


def test_the_smallest_size_is_the_smallest() -> None:
    """Two strides of two: five pixels give two rows, four give one."""
    network = trained("ca").network
    program, smallest = exported_program(network)
    assert smallest == (5, 5)
    images = torch.randn(2, 3, 5, 9)
    torch.testing.assert_close(program.module()(images), network(images))
    with pytest.raises(RuntimeError, match=">= 5, but got 4"):
        program.module()(torch.randn(2, 3, 4, 9))
    assert program.example_inputs is None


def test_a_network_that_takes_one_size_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.shape[2] == 224
            return images.mean(dim=(2, 3))

    with pytest.raises(Exception, match="specializ|224"):
        exported_program(Fixed())
