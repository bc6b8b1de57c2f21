"""What is shown over a picture: maps of a few positions, and where these lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Box = tuple[int, int, int, int]  # left, top, right, bottom


class Grid(NamedTuple):
    """Where the positions of a map lie in `Explanation.picture`.

    Attributes:
        rows: (h,), the centre of what each row of the map sees, in pixels from the picture's upper edge.
        columns: (w,), of each column, from the left edge.
    """

    rows: np.ndarray
    columns: np.ndarray

    def spread(self, values: np.ndarray, box: Box, *, size: tuple[int, int]) -> np.ndarray:
        """A map over a box of the picture, in more points: (h, w) -> `size`, rows and columns that divide the box.

        Linear between the centres; beyond the outermost ones the values stay what they are there.
        """
        left, top, right, bottom = box
        rows, columns = _places(self.rows, top, bottom, size[0]), _places(self.columns, left, right, size[1])
        within_rows = np.stack([np.interp(columns, np.arange(len(row)), row) for row in values])  # (h, columns)
        lower = np.floor(rows).astype(int)
        upper, share = np.minimum(lower + 1, len(values) - 1), (rows - lower)[:, None]
        return within_rows[lower] * (1 - share) + within_rows[upper] * share


class Cam(NamedTuple):
    """Grad-CAM of one class at one layer.

    Attributes:
        label: the class.
        layer: whose output is looked at, such as `layer4`.
        values: float32 (h, w), >= 0. For the last map before the average pooling, the sum over the map would be the
            class's logit without its bias, but for what is negative.
        grid: of the values.
    """

    label: str
    layer: str
    values: np.ndarray
    grid: Grid


class Gates(NamedTuple):
    """By how much Coordinate Attention multiplies its input, in the mean over channels weighted by their activation.

    The model has a gate for each channel and row, g_h, and one for each channel and column, g_w, and an input x. With
    |x| as the weight of the mean, `product` at a position is the sum over channels of |x·g_h·g_w| over that of |x|:
    how much stronger the position leaves than it came. `rows` is the same with g_h alone, over a whole row; `columns`
    with g_w alone, over a whole column. A plain mean would count channels that are silent in this picture.

    Attributes:
        rows: float32 (h,).
        columns: float32 (w,).
        product: float32 (h, w).
        change: how much the layer changes its input: the sum of |x·g_h·g_w - x| over that of |x|, with gates divided by
            `neutral`. Unlike the means it does not cancel where some channels are raised and others lowered.
        neutral: of a gate that says nothing, σ(0) times the layer's gain; that of the product is its square.
        grid: of the values.
    """

    rows: np.ndarray
    columns: np.ndarray
    product: np.ndarray
    change: float
    neutral: float
    grid: Grid


class Attention(NamedTuple):
    """Where the heads look from the position at which Grad-CAM of the predicted class is largest.

    Attributes:
        layer: `BoT`, whose weights are a softmax, or `BoTLinear`, whose weights are those that its feature map implies.
        feature_map: of BoTLinear; None for BoT.
        weights: float32 (heads, h, w), each head's sum is 1; with the feature map `inline` some may be negative.
        query: row and column of the position that looks.
        grid: of the values.
    """

    layer: str
    feature_map: str | None
    weights: np.ndarray
    query: tuple[int, int]
    grid: Grid


class Geometry:
    """From positions of a map to pixels of the picture.

    A position's place is the centre of what it can see. In a ResNet that is the first pixel for the first position, and
    one stride further for each next one: drawn as 7×7 tiles over 224 pixels, as is usual, every map would lie 16 pixels
    too far to the right and too low.

    Args:
        stride_of: see `Backbone.stride`.
        image_size: height and width of the model's input.
        box: what of the picture it shows.
    """

    def __init__(self, stride_of: Callable[[int], int | None], image_size: tuple[int, int], box: Box) -> None:
        self.stride_of = stride_of
        self.image_size = image_size
        self.box = box

    def grid(self, stage: int, shape: Sequence[int]) -> Grid:
        """Of a map (h, w) that a stage of the backbone ends in."""
        left, top, right, bottom = self.box
        (height, width), (rows, columns) = self.image_size, shape
        stride = self.stride_of(stage)
        return Grid(_centres(rows, height, stride, (top, bottom)), _centres(columns, width, stride, (left, right)))


def _centres(num: int, size: int, stride: int | None, ends: tuple[int, int]) -> np.ndarray:
    """Centres of `num` positions over `size` pixels of the model's input, which lie between two ends in the picture."""
    places = np.arange(num)
    centres = (places + 0.5) * size / num if stride is None else places * stride + 0.5
    start, end = ends
    return start + centres * (end - start) / size


def _places(centres: np.ndarray, start: int, end: int, num: int) -> np.ndarray:
    """Where `num` equal parts of start … end lie among centres: 0 is at the first one, 1.5 between the next two."""
    parts = start + (np.arange(num) + 0.5) * (end - start) / num
    return np.interp(parts, centres, np.arange(len(centres)))
