"""The drawing kit of all pictures: colours, texts that fit, and how a figure becomes a PNG."""

from __future__ import annotations

import warnings
import zlib
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from hybridnet import fonts
from hybridnet.files import replacing

matplotlib.rcParams["text.parse_math"] = False  # a class may be called "$5 or $10"

# Okabe and Ito's colours: distinct in print and for the colour-blind.
TRAIN, VALID, RATE, BEST = "#0072B2", "#D55E00", "#009E73", "#555555"
DPI = 200
STYLE = {"color": "#333333", "fontsize": 10}


def short(name: str, limit: int) -> str:
    """The name, cut off with an ellipsis where it is longer than `limit`."""
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def short_inside(name: str, limit: int) -> str:
    """The name, cut in its middle where it is longer than `limit`: many classes begin alike and end differently."""
    if len(name) <= limit:
        return name
    ending = (limit - 1) // 2
    return f"{name[: limit - 1 - ending]}…{name[len(name) - ending :]}"


def fitted(text: str, width: float, size: float, *, cut: Callable[[str, int], str] = short) -> str:
    """The text, cut with an ellipsis where it is wider than `width` inches: at its end, or by `short_inside`."""
    if fonts.width(text, size) <= width:
        return text
    limits = range(1, len(text))
    return cut(text, bisect_right(limits, width, key=lambda limit: fonts.width(cut(text, limit), size)) or 1)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """The text in lines that are no wider than `width` inches; a word that is wider is cut off."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if fonts.width(longer, size) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [fitted(line, width, size) for line in lines]


def save(figure: Figure, path: Path) -> None:
    """Draw a figure and write it as PNG."""
    write(drawn(figure), path)


def write(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG."""
    with replacing(path) as stream:
        # Flat areas: the search for other repetitions than runs would take longer and find nothing.
        picture.save(stream, format="png", compress_type=zlib.Z_RLE)


def drawn(figure: Figure) -> Image.Image:
    """A figure as an RGB picture, every letter in a font that has it."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box stands for it; the rest is right
        canvas.draw()  # once, where savefig draws twice
        texts = figure.findobj(Text)
        families = fonts.families("".join(text.get_text() for text in texts))
        if len(families) > 1:
            for text in texts:
                text.set_fontfamily(families)
            canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def show(path: Path) -> bool:
    """Open a picture in the desktop's viewer; False where there is none."""
    with Image.open(path) as image:
        return image.show(title=path.name) is not False
