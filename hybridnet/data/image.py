"""Reading one picture, whatever a phone, a scanner or a drawing program made of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from hybridnet.errors import Fault, InputError

# Only these parsers are opened: every further one is attack surface that photos do not need.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")

# Pillow warns of odd metadata, and of large pictures that are refused here. Set once: changing the filters around each
# picture would not be safe in threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

ORIENTATION = 0x0112  # the number of the EXIF entry
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)


def load_image(path: str | Path) -> np.ndarray:
    """Decode a picture into RGB, upright.

    EXIF orientation is applied, 16 bits per channel are scaled to 8, transparency is composited on white, grey,
    palette and CMYK are converted; of an animation the first frame is taken.

    Args:
        path: a JPEG, PNG, WebP, BMP or TIFF file; the content decides, not the extension.

    Returns:
        uint8 array (H, W, 3), writable.

    Raises:
        InputError: if the file is missing, not one of these formats, damaged, or too large to be decoded safely.
    """
    return np.array(open_rgb(path))


def open_rgb(path: str | Path, *, short_side: int | None = None) -> Image.Image:
    """`load_image` as a Pillow image. With `short_side`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long
    as its short side stays at least that long: much faster for photos that are cropped and resized anyway.
    """
    with _readable(path) as image, _explained(path):
        if short_side:
            image.draft(None, (short_side, short_side))
        image.load()
        return _to_rgb(_upright(image))


class Header(NamedTuple):
    """What a file says of its picture: upright width and height in pixels, Pillow's mode, and the format."""

    width: int
    height: int
    mode: str
    format: str


def read_header(path: str | Path) -> Header:
    """Look at a picture without decoding it.

    Raises:
        InputError: as `load_image`, for what the header shows.
    """
    with _readable(path) as image, _explained(path):
        width, height = image.size
        if _orientation(image) in SIDEWAYS:
            width, height = height, width
        return Header(width, height, image.mode, image.format)


def _readable(path: str | Path) -> Image.Image:
    with _explained(path):
        if Path(path).exists() and not Path(path).is_file():  # opening a named pipe would wait for ever
            raise ValueError("is a folder" if Path(path).is_dir() else "is not a regular file")
        image = Image.open(path, formats=FORMATS)
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            image.close()
            raise Image.DecompressionBombError
        return image


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    """Turns what Pillow raises for a bad file into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Pillow's parsers raise many kinds
        raise InputError(Fault("unreadable image", str(path), _cause(error))) from error


def _cause(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "is none of JPEG, PNG, WebP, BMP and TIFF, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    return str(error) or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    """Pillow's `exif_transpose` without writing the metadata anew, which fails where another entry is damaged."""
    method = UPRIGHT.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata, of which Pillow raises many kinds; the pixels are not: they stand as stored
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("has floating-point pixels, whose range is not known; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("has more than 16 bits per pixel, whose range is not known; save it with 8 or 16 bits")
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
