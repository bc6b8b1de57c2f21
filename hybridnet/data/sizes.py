"""How large the pictures are in each epoch of the training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from hybridnet.data.augment import Size
from hybridnet.errors import Fault, InputError


def height_and_width(size: int | tuple[int, int]) -> Size:
    """Of a size as it stands in a configuration: one number is that of a square."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


class Sizes:
    """Height and width of the pictures in each epoch: smaller ones first, which cost less.

    The epochs are cut into equal parts, one for each size; where they do not divide, the larger sizes get more. The
    size is a pure function of the epoch and the number of epochs, so a run can be continued anywhere.

    Paper: Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", arXiv:2104.00298; before it fastai's
    "progressive resizing".
    Deviations: the random changes are as strong at small sizes as at the last one.

    Args:
        last: of the last part, and of evaluation.
        early: of the parts before it.
        num_epochs: of the training. Where there are fewer than sizes, the first sizes are left out.

    Raises:
        InputError: if one of `early` is higher or wider than `last`.
    """

    def __init__(self, last: Size, *, early: Sequence[Size], num_epochs: int) -> None:
        for height, width in early:
            if height > last[0] or width > last[1]:
                cause = f"{height}×{width} is larger than data.image_size, {last[0]}×{last[1]}"
                where = f"data.progressive=[{','.join(f'[{h},{w}]' if h != w else f'{h}' for h, w in early)}]"
                hint = "name smaller sizes for the first epochs; data.image_size follows by itself"
                raise InputError(Fault("wrong value", where, cause, hint))
        self.last, self.early = last, tuple(early)
        self.num_epochs = num_epochs

    def in_epoch(self, epoch: int) -> Size:
        """The size in an epoch, counted from 1; the last one in epoch 0, which is evaluation, and after the end."""
        done = min(epoch, self.num_epochs) * (len(self.early) + 1)
        part = -(-done // self.num_epochs)  # rounded up: the last epoch is in the last part
        return (self.last, *self.early, self.last)[part]

    def __str__(self) -> str:
        """`64×64 in epochs 1-3, 96×128 in epoch 4`."""
        parts = []
        for (height, width), epochs in groupby(range(1, self.num_epochs + 1), key=self.in_epoch):
            first, *others = epochs
            which = f"epochs {first}-{others[-1]}" if others else f"epoch {first}"
            parts.append(f"{height}×{width} in {which}")
        return ", ".join(parts)
