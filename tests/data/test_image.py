"""Reading pictures: pixels against values computed by hand, and what is said of files that cannot be read."""

from __future__ import annotations

import errno
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

from hybridnet.data.image import load_image, load_reduced, open_rgb, read_header, reduced_size
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


GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # PNG's colour types


def write_png(path: Path, samples: np.ndarray, *, bits: int, colour_type: int, **chunks: bytes) -> None:
    """A PNG with any number of bits per channel, by hand: Pillow writes few of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = samples.astype(">u2").reshape(len(samples), -1)
    digits = np.unpackbits(rows.view(np.uint8).reshape(*rows.shape, 2), axis=-1)[..., 16 - bits :]
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, colour_type, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + np.packbits(row).tobytes() for row in digits))
    parts = (
        {b"IHDR": header} | {name.encode(): part for name, part in chunks.items()} | {b"IDAT": content, b"IEND": b""}
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, part) for kind, part in parts.items()))


MIN_IS_WHITE, MIN_IS_BLACK, TRUE_COLOUR, INKS = 0, 1, 2, 5  # TIFF's photometric interpretations
PREMULTIPLIED, STRAIGHT = 1, 2  # TIFF's kinds of alpha


def write_tiff(
    path: Path, samples: np.ndarray, *, photometric: int, alpha: int | None = None, is_packed: bool = False
) -> None:
    """An uncompressed TIFF with 8 or 16 bits per channel in the byte order of `samples`, or 12 bits, by hand."""
    data, depth = (packed(samples), 12) if is_packed else (samples.tobytes(), samples.itemsize * 8)
    order = ">" if samples.dtype.str[0] == ">" else "<"
    height, width, channels = samples.shape
    wide, short = 4, 3
    entries = [
        (256, wide, [width]),
        (257, wide, [height]),
        (258, short, [depth] * channels),
        (259, short, [1]),
        (262, short, [photometric]),
        (273, wide, [0]),  # where the pixels begin, known below
        (277, short, [channels]),
        (278, wide, [height]),
        (279, wide, [len(data)]),
        *([(338, short, [alpha])] if alpha else []),
    ]
    contents = [struct.pack(f"{order}{len(v)}{'H' if kind == short else 'I'}", *v) for _, kind, v in entries]
    start = 8 + 2 + 12 * len(entries) + 4
    contents[5] = struct.pack(f"{order}I", start + sum(len(content) for content in contents if len(content) > 4))
    listed, behind = b"", b""
    for (tag, kind, found), content in zip(entries, contents, strict=True):
        is_long = len(content) > 4
        place = struct.pack(f"{order}I", start + len(behind)) if is_long else content.ljust(4, b"\0")
        listed += struct.pack(f"{order}HHI", tag, kind, len(found)) + place
        behind += content if is_long else b""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    path.write_bytes(head + listed + bytes(4) + behind + data)


def packed(samples: np.ndarray) -> bytes:
    """Numbers of 12 bits, one behind the other; every row begins with a byte of its own."""
    bits = samples[:, :, 0, None] >> np.arange(11, -1, -1) & 1
    return np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


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
    write_png(path, deep(2), bits=16, colour_type=GREY_ALPHA)
    scaled = deep(2) / 257
    return on_white(as_grey(scaled[..., 0]), scaled[..., 1])


def rgb16(path: Path) -> np.ndarray:
    write_png(path, deep(3), bits=16, colour_type=RGB)
    return deep(3) / 257


def rgba16(path: Path) -> np.ndarray:
    write_png(path, deep(4), bits=16, colour_type=RGB_ALPHA)
    scaled = deep(4) / 257
    return on_white(scaled[..., :3], scaled[..., 3])


def few_greys(bits: int) -> Writer:
    def write(path: Path) -> np.ndarray:
        array = values(HEIGHT, WIDTH, top=2**bits)
        write_png(path, array, bits=bits, colour_type=GREY)
        return as_grey(array * 255 / (2**bits - 1))

    return write


def few_colours(bits: int, *, has_alpha: bool) -> Writer:
    def write(path: Path) -> np.ndarray:
        array = values(HEIGHT, WIDTH, top=2**bits)
        colours, alpha = values(2**bits, 3).astype(np.uint8), values(2**bits, seed=1).astype(np.uint8)
        chunks = {"PLTE": colours.tobytes()} | ({"tRNS": alpha.tobytes()} if has_alpha else {})
        write_png(path, array, bits=bits, colour_type=PALETTE, **chunks)
        return on_white(colours[array].astype(float), alpha[array]) if has_alpha else colours[array]

    return write


def tiff16(order: str, photometric: int) -> Writer:
    def write(path: Path) -> np.ndarray:
        array = deep(4 if photometric == INKS else 3)
        write_tiff(path, array.astype(f"{order}u2"), photometric=photometric)
        scaled = array / 257
        return scaled if photometric == TRUE_COLOUR else (255 - scaled[..., :3]) * (255 - scaled[..., 3:]) / 255

    return write


def tiff16_alpha(path: Path) -> np.ndarray:
    write_tiff(path, deep(4).astype("<u2"), photometric=TRUE_COLOUR, alpha=STRAIGHT)
    scaled = deep(4) / 257
    return on_white(scaled[..., :3], scaled[..., 3])


def tiff_premultiplied(path: Path) -> np.ndarray:
    array = pixels(4).astype(int)
    array[..., :3] = array[..., :3] * array[..., 3:] // 255
    write_tiff(path, array.astype(np.uint8), photometric=TRUE_COLOUR, alpha=PREMULTIPLIED)
    return array[..., :3] + 255.0 - array[..., 3:]


def tiff_white_is_zero(path: Path) -> np.ndarray:
    write_tiff(path, pixels(1), photometric=MIN_IS_WHITE)
    return as_grey(255 - pixels(1)[..., 0])


def tiff16_white_is_zero(path: Path) -> np.ndarray:
    write_tiff(path, deep(1).astype("<u2"), photometric=MIN_IS_WHITE)
    return as_grey(255 - deep(1)[..., 0] / 257)


def tiff12(path: Path) -> np.ndarray:
    samples = values(HEIGHT, WIDTH, 1, top=4096)
    samples[0, :2, 0] = 0, 4095
    write_tiff(path, samples, photometric=MIN_IS_BLACK, is_packed=True)
    return as_grey(samples[..., 0] * 255 / 4095)


def grey16_one_transparent(path: Path) -> np.ndarray:
    samples = deep(1)
    value = int(samples[0, 0, 0])
    write_png(path, samples, bits=16, colour_type=0, tRNS=value.to_bytes(2, "big"))
    return as_grey(np.where(samples[..., 0] == value, 255.0, samples[..., 0] / 257))


def rgba_first_of_two(path: Path) -> np.ndarray:
    first, second = raw("RGBA", pixels(4)), raw("RGBA", 255 - pixels(4))
    options = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=[second], **options)
    return on_white(pixels(4)[..., :3], pixels(4)[..., 3])


def jpeg_progressive(path: Path) -> np.ndarray:
    Image.fromarray(blocks(48, 64, 3)).save(path, progressive=True, quality=95, subsampling=0)
    return blocks(48, 64, 3)


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
        (rgba16, "a.png", 1),
        (few_greys(1), "a.png", 0),
        (few_greys(2), "a.png", 0),
        (few_greys(4), "a.png", 0),
        (few_colours(2, has_alpha=False), "a.png", 0),
        (few_colours(4, has_alpha=False), "a.png", 0),
        (few_colours(4, has_alpha=True), "a.png", 1),
        (tiff16("<", TRUE_COLOUR), "a.tif", 1),
        (tiff16(">", TRUE_COLOUR), "a.tif", 1),
        (tiff16("<", INKS), "a.tif", 1),
        (tiff16_alpha, "a.tif", 1),
        (tiff_premultiplied, "a.tif", 1),
        (tiff_white_is_zero, "a.tif", 0),
        (tiff16_white_is_zero, "a.tif", 0.5),
        (tiff12, "a.tif", 0.5),
        (grey16_one_transparent, "a.png", 0.5),
        (grey_alpha, "a.tif", 1),
        (cmyk, "a.tif", 1),
        (cmyk, "a.jpg", 6),
        (jpeg, "a.jpg", 3),
        (jpeg, "a.JPEG", 3),
        (jpeg, "without_extension", 3),
        (jpeg, "wrong.png", 3),
        (jpeg, "wrong.txt", 3),
        (jpeg_grey, "a.jpg", 3),
        (jpeg_progressive, "a.jpg", 3),
        (phone_pair, "a.jpg", 3),
        (png, "wrong.jpg", 0),
        (png, "with, comma and ü.PNG", 0),
        (first_of_two, "a.png", 0),
        (first_of_two, "a.webp", 0),
        (first_of_two, "a.tif", 0),
        (rgba_first_of_two, "a.png", 1),
        (rgba_first_of_two, "a.webp", 1),
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


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere.jpg")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(4096))  # what is left of a file when the power fails


def cut_in_header(path: Path) -> None:
    Image.fromarray(pixels(3)).save(path)
    path.write_bytes(path.read_bytes()[:16])


def bomb(path: Path) -> None:
    Image.new("1", (30_000, 3_000)).save(path)


def gif(path: Path) -> None:
    Image.fromarray(pixels(3)).save(path, format="GIF")


def beginning(head: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(head + bytes(999))


HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
OTHERS = [
    *[(b"\0\0\0\x18ftyp%b\0\0\0\0mif1heic" % brand, "HEIC") for brand in HEIC_BRANDS],
    (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
    (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51\0", "JPEG 2000"),
]


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
        (empty, "a.jpg", "is empty", READERS),
        *[(empty, f"a.{kind}", "is empty", READERS) for kind in ("png", "webp", "bmp", "tif", "txt")],
        *[(cut_in_header, f"a.{kind}", ".", READERS) for kind in ("jpg", "png", "webp", "bmp", "tif")],
        *[(bomb, f"a.{kind}", "has more than 89,478,485 pixels", READERS) for kind in ("png", "bmp", "tif")],
        (zeros, "a.jpg", NO_PICTURE, READERS),
        (pipe, "a.jpg", "is not a regular file", READERS),
        (link_to_nothing, "a.jpg", "no such file", READERS),
        (text, "a.jpg", NO_PICTURE, READERS),
        (folder, "a.jpg", "is a folder", READERS),
        (gif, "a.gif", "is GIF, which is not read; convert it to JPEG", READERS),
        (gif, "a.png", "is GIF, which", READERS),
        *[(beginning(head), "a.jpg", f": is {kind}, which is not read; convert it", READERS) for head, kind in OTHERS],
        (beginning(b"\0\0\0\x18ftypmp42"), "a.jpg", NO_PICTURE, READERS),  # a film
        (beginning(b"photos: heic"), "a.jpg", NO_PICTURE, READERS),
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


@pytest.mark.parametrize("read", READERS)
def test_what_the_system_refuses_is_told_without_its_number(
    read: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read every file: the system's answer is made here."""
    png(tmp_path / "a.png")

    def refuse(path: Path, **settings: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.png")
    assert error.value.faults[0].cause == "Permission denied"


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


# What crops need of a picture


def save_turned(image: Image.Image, path: Path, orientation: int, **settings: object) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif, **settings)


