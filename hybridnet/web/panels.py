"""The maps of an explanation as small pictures with words, for a page that a phone shows in two columns."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from hybridnet.inference.explanation import Explanation
from hybridnet.inference.explanation_figure import EVIDENCE, GATE, GREYS, WEIGHT, scale_around, signed
from hybridnet.inference.maps import Box, Grid
from hybridnet.inference.sheet import OPACITY

SIDE = 360  # pixels of a map's longer side
PICTURE_SIDE = 640  # at most
LEAST_PICTURE_SIDE = 240  # smaller ones are enlarged
QUALITY = 90  # of JPEG
CROSS = 9  # pixels of an arm


class Scale(NamedTuple):
    """What the colours of a map mean, from left to right.

    Attributes:
        image: data URL of the colours.
        words: of the left end, the middle and the right end; empty where there is nothing to say.
    """

    image: str
    words: tuple[str, str, str]


class Panel(NamedTuple):
    """One picture of the page.

    Attributes:
        title: above it.
        text: below it.
        image: data URL.
        scale: of its colours; None for the photo.
    """

    title: str
    text: str
    image: str
    scale: Scale | None


def of_picture(picture: np.ndarray, box: Box) -> Panel:
    """The photo uint8 (H, W, 3), with a frame around the box that the model sees."""
    image = Image.fromarray(picture)
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    if (times := LEAST_PICTURE_SIDE // max(image.size)) > 1:
        image = image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
    height, width = picture.shape[:2]
    is_whole = tuple(box) == (0, 0, width, height)
    if not is_whole:
        scales = (image.width / width, image.height / height) * 2
        left, top, right, bottom = (round(place * scale) for place, scale in zip(box, scales, strict=True))
        frame = (left, top, max(left, right - 1), max(top, bottom - 1))
        draw = ImageDraw.Draw(image)
        draw.rectangle(frame, outline="black", width=4)  # black and white: seen on any picture
        draw.rectangle(frame, outline="white", width=2)
    text = "The model sees all of it." if is_whole else "The model sees what is within the frame."
    return Panel("The picture", text, _jpeg(image), None)


def of_explanation(explanation: Explanation) -> list[Panel]:
    """The photo and all maps over the part of it that the model has seen."""
    crop = _Crop(explanation)
    photo = of_picture(explanation.picture, explanation.box)
    return [photo, *_cams(explanation, crop), *_gates(explanation, crop), *_attention(explanation, crop)]


def caveat(explanation: Explanation) -> str:
    """What the maps show, and what they do not."""
    rows, columns = explanation.cams[0].values.shape
    text = (
        f"The maps show where the model finds what speaks for “{explanation.prediction.label}”. They do not show what "
        "it recognises there, nor whether it is right: a wrong answer has maps too. "
        f"A map has only {rows}×{columns} points, with smooth transitions drawn between them."
    )
    return text + (f" This model has no {' and no '.join(explanation.missing)}." if explanation.missing else "")


def _cams(explanation: Explanation, crop: _Crop) -> Iterator[Panel]:
    for cam in explanation.cams:
        most = cam.values.max()
        text = f"Grad-CAM at {cam.layer}" + ("" if most > 0 else ": nothing there speaks for it")
        colours = _Colours(EVIDENCE, 0.0, float(most) or 1.0)
        scale = colours.scale(0.0, ("none", "", "most"))
        yield Panel(f"Evidence for “{cam.label}”", text, _jpeg(crop.under(cam.values, cam.grid, colours)), scale)


def _gates(explanation: Explanation, crop: _Crop) -> Iterator[Panel]:
    gates = explanation.gates
    if gates is None:
        return
    colours = _Colours(GATE, *scale_around(gates.neutral**2, gates.product))
    text = f"Weakens and strengthens places of the map; it changes its input by {gates.change:.1%}."
    image = _jpeg(crop.under(gates.product, gates.grid, colours))
    yield Panel("Coordinate Attention", text, image, colours.factors(gates.product.min()))


def _attention(explanation: Explanation, crop: _Crop) -> Iterator[Panel]:
    """One scale for all heads; 1 is the weight that every position would have if the head did not choose."""
    attention = explanation.attention
    if attention is None:
        return
    weights = attention.weights * attention.weights[0].size
    colours = _Colours(WEIGHT, *scale_around(1.0, weights))
    row, column = attention.query
    place = (attention.grid.columns[column], attention.grid.rows[row])
    for number, head in enumerate(weights, start=1):
        low, high = (signed(value) for value in (head.min(), head.max()))
        text = f"From the cross it looks at places with {low} to {high} times the mean weight."
        image = crop.under(head, attention.grid, colours)
        crop.cross(image, place)
        yield Panel(
            f"{attention.layer}, head {number} of {len(weights)}", text, _jpeg(image), colours.factors(weights.min())
        )


class _Colours:
    """From values to colours.

    Args:
        name: of matplotlib's colour map.
        low, high: values of its ends.
    """

    def __init__(self, name: str, low: float, high: float) -> None:
        self.map = matplotlib.colormaps[name]
        self.low, self.high = low, high

    def over(self, grey: np.ndarray | float, values: np.ndarray) -> Image.Image:
        """The colours of values (h, w), half transparent over grey in [0, 1]."""
        colour = self.map((values - self.low) / (self.high - self.low))[..., :3]  # (h, w, 3)
        mixed = (1 - OPACITY) * np.broadcast_to(grey, values.shape)[..., None] + OPACITY * colour
        return Image.fromarray((255 * mixed).round().astype(np.uint8))

    def scale(self, low: float, words: tuple[str, str, str]) -> Scale:
        """From `low` to the upper end."""
        return Scale(_jpeg(self.over(sum(GREYS) / 2, np.linspace(low, self.high, 128)[None])), words)

    def factors(self, least: float) -> Scale:
        """Of factors; below 0 only where there are such ones."""
        low = self.low if least < 0 else max(0.0, self.low)
        return self.scale(low, tuple(f"×{signed(value)}" for value in (low, (low + self.high) / 2, self.high)))


class _Crop:
    """The part of the picture that the model sees, in grey."""

    def __init__(self, explanation: Explanation) -> None:
        self.box = left, top, right, bottom = explanation.box
        scale = SIDE / max(right - left, bottom - top)
        width, height = (max(1, round(side * scale)) for side in (right - left, bottom - top))
        self.size = (height, width)
        image = Image.fromarray(explanation.picture[top:bottom, left:right]).convert("L")
        darkest, brightest = GREYS
        self.grey = darkest + np.asarray(image.resize((width, height))) / 255 * (brightest - darkest)

    def under(self, values: np.ndarray, grid: Grid, colours: _Colours) -> Image.Image:
        """A map (h, w) over the crop."""
        return colours.over(self.grey, grid.spread(values, self.box, size=self.size))

    def cross(self, image: Image.Image, place: tuple[float, float]) -> None:
        """Mark a place of the picture, x and y in its pixels."""
        left, top, right, bottom = self.box
        x = min(max((place[0] - left) / (right - left) * self.size[1], CROSS), self.size[1] - CROSS)
        y = min(max((place[1] - top) / (bottom - top) * self.size[0], CROSS), self.size[0] - CROSS)
        draw = ImageDraw.Draw(image)
        for colour, arm, line in (("black", CROSS, 5), ("white", CROSS - 2, 2)):
            draw.line((x - arm, y, x + arm, y), fill=colour, width=line)
            draw.line((x, y - arm, x, y + arm), fill=colour, width=line)


def _jpeg(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
