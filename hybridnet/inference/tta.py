"""Test-time augmentation: views of a picture whose probabilities are averaged.

Imports no torch: commands ask here before they need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Tta = Literal["none", "flip", "flips"]

# How a batch of inputs (B, 3, H, W) is turned for test-time augmentation.
VIEWS: dict[Tta, tuple[Callable[[Tensor], Tensor], ...]] = {
    "none": (lambda inputs: inputs,),
    "flip": (lambda inputs: inputs, lambda inputs: inputs.flip(3)),
    "flips": (
        lambda inputs: inputs,
        lambda inputs: inputs.flip(3),
        lambda inputs: inputs.flip(2),
        lambda inputs: inputs.flip(2, 3),
    ),
}