REDUCED_FORMATS = ("jpg", "png", "tif", "webp", "bmp")
REDUCED_MODES = {"jpg": ("RGB", "L", "CMYK"), "png": ("RGB", "L", "RGBA", "P", "I;16"), "tif": ("RGB", "CMYK")}


@pytest.mark.parametrize("extension", REDUCED_FORMATS)
def test_reduced_size_is_that_of_the_reduced_picture(extension: str, tmp_path: Path) -> None:
    """And that size keeps the shape, is never larger than the picture, nor smaller than crops need."""
    rng = np.random.default_rng(REDUCED_FORMATS.index(extension))
    num_smaller, path = 0, tmp_path / f"a.{extension}"
    for number in range(120):
        height, width = (int(side) for side in np.exp(rng.uniform(0, np.log(400), 2)))
        crop_side = int(np.exp(rng.uniform(0, np.log(100))))
        short_side = crop_side + int(rng.integers(0, 10))
        modes = REDUCED_MODES.get(extension, ("RGB",))
        mode, orientation = modes[number % len(modes)], number % 9
        image = Image.new(mode, (width, height))
        if extension == "bmp":  # has no EXIF
            image.save(path)
        else:
            save_turned(image, path, orientation)
            if orientation in (5, 6, 7, 8):
                height, width = width, height

        size = reduced_size(path, crop_side=crop_side, short_side=short_side)
        case = f"{height}×{width} {mode}, orientation {orientation}, {crop_side} to {short_side}: {size}"
        reduced = load_reduced(path, crop_side=crop_side, short_side=short_side)
        assert (reduced.shape, reduced.dtype) == ((*size, 3), np.uint8), case
        assert min(crop_side, height, width) <= min(size) <= min(short_side, height, width), case
        assert size == (height, width) or extension == "jpg" or min(size) == short_side, case
        # A JPEG at 1/8 has a pixel for every begun block of eight, up to 7/8 too many; the long side is rounded.
        scales = [side / whole for side, whole in zip(size, (height, width), strict=True)]
        slack = 7 / 8 * max(height, width) / min(height, width) if extension == "jpg" else 0
        assert abs(scales[0] - scales[1]) * max(height, width) <= 0.501 + slack, case
        num_smaller += size != (height, width)
    assert 20 < num_smaller < 100


