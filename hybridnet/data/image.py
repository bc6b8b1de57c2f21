"""Reading one picture, whatever a phone, a scanner or a drawing program made of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hybridnet.errors import Fault, InputError

# Only these parsers are opened: every further one is attack surface that photos do not need.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
MISSING = "no such file"
CONVERT = "which is not read; convert it to JPEG"

# Pillow warns of odd metadata, and of large pictures that are refused here. Set once: changing the filters around each
# picture would not be safe in threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
OTHER_FORMATS = {
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",  # without a container
}

ORIENTATION = 0x0112  # numbers of EXIF and TIFF entries
BITS = 0x0102
PHOTOMETRIC, WHITE_IS_ZERO = 0x0106, 0
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


def load_reduced(path: str | Path, *, crop_side: int, short_side: int) -> np.ndarray:
    """`load_image`, no larger than crops of it need: the short side is at most `short_side`.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that leaves its short side at `crop_side` or more, which is
    several times faster; only what is still larger than `short_side` is resized.

    Returns:
        uint8 array (H, W, 3), of the size that `reduced_size` tells.
    """
    return np.asarray(shrunk(open_rgb(path, short_side=crop_side), short_side=short_side))


def shrunk(image: Image.Image, *, short_side: int) -> Image.Image:
    """The picture with a short side of at most `short_side`."""
    size = _fitted(image.size, short_side)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)


def thumbnail(path: str | Path, side: int) -> np.ndarray:
    """The whole picture in a grey square, uint8 (side, side, 3)."""
    image = open_rgb(path, short_side=side)
    method = Image.Resampling.NEAREST if max(image.size) < side // 2 else Image.Resampling.BICUBIC
    return np.asarray(ImageOps.pad(image, (side, side), method=method, color="#EEEEEE"))


def reduced_size(path: str | Path, *, crop_side: int, short_side: int) -> tuple[int, int]:
    """Height and width of what `load_reduced` returns, without decoding it."""
    with _readable(path) as image, _explained(path):
        image.draft(None, (crop_side, crop_side))
        width, height = _fitted(image.size, short_side)
        return (width, height) if _is_sideways(image) else (height, width)


def open_rgb(path: str | Path, *, short_side: int | None = None) -> Image.Image:
    """`load_image` as a Pillow image. With `short_side`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long
    as its short side stays at least that long: much faster for photos that are cropped and resized anyway.
    """
    with _readable(path) as image, _explained(path):
        if short_side:
            image.draft(None, (short_side, short_side))
        image.load()
        return to_rgb(upright(image))


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
        if _is_sideways(image):
            width, height = height, width
        return Header(width, height, image.mode, image.format)


def _fitted(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Width and height of the same shape whose short side is at most `short_side`."""
    scale = min(1.0, short_side / min(size))
    return tuple(max(1, round(side * scale)) for side in size)


def _readable(path: str | Path) -> Image.Image:
    with _explained(path):
        if Path(path).exists() and not Path(path).is_file():  # opening a named pipe would wait for ever
            raise ValueError(_folder(path) if Path(path).is_dir() else "is not a regular file")
        if not Path(path).stat().st_size:
            raise ValueError("is empty (0 bytes)")
        image = Image.open(path, formats=FORMATS)
        image.filename = ""  # else Pillow maps a plain TIFF, and reads its rows in the length of the turned ones
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
        raise InputError(Fault("unreadable image", str(path), _cause(error, path))) from error


def _folder(path: str | Path) -> str:
    try:
        os.scandir(path).close()
    except OSError as error:
        return f"is a folder that cannot be looked into ({error.strerror})"
    return "is a folder"


def _cause(error: Exception, path: str | Path) -> str:
    if isinstance(error, FileNotFoundError):
        return MISSING
    if isinstance(error, UnidentifiedImageError):
        if kind := _other_format(path):
            return f"is {kind}, {CONVERT}"
        return "is none of JPEG, PNG, WebP, BMP and TIFF, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels; save it smaller"
    if isinstance(error, OSError) and error.strerror:  # else the path is told twice
        return error.strerror
    return str(error) or type(error).__name__


def _other_format(path: str | Path) -> str | None:
    """The picture format of a file by its first bytes, as far as phones and the web use it and it is not read."""
    with Path(path).open("rb") as stream:
        head = stream.read(64)
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        return "AVIF" if b"avi" in head[8:] else "HEIC"  # mif1 may be either: the brands behind it tell
    return next((kind for start, kind in OTHER_FORMATS.items() if head.startswith(start)), None)


def upright(image: Image.Image) -> Image.Image:
    """Pillow's `exif_transpose` without writing the metadata anew, which fails where another entry is damaged."""
    method = UPRIGHT.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _is_sideways(image: Image.Image) -> bool:
    """Whether the header's width is the height; Pillow has turned a TIFF's already."""
    return image.format != "TIFF" and _orientation(image) in SIDEWAYS


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata, of which Pillow raises many kinds; the pixels are not: they stand as stored
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """8 bits in red, green and blue, whatever the mode; transparency is composited on white.

    Raises:
        ValueError: for pixels whose range is not known.
    """
    if image.mode == "F":
        raise ValueError("has floating-point pixels, whose range is not known; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _grey_of_16_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _grey_of_16_bits(image: Image.Image) -> Image.Image:
    deep = np.asarray(image).astype(np.int64)
    tags = image.tag_v2 if image.format == "TIFF" else {}
    white = 4095 if tags.get(BITS) == (12,) else 65535
    if deep.min() < 0 or deep.max() > white:
        raise ValueError("has more than 16 bits per pixel, whose range is not known; save it with 8 or 16 bits")
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        deep = white - deep  # Pillow does so for 8 bits only
    deep[deep == image.info.get("transparency", -1)] = white  # the one transparent value of a PNG, on white
    return Image.fromarray(((255 * deep + white // 2) // white).astype(np.uint8)).convert("RGB")
