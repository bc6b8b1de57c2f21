"""What is done to a picture before a model sees it, without any random change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hybridnet.data.augment import centre_boxes
from hybridnet.data.batch import Normalize
from hybridnet.data.decoded import Reduction
from hybridnet.data.samples import resized


class Preprocessing:
    """Centre crop, resize and normalisation, as training validates.

    Args:
        image_size: height and width of the model's input in pixels.
        center_crop: share of the picture, along the side that limits it, that is looked at.
        mean, std: of each colour channel in [0, 1].
    """

    def __init__(
        self, *, image_size: Sequence[int], center_crop: float, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        height, width = image_size
        self.image_size = (height, width)
        self.center_crop = center_crop
        self.mean, self.std = tuple(mean), tuple(std)
        self.reduction = Reduction(max(self.image_size), round(max(self.image_size) / center_crop))
        self.normalize = Normalize(self.mean, self.std)

    def __repr__(self) -> str:
        return f"Preprocessing({', '.join(f'{name}={value}' for name, value in self.plain().items())})"

    def plain(self) -> dict[str, Any]:
        """The arguments that make it again, in plain types."""
        return {
            "image_size": list(self.image_size),
            "center_crop": self.center_crop,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def with_size(self, image_size: Sequence[int]) -> Preprocessing:
        """The same for another size of the input."""
        return Preprocessing(**{**self.plain(), "image_size": image_size})

    def box(self, picture: np.ndarray) -> tuple[int, int, int, int]:
        """What of a picture (H, W, 3) the model sees: left, top, right, bottom in pixels."""
        height, width = self.image_size
        whole = np.array([picture.shape[:2]])
        return tuple(centre_boxes(whole, aspect=width / height, share=self.center_crop)[0].tolist())

    def cropped(self, picture: np.ndarray) -> np.ndarray:
        """What the model sees: uint8 (H, W, 3) -> uint8 (h, w, 3), `image_size`."""
        return resized(picture, self.box(picture), self.image_size)

    def reduced(self, picture: np.ndarray) -> np.ndarray:
        """A picture of any size uint8 (H, W, 3) as `reduction.load` has it: no larger than the crop needs."""
        return np.asarray(self.reduction.shrink(Image.fromarray(picture)))

    def normalized(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The model's input: uint8 (B, h, w, 3) -> (B, 3, h, w) in `dtype`, channels last in memory."""
        colour = torch.eye(3, 4, device=images.device).expand(len(images), 3, 4)
        return self.normalize(images, colour, dtype)


def of_plain(content: Mapping[str, Any]) -> Preprocessing:
    """What `Preprocessing.plain` gave.

    Raises:
        KeyError, TypeError, ValueError: if it is not that.
    """
    return Preprocessing(**{name: content[name] for name in ("image_size", "center_crop", "mean", "std")})