def test_reduced_jpeg_is_decoded_smaller_and_then_resized(tmp_path: Path) -> None:
    """By hand: 112 pixels at 1/4 are 28 >= 24, at 1/8 they would be 14; 28 are more than the 26 that are wanted."""
    path = tmp_path / "a.jpg"
    Image.fromarray(blocks(112, 160, 3)).save(path, quality=95)
    with Image.open(path) as image:
        image.draft("RGB", (40, 28))
        quarter = image.copy()
    assert quarter.size == (40, 28)
    np.testing.assert_array_equal(load_reduced(path, crop_side=24, short_side=28), np.asarray(quarter))
    resized = quarter.resize((37, 26), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(load_reduced(path, crop_side=24, short_side=26), np.asarray(resized))


def test_reduced_picture_is_the_whole_one(tmp_path: Path) -> None:
    """Means of blocks stay where they were, upright."""
    colours = blocks(96, 128, 3, size=32)
    save_turned(Image.fromarray(colours), tmp_path / "a.png", 6)
    reduced = load_reduced(tmp_path / "a.png", crop_side=20, short_side=24).astype(int)
    assert reduced.shape == (32, 24, 3)
    upright = np.rot90(colours, -1)
    np.testing.assert_allclose(reduced[4::8, 4::8], upright[16::32, 16::32], atol=6)


def test_small_picture_stays_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_reduced(tmp_path / "a.png", crop_side=24, short_side=28), pixels(3))
    np.testing.assert_array_equal(load_reduced(tmp_path / "a.png", crop_side=5, short_side=HEIGHT), pixels(3))


@pytest.mark.parametrize("read", [load_reduced, reduced_size])
@pytest.mark.parametrize("write", [missing, empty, text, folder, pipe])
def test_what_cannot_be_reduced_is_named(
    read: Callable[..., object], write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "leaf.jpg"
    write(path)
    with pytest.raises(InputError) as error:
        read(path, crop_side=24, short_side=28)
    assert (error.value.faults[0].what, error.value.faults[0].where) == ("unreadable image", str(path))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_header_of_a_turned_tiff_tells_its_upright_size(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    save_turned(Image.fromarray(pixels(3)), path, orientation)
    assert load_image(path).shape[:2] == (WIDTH, HEIGHT)
    assert read_header(path)[:2] == (HEIGHT, WIDTH)
    assert reduced_size(path, crop_side=24, short_side=28) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_plain_tiff_stands_upright_like_a_packed_one(mode: str, orientation: int, tmp_path: Path) -> None:
    image = Image.fromarray(pixels(3)).convert(mode)
    save_turned(image, tmp_path / "plain.tif", orientation)
    save_turned(image, tmp_path / "packed.tif", orientation, compression="tiff_lzw")
    np.testing.assert_array_equal(load_image(tmp_path / "plain.tif"), load_image(tmp_path / "packed.tif"))
