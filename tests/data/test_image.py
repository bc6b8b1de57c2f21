"""Reading pictures: pixels against values computed by hand, and what is said of files that cannot be read."""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridnet.data.image import load_image, open_rgb, read_header
from hybridnet.errors import InputError

HEIGHT, WIDTH = 7, 11
ORIENTATION = 0x0112
READERS = [load_image, read_header]

Writer = Callable[[Path], np.ndarray]  # writes a picture and returns the RGB that a reader should see


def values(*shape: int, top: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape)


def pixels(*channels: int) -> np.ndarray:
    return values(HEIGHT, WIDTH, *channels).astype(np.uint8)


def as_grey(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def blocks(height: int, width: int, *channels: int, size: int = 16) -> np.ndarray:
    """Squares of one colour, which JPEG keeps."""
    colours = values(height // size, width // size, *channels)
    return np.kron(colours, np.ones((size, size, *[1] * len(channels)), dtype=int)).astype(np.uint8)


def raw(mode: str, array: np.ndarray) -> Image.Image:
    return Image.frombytes(mode, (array.shape[1], array.shape[0]), array.tobytes())


def write_png16(path: Path, samples: np.ndarray, *, colour_type: int) -> None:
    """A PNG with 16 bits per channel, by hand: Pillow writes only grey ones."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = samples.astype(">u2").reshape(len(samples), -1)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, colour_type, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))


def rgb(path: Path) -> np.ndarray:
    Image.fromarray(pixels(3)).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return pixels(3)


def grey(path: Path) -> np.ndarray:
    raw("L", pixels()).save(path)
    return as_grey(pixels())


def grey_alpha(path: Path) -> np.ndarray:
    array = pixels(2)
    raw("LA", array).save(path)
    return on_white(as_grey(array[..., 0]), array[..., 1])


def one_bit(path: Path) -> np.ndarray:
    bits = values(HEIGHT, WIDTH, top=2)
    Image.frombytes("1", (WIDTH, HEIGHT), np.packbits(bits, axis=1).tobytes()).save(path)
    return as_grey(bits * 255)


def palette(path: Path, **options: bytes) -> np.ndarray:
    colours, indices = values(256, 3).astype(np.uint8), pixels()
    image = raw("P", indices)
    image.putpalette(colours.tobytes())
    image.save(path, **options)
    return colours[indices]


def palette_alpha(path: Path) -> np.ndarray:
    alpha = values(256, seed=1).astype(np.uint8)
    return on_white(palette(path, transparency=alpha.tobytes()), alpha[pixels()])


def rgba(path: Path) -> np.ndarray:
    array = pixels(4)
    array[0, :2, 3] = 0, 255  # the ends, where the result must be white or the colour itself
    raw("RGBA", array).save(path, **({"lossless": True, "exact": True} if path.suffix == ".webp" else {}))
    return on_white(array[..., :3], array[..., 3])


def colour_key(path: Path) -> np.ndarray:
    array = pixels(3)
    array[2:4, 1:5] = array[0, 0]
    Image.fromarray(array).save(path, transparency=tuple(int(x) for x in array[0, 0]))
    is_key = (array == array[0, 0]).all(axis=-1)
    assert is_key.sum() == 9
    return np.where(is_key[..., None], 255, array)


def grey_key(path: Path) -> np.ndarray:
    array = pixels()
    raw("L", array).save(path, transparency=int(array[0, 0]))
    return as_grey(np.where(array == array[0, 0], 255, array))


def deep(*channels: int) -> np.ndarray:
    array = values(HEIGHT, WIDTH, *channels, top=65536)
    array.reshape(-1)[:6] = 0, 128, 129, 255, 256, 65535
    return array


def grey16(path: Path) -> np.ndarray:
    Image.fromarray(deep().astype(np.uint16)).save(path)
    return as_grey(np.round(deep() / 257))


def grey16_big_endian(path: Path) -> np.ndarray:
    raw("I;16B", deep().astype(">u2")).save(path)
    return as_grey(np.round(deep() / 257))


def grey16_alpha(path: Path) -> np.ndarray:
    write_png16(path, deep(2), colour_type=4)
    scaled = deep(2) / 257
    return on_white(as_grey(scaled[..., 0]), scaled[..., 1])


def rgb16(path: Path) -> np.ndarray:
    write_png16(path, deep(3), colour_type=2)
    return deep(3) / 257


def cmyk(path: Path) -> np.ndarray:
    array = blocks(48, 64, 4)
    raw("CMYK", array).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    ink = 255 - array.astype(float)
    return ink[..., :3] * ink[..., 3:] / 255


def jpeg(path: Path) -> np.ndarray:
    Image.fromarray(blocks(48, 64, 3)).save(path, format="JPEG", quality=95, subsampling=0)
    return blocks(48, 64, 3)


def jpeg_grey(path: Path) -> np.ndarray:
    raw("L", blocks(48, 64)).save(path, quality=95)
    return as_grey(blocks(48, 64))


def phone_pair(path: Path) -> np.ndarray:
    """MPO: a JPEG with a second one behind it, as phones write."""
    first = Image.fromarray(blocks(48, 64, 3))
    first.save(path, format="MPO", save_all=True, append_images=[first.rotate(180)], quality=95, subsampling=0)
    return blocks(48, 64, 3)


def png(path: Path) -> np.ndarray:
    Image.fromarray(pixels(3)).save(path, format="PNG")
    return pixels(3)


def first_of_two(path: Path) -> np.ndarray:
    first, second = Image.fromarray(pixels(3)), Image.fromarray(255 - pixels(3))
    options = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=[second], **options)
    with Image.open(path) as image:
        assert image.n_frames == 2
    return pixels(3)


@pytest.mark.parametrize(
    ("write", "name", "tolerance"),
    [
        (rgb, "a.png", 0),
        (rgb, "a.bmp", 0),
        (rgb, "a.tif", 0),
        (rgb, "a.webp", 0),
        (grey, "a.png", 0),
        (grey, "a.tif", 0),
        (grey_alpha, "a.png", 1),
        (one_bit, "a.png", 0),
        (one_bit, "a.bmp", 0),
        (one_bit, "a.tif", 0),
        (palette, "a.png", 0),
        (palette, "a.bmp", 0),
        (palette, "a.tif", 0),
        (palette_alpha, "a.png", 1),
        (rgba, "a.png", 1),
        (rgba, "a.tif", 1),
        (rgba, "a.webp", 1),
        (colour_key, "a.png", 0),
        (grey_key, "a.png", 0),
        (grey16, "a.png", 0),
        (grey16, "a.tif", 0),
        (grey16_big_endian, "a.tif", 0),
        (grey16_alpha, "a.png", 1),
        (rgb16, "a.png", 1),
        (cmyk, "a.tif", 1),
        (cmyk, "a.jpg", 6),
        (jpeg, "a.jpg", 3),
        (jpeg, "a.JPEG", 3),
        (jpeg, "without_extension", 3),
        (jpeg, "wrong.png", 3),
        (jpeg, "wrong.txt", 3),
        (jpeg_grey, "a.jpg", 3),
        (phone_pair, "a.jpg", 3),
        (png, "wrong.jpg", 0),
        (png, "with, comma and ü.PNG", 0),
        (first_of_two, "a.png", 0),
        (first_of_two, "a.webp", 0),
        (first_of_two, "a.tif", 0),
    ],
)
def test_pixels(write: Writer, name: str, tolerance: int, tmp_path: Path) -> None:
    expected = write(tmp_path / name)
    found = load_image(tmp_path / name)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    assert found.shape == expected.shape
    # Half a level for the rounding of `expected`, which is not always whole.
    assert np.abs(found - expected.astype(float)).max() <= tolerance + (0.5 if tolerance else 0)
    assert read_header(tmp_path / name)[:2] == (found.shape[1], found.shape[0])


def test_path_may_be_text(tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(str(tmp_path / "a.png")), pixels(3))


# What to do with the stored array so that it stands upright: EXIF 2.32, section 4.6.4, "Orientation".
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def write_oriented(path: Path, orientation: int) -> np.ndarray:
    stored = blocks(48, 64, 3)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}.get(path.suffix, {})
    Image.fromarray(stored).save(path, exif=exif, **options)
    return UPRIGHT[orientation](stored)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp"])
def test_stands_upright(orientation: int, extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{extension}"
    expected = write_oriented(path, orientation)
    found = load_image(path)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected.astype(int), atol=3 if extension == "jpg" else 0)


def exif_entry(tag: int, kind: int, value: bytes) -> bytes:
    return struct.pack("<HHI4s", tag, kind, 1, value)


def exif_block(*entries: bytes, behind: bytes = b"") -> bytes:
    head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4) + behind


SHORT, RATIONAL = 3, 5
TURNED = exif_entry(ORIENTATION, SHORT, b"\x06\0\0\0")
MAKER_AS_FRACTION = exif_entry(0x010F, RATIONAL, struct.pack("<I", 38))


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(b"Exif\0\0" + bytes(range(200)), id="noise"),
        pytest.param(exif_block(TURNED)[:-8], id="cut"),
        pytest.param(b"Exif\0\0II*\0\xff\xff\0\0", id="offset behind the end"),
        pytest.param(exif_block(exif_entry(ORIENTATION, SHORT, b"\x63\0\0\0")), id="no such orientation"),
        pytest.param(exif_block(exif_entry(ORIENTATION, 2, b"6\0\0\0")), id="orientation as text"),
        pytest.param(exif_block(exif_entry(0x8769, 4, b"\xff\xff\0\0")), id="pointer behind the end"),
    ],
)
def test_damaged_exif_leaves_the_picture_as_stored(exif: bytes, extension: str, tmp_path: Path) -> None:
    Image.fromarray(blocks(48, 64, 3)).save(tmp_path / f"a.{extension}", exif=exif)
    assert load_image(tmp_path / f"a.{extension}").shape == (48, 64, 3)


@pytest.mark.parametrize("extension", ["png", "webp"])
def test_exif_that_ends_in_its_header_leaves_the_picture_as_stored(extension: str, tmp_path: Path) -> None:
    Image.fromarray(blocks(48, 64, 3)).save(tmp_path / f"a.{extension}", exif=b"Exif\0\0II*\0")
    assert load_image(tmp_path / f"a.{extension}").shape == (48, 64, 3)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_orientation_counts_though_another_entry_is_damaged(extension: str, tmp_path: Path) -> None:
    exif = exif_block(MAKER_AS_FRACTION, TURNED, behind=struct.pack("<II", 1, 2))
    Image.fromarray(blocks(48, 64, 3)).save(tmp_path / f"a.{extension}", exif=exif)
    assert load_image(tmp_path / f"a.{extension}").shape == (64, 48, 3)


def missing(path: Path) -> None:
    assert not path.exists()


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("<annotation><folder>leaves</folder></annotation>")


def folder(path: Path) -> None:
    path.mkdir()


def gif(path: Path) -> None:
    Image.fromarray(pixels(3)).save(path, format="GIF")


def floats(path: Path) -> None:
    Image.fromarray(pixels().astype(np.float32)).save(path)


def cut(path: Path) -> None:
    Image.fromarray(values(64, 64, 3).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


NO_PICTURE = "is none of JPEG, PNG, WebP, BMP and TIFF"


@pytest.mark.parametrize(
    ("write", "name", "cause", "readers"),
    [
        (missing, "a.jpg", "no such file", READERS),
        (empty, "a.jpg", NO_PICTURE, READERS),
        (text, "a.jpg", NO_PICTURE, READERS),
        (folder, "a.jpg", "is a folder", READERS),
        (gif, "a.gif", NO_PICTURE, READERS),
        (gif, "a.png", NO_PICTURE, READERS),
        (floats, "a.tif", "floating-point pixels", [load_image]),
        (cut, "a.jpg", "truncated", [load_image]),
        (cut, "a.png", "truncated", [load_image]),
        (cut, "a.bmp", "truncated", [load_image]),
        (cut, "a.webp", ".", READERS),  # libwebp does not say why
        (cut, "a.tif", ".", [load_image]),
    ],
)
def test_bad_file_is_named(
    write: Callable[[Path], None], name: str, cause: str, readers: list[Callable], tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path)
    for read in readers:
        with pytest.raises(InputError, match=cause) as error:
            read(path)
        assert [(fault.what, fault.where) for fault in error.value.faults] == [("unreadable image", str(path))]


@pytest.mark.parametrize("limit", [HEIGHT * WIDTH - 1, HEIGHT * WIDTH // 3], ids=["a little", "far"])
@pytest.mark.parametrize("read", READERS)
def test_too_many_pixels_are_refused(
    read: Callable, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    png(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match=rf"a\.png: has more than {limit} pixels"):
        read(tmp_path / "a.png")


def test_header_is_enough_for_the_size(tmp_path: Path) -> None:
    cut(tmp_path / "a.jpg")
    assert read_header(tmp_path / "a.jpg")[:2] == (64, 64)


class Meeting(os.PathLike):
    """A path that runs `when_opened` while the file is being opened."""

    def __init__(self, path: Path, when_opened: Callable[[], object]) -> None:
        self.path, self.when_opened = path, when_opened

    def __fspath__(self) -> str:
        self.when_opened()
        return str(self.path)


def test_reading_in_threads_leaves_the_warnings_as_they_were(tmp_path: Path) -> None:
    """Two reads overlap, and the one that began first ends first."""
    png(tmp_path / "a.png")
    first_began, second_began, first_ended = (threading.Event() for _ in range(3))

    def first_opened() -> None:
        first_began.set()
        assert second_began.wait(10)

    def second_opened() -> None:
        second_began.set()
        assert first_ended.wait(10)

    before = list(warnings.filters)
    first = threading.Thread(target=read_header, args=[Meeting(tmp_path / "a.png", first_opened)])
    second = threading.Thread(target=read_header, args=[Meeting(tmp_path / "a.png", second_opened)])
    first.start()
    assert first_began.wait(10)
    second.start()
    first.join(10)
    first_ended.set()
    second.join(10)
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("short_side", "expected"),
    [(60, (80, 60)), (61, (160, 120)), (100, (160, 120)), (121, (320, 240)), (241, (640, 480)), (900, (640, 480))],
)
def test_large_jpeg_is_decoded_smaller_but_not_too_small(
    short_side: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    colours = blocks(480, 640, 3, size=80)
    Image.fromarray(colours).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    image = open_rgb(tmp_path / "a.jpg", short_side=short_side)
    assert (image.mode, image.size) == ("RGB", expected)
    step = 640 // image.width
    middles = np.asarray(image)[40 // step :: 80 // step, 40 // step :: 80 // step]
    np.testing.assert_allclose(middles, colours[40::80, 40::80].astype(int), atol=3)


def test_smaller_jpeg_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    colours = blocks(480, 640, 3, size=80)
    Image.fromarray(colours).save(tmp_path / "a.jpg", quality=95, subsampling=0, exif=exif)
    found = np.asarray(open_rgb(tmp_path / "a.jpg", short_side=100))
    assert found.shape == (160, 120, 3)
    np.testing.assert_allclose(found[10::20, 10::20], np.rot90(colours[40::80, 40::80], -1).astype(int), atol=3)


def test_only_jpeg_is_decoded_smaller(tmp_path: Path) -> None:
    png(tmp_path / "a.png")
    assert open_rgb(tmp_path / "a.png", short_side=1).size == (WIDTH, HEIGHT)
