"""Random changes of the training pictures: crop, flips and colour."""

from __future__ import annotations

import math

import numpy as np

from hybridnet.settings import NonNegative, Positive, Probability, checked

# ITU-R BT.601 luma, the weights of Pillow's and torchvision's grey.
LUMA = np.array([0.299, 0.587, 0.114])
Box = tuple[float, float, float, float]


class Augment:
    """Draws the crop, the flips and the colour change of one picture.

    The crop follows Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842.

    Args:
        scale: smallest and largest share of the picture's area that a crop keeps.
        ratio: narrowest and widest width/height of a crop, relative to the model's input.
        horizontal_flip: probability of a mirrored picture.
        vertical_flip: probability of a picture upside down.
        brightness, contrast, saturation: the factor is drawn from [1 - x, 1 + x] (never below 0).

    Raises:
        ValueError: if a setting is out of range, or a smallest value exceeds its largest.
    """

    @checked
    def __init__(
        self,
        *,
        scale: tuple[Positive, Positive],
        ratio: tuple[Positive, Positive],
        horizontal_flip: Probability,
        vertical_flip: Probability,
        brightness: NonNegative,
        contrast: NonNegative,
        saturation: NonNegative,
    ) -> None:
        if not scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale ({list(scale)}) must be [smallest, largest] with largest <= 1")
        if ratio[0] > ratio[1]:
            raise ValueError(f"ratio ({list(ratio)}) must be [narrowest, widest]")
        self.scale, self.ratio = scale, ratio
        self.horizontal_flip, self.vertical_flip = horizontal_flip, vertical_flip
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation

    def draw_crop(self, rng: np.random.Generator, size: tuple[int, int], *, aspect: float) -> Box:
        """A random box (left, top, right, bottom) in pixels of a picture of `size` (width, height).

        The box's shape varies around `aspect` (width/height). Where no box fits in ten tries, as in a very long
        picture, the largest centred box of that aspect is taken.
        """
        width, height = size
        for _ in range(10):
            area = width * height * rng.uniform(*self.scale)
            shape = aspect * math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            box_width, box_height = math.sqrt(area * shape), math.sqrt(area / shape)
            if box_width <= width and box_height <= height:
                left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
                return left, top, left + box_width, top + box_height
        return centre_box(size, aspect=aspect, share=1.0)

    def draw_flips(self, rng: np.random.Generator) -> tuple[bool, bool]:
        """Whether to mirror left-right and top-bottom."""
        horizontal, vertical = rng.random(2) < (self.horizontal_flip, self.vertical_flip)
        return bool(horizontal), bool(vertical)

    def draw_colour(self, rng: np.random.Generator) -> np.ndarray:
        """A colour change as an affine map (3, 4) of RGB in [0, 1]: saturation, then brightness, then contrast.

        All three are affine, so the whole batch is changed by one matrix product on the training device. Contrast is
        taken about mid-grey instead of each picture's mean, which would need a pass over its pixels.
        """
        amounts = (self.saturation, self.brightness, self.contrast)
        saturation, brightness, contrast = (rng.uniform(max(0.0, 1 - x), 1 + x) for x in amounts)
        matrix = contrast * brightness * (saturation * np.eye(3) + (1 - saturation) * np.tile(LUMA, (3, 1)))
        offset = np.full((3, 1), (1 - contrast) * 0.5)
        return np.hstack([matrix, offset]).astype(np.float32)


def centre_box(size: tuple[int, int], *, aspect: float, share: float) -> Box:
    """The centred box with the given width/height whose longer fitting side spans `share` of the picture's."""
    width, height = size
    box_width = min(width, height * aspect) * share
    box_height = box_width / aspect
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height
