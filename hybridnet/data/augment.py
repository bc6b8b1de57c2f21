"""Random changes of the training pictures: crop, flips, rotation, shift, colour, erasing, and mixing two pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridnet.settings import NonNegative, Positive, Probability, checked

# ITU-R BT.601 luma, the weights of Pillow's and torchvision's grey.
LUMA = np.array([0.299, 0.587, 0.114])
CROP_TRIES = 10
SHAPES_OF_HOLES = (0.3, 1 / 0.3)  # width/height relative to the picture's, as in the paper
Size = tuple[int, int]  # height, width


@dataclass
class Changes:
    """What is done to the pictures of a batch; first axis B.

    Attributes:
        boxes: int64 (B, 4), left, top, right and bottom of the crop in pixels of each picture.
        flips: bool (B, 2), whether to mirror left-right and top-bottom.
        colour: float32 (B, 3, 4), affine map of RGB in [0, 1].
        angles: float32 (B,), counter-clockwise rotation in degrees.
        shifts: float32 (B, 2), to the right and down, as shares of width and height.
        holes: float32 (B, 4), left, top, right and bottom, as shares of width and height, of the part that is erased.
            All 0 for none.
        blends: float32 (B,), the share of a picture's own pixels; the rest is its partner's (mixup). 1 for none.
        patches: float32 (B, 4), left, top, right and bottom, as shares of width and height, of the part that is
            replaced by the partner's (CutMix). All 0 for none.
    """

    boxes: np.ndarray
    flips: np.ndarray
    colour: np.ndarray
    angles: np.ndarray
    shifts: np.ndarray
    holes: np.ndarray
    blends: np.ndarray
    patches: np.ndarray


class Augment:
    """Draws the changes of a batch of training pictures.

    The crop follows Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842; mixup is arXiv:1710.09412 and
    CutMix arXiv:1905.04899. Where both are on, each picture that is mixed gets one of the two, with equal chances.
    Erasing is Zhong et al., "Random Erasing Data Augmentation", arXiv:1708.04896, but the part gets the data's mean
    colour, as in Cutout (arXiv:1708.04552), and no noise.

    Args:
        scale: smallest and largest share of the picture's area that a crop keeps.
        ratio: narrowest and widest width/height of a crop, relative to the model's input.
        horizontal_flip: probability of a mirrored picture.
        vertical_flip: probability of a picture upside down.
        rotation: largest angle in degrees, to either side; what lies outside is filled by reflection.
        shift: largest way to any side, as a share of width and height; filled by reflection. CIFAR's usual padding by 4
            of 32 pixels and random crop is 0.125.
        brightness, contrast, saturation: the factor is drawn from [1 - x, 1 + x] (never below 0).
        erase: probability of a picture to lose a part, on its own and before it is mixed.
        erase_area: smallest and largest share of the picture that is lost.
        mixup: alpha of the Beta distribution that the partner's share is drawn from; 0 for none.
        cutmix: alpha of the Beta distribution that the patch's area is drawn from; 0 for none.
        mix_probability: of a picture to be mixed at all, where one of the two is on.

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
        rotation: NonNegative,
        shift: Probability,
        brightness: NonNegative,
        contrast: NonNegative,
        saturation: NonNegative,
        erase: Probability,
        erase_area: tuple[Positive, Positive],
        mixup: NonNegative,
        cutmix: NonNegative,
        mix_probability: Probability,
    ) -> None:
        if not scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale ({list(scale)}) must be [smallest, largest] with largest <= 1")
        if ratio[0] > ratio[1]:
            raise ValueError(f"ratio ({list(ratio)}) must be [narrowest, widest]")
        if not erase_area[0] <= erase_area[1] <= 1:
            raise ValueError(f"erase_area ({list(erase_area)}) must be [smallest, largest] with largest <= 1")
        if rotation > 180:
            raise ValueError(f"rotation ({rotation}) must be <= 180 degrees")
        self.scale, self.ratio = scale, ratio
        self.flips = np.array([horizontal_flip, vertical_flip])
        self.rotation, self.shift = rotation, shift
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.erase, self.erase_area = erase, erase_area
        self.mixup, self.cutmix = _BetaDistribution(mixup), _BetaDistribution(cutmix)
        self.mix_probability = mix_probability

    def draw(self, randoms: np.ndarray, sizes: np.ndarray, *, aspect: float) -> Changes:
        """The changes of a batch.

        Args:
            randoms: (B, NUM_RANDOMS) in [0, 1).
            sizes: (B, 2), height and width of each picture.
            aspect: width/height of the model's input.
        """
        tries, rest = randoms[:, : 4 * CROP_TRIES].reshape(-1, CROP_TRIES, 4), randoms[:, 4 * CROP_TRIES :].T
        blends, patches = self._draw_mixing(*rest[6:11])
        shifts = self.shift * (2 * rest[11:13].T - 1)
        return Changes(
            boxes=self._draw_boxes(tries, sizes, aspect=aspect),
            flips=self.flips > rest[:2].T,
            colour=self._draw_colour(*rest[2:5]),
            angles=(self.rotation * (2 * rest[5] - 1)).astype(np.float32),
            shifts=shifts.astype(np.float32),
            holes=self._draw_holes(*rest[13:18]),
            blends=blends,
            patches=patches,
        )

    def _draw_boxes(self, tries: np.ndarray, sizes: np.ndarray, *, aspect: float) -> np.ndarray:
        """Random boxes whose shape varies around `aspect`; the first of ten that fits into the picture.

        Where none does, as in a very long picture, the largest centred box is taken.
        """
        height, width = sizes.T[:, :, None]
        area = height * width * _between(*self.scale, tries[..., 0])
        shape = aspect * np.exp(_between(*np.log(self.ratio), tries[..., 1]))
        box_height, box_width = np.rint(np.sqrt(area / shape)).clip(1), np.rint(np.sqrt(area * shape)).clip(1)
        fits = (box_height <= height) & (box_width <= width)
        left, top = (tries[..., 2] * (width - box_width + 1)) // 1, (tries[..., 3] * (height - box_height + 1)) // 1
        boxes = np.stack([left, top, left + box_width, top + box_height], axis=-1)
        first = boxes[np.arange(len(boxes)), fits.argmax(axis=1)]
        return np.where(fits.any(axis=1)[:, None], first, centre_boxes(sizes, aspect=aspect, share=1.0)).astype(int)

    def _draw_colour(self, saturation: np.ndarray, brightness: np.ndarray, contrast: np.ndarray) -> np.ndarray:
        """Colour changes as affine maps (B, 3, 4) of RGB in [0, 1]: saturation, then brightness, then contrast.

        All three are affine, so the whole batch is changed by one matrix product on the training device. Contrast is
        taken about mid-grey instead of each picture's mean, which would need a pass over its pixels.
        """
        amounts = (self.saturation, self.brightness, self.contrast)
        randoms = (saturation, brightness, contrast)
        s, b, c = (_between(max(0.0, 1 - x), 1 + x, r)[:, None, None] for x, r in zip(amounts, randoms, strict=True))
        matrix = c * b * (s * np.eye(3) + (1 - s) * np.tile(LUMA, (3, 1)))
        offset = np.broadcast_to((1 - c) * 0.5, (len(matrix), 3, 1))
        return np.concatenate([matrix, offset], axis=2).astype(np.float32)

    def _draw_holes(
        self, choice: np.ndarray, area: np.ndarray, shape: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> np.ndarray:
        """A hole that would be longer than the picture is as long as that, and less than its area is lost."""
        root = np.sqrt(np.where(choice < self.erase, _between(*self.erase_area, area), 0.0))
        stretch = np.exp(_between(*np.log(SHAPES_OF_HOLES), shape) / 2)
        width, height = np.minimum(root * stretch, 1), np.minimum(root / stretch, 1)
        left, top = x * (1 - width) * (width > 0), y * (1 - height) * (height > 0)
        return np.stack([left, top, left + width, top + height], axis=-1).astype(np.float32)

    def _draw_mixing(
        self, choice: np.ndarray, blend: np.ndarray, area: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """A picture keeps at least half of itself, so that its own label stays the most likely one."""
        share_of_cuts = 0.5 if self.mixup.alpha and self.cutmix.alpha else float(self.cutmix.alpha > 0)
        cuts = choice < self.mix_probability * share_of_cuts
        blends = ~cuts & (choice < self.mix_probability)
        own = np.where(blends, self.mixup.quantile(blend), 1.0)
        side = np.sqrt(np.where(cuts, 1 - self.cutmix.quantile(area), 0.0))
        left, top = np.where(cuts, (x, y), 0.0) * (1 - side)
        return own.astype(np.float32), np.stack([left, top, left + side, top + side], axis=-1).astype(np.float32)


NUM_RANDOMS = 4 * CROP_TRIES + 18


class _BetaDistribution:
    """max(p, 1 - p) of p ~ Beta(alpha, alpha); always 1 for alpha = 0, where the distribution ends at 0 and 1."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        # A table of quantiles spares a dependency on the inverse of the incomplete beta function.
        drawn = np.random.default_rng(0).beta(alpha, alpha, size=2**16) if alpha else np.ones(1)
        self.table = np.sort(np.maximum(drawn, 1 - drawn)) if alpha else drawn

    def quantile(self, random: np.ndarray) -> np.ndarray:
        return self.table[(random * len(self.table)).astype(int)]


def centre_boxes(sizes: np.ndarray, *, aspect: float, share: float) -> np.ndarray:
    """The centred boxes with the given width/height whose limiting side spans `share` of the picture's.

    Args:
        sizes: (B, 2), height and width of each picture.

    Returns:
        int64 (B, 4): left, top, right, bottom, at least one pixel wide and high.
    """
    height, width = sizes.T
    box_width = np.rint(np.minimum(width, height * aspect) * share).clip(1, width)
    box_height = np.rint(np.minimum(height, width / aspect) * share).clip(1, height)
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return np.stack([left, top, left + box_width, top + box_height], axis=-1).astype(int)


def _between(low: float, high: float, random: np.ndarray) -> np.ndarray:
    return low + (high - low) * random
