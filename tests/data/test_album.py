"""Every picture of a table: what is wrong with each file, told with the right cause, and which are one picture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridnet.data import album
from hybridnet.data.album import Album, disguised, look_at_all
from hybridnet.data.rows import Row

FORMATS = ["jpg", "png", "webp", "bmp", "tif"]


def picture(seed: int = 0, *, mode: str = "RGB", side: int = 8) -> Image.Image:
    """Squares of random colours, 64×48 with the default: no two alike, also when scaled, rotated or mirrored."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(np.kron(colours, np.ones((side, side, 1), dtype=np.uint8))).convert(mode)


def rows_of(*paths: str) -> list[Row]:
    return [Row(line, path, "leaf", "train", None, None) for line, path in enumerate(paths, 2)]


def silent(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    return items


def album_of(folder: Path, *paths: str) -> Album:
    return look_at_all(rows_of(*paths), folder, track=silent)


@pytest.mark.usefixtures("in_processes")
def test_processes_read_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(album, "open_rgb", None)  # in this process
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    picture(0).save(tmp_path / "copy.webp", lossless=True)
    found = album_of(tmp_path, "0.png", "1.png", "missing.png", "2.png", "copy.webp")
    assert (sorted(found.pictures), found.causes, found.copies) == ([0, 1, 3, 4], {2: "no such file"}, [[0, 4]])
    assert [found.pictures[4].header.format, found.pictures[4].header.width] == ["WEBP", 64]


def missing(path: Path) -> None:
    assert not path.exists()


def cut(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    os.truncate(path, path.stat().st_size * 6 // 10)


def cut_in_header(path: Path) -> None:
    picture().save(path)
    os.truncate(path, 12)


def bomb(path: Path) -> None:
    Image.new("1", (30_000, 3_000)).save(path)


def one_byte_changed(path: Path) -> None:
    picture().save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


NO_PICTURE = "is none of JPEG, PNG, WebP, BMP and TIFF"


@pytest.mark.parametrize(
    ("write", "name", "cause"),
    [
        (missing, "a.jpg", "no such file"),
        (Path.mkdir, "a.jpg", "is a folder"),
        (os.mkfifo, "a.jpg", "is not a regular file"),
        (lambda path: path.symlink_to("nowhere.jpg"), "a.jpg", "no such file"),
        (lambda path: path.symlink_to(path.name), "a.jpg", "symbolic links"),
        *[(Path.touch, f"a.{kind}", "is empty (0 bytes)") for kind in [*FORMATS, "txt"]],
        *[(cut, f"a.{kind}", "") for kind in FORMATS],
        *[(cut_in_header, f"a.{kind}", "") for kind in FORMATS],
        *[(bomb, f"a.{kind}", "has more than 89,478,485 pixels") for kind in ("png", "bmp", "tif")],
        (one_byte_changed, "a.png", ""),
        (lambda path: path.write_bytes(bytes(999)), "a.jpg", NO_PICTURE),
        (lambda path: path.write_text("<annotation/>"), "a.jpg", NO_PICTURE),
        (lambda path: path.write_text("<svg/>"), "a.svg", NO_PICTURE),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "a.png", NO_PICTURE),
        (lambda path: picture().save(path, format="GIF"), "a.png", "is GIF, which is not read; convert it to JPEG"),
        (lambda path: picture().save(path, format="PDF"), "a.pdf", NO_PICTURE),
        (lambda path: picture(mode="F").save(path), "a.tif", "floating-point pixels"),
    ],
)
def test_bad_file_is_told_with_its_cause(
    write: Callable[[Path], object], name: str, cause: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    picture().save(tmp_path / "good.png")
    album = album_of(tmp_path, "good.png", name)
    assert list(album.pictures) == [0] and list(album.causes) == [1]
    assert album.causes[1]
    assert cause in album.causes[1]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_good_file_has_its_header_and_thumbnail(kind: str, mode: str, tmp_path: Path) -> None:
    picture(mode=mode).save(tmp_path / f"a.{kind}")
    album = album_of(tmp_path, f"a.{kind}")
    found = album.pictures[0]
    assert album.causes == {} and album.again == {} and album.copies == []
    assert (found.header.width, found.header.height, found.header.format[:3]) == (
        64,
        48,
        {"tif": "TIF", "jpg": "JPE"}.get(kind, kind.upper()[:3]),
    )
    assert (found.thumbnail.shape, found.thumbnail.dtype, len(found.digest)) == ((32, 32, 3), np.uint8, 16)


def test_copies_are_found_whatever_was_done_to_them(tmp_path: Path) -> None:
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    shutil.copy(tmp_path / "0.png", tmp_path / "same bytes.png")
    picture(0).save(tmp_path / "again.jpg", quality=90)
    picture(0).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.webp")
    picture(1, side=16).save(tmp_path / "large.bmp")
    names = [
        "0.png",
        "1.png",
        "2.png",
        "same bytes.png",
        "large.bmp",
        "turned.webp",
        "nowhere.png",
        "again.jpg",
        "0.png",
    ]
    album = album_of(tmp_path, *names)
    assert album.copies == [[0, 3, 5, 7], [1, 4]]
    assert album.again == {8: 0}


def test_file_of_several_rows_is_decoded_once(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    numbers = []

    def track(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
        numbers.append(total)
        return items

    rows = rows_of("a.png", "./a.png", str(tmp_path / "a.png"), "b.png", ".//b.png")
    album = look_at_all(rows, tmp_path, track=track)
    assert numbers == [2]
    assert (sorted(album.pictures), sorted(album.causes), album.again) == ([0, 1, 2], [3, 4], {1: 0, 2: 0, 4: 3})
    assert album.copies == []


def test_unsafe_paths_are_not_opened(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    (tmp_path / "deep").mkdir()
    album = album_of(tmp_path / "deep", "../a.png", "file:///a.png", "")
    assert album == Album({}, {}, {}, [])


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("a.png", "JPEG", ["line 2 'a.png' is JPEG"]),
        ("a.JPG", "WEBP", ["line 2 'a.JPG' is WEBP"]),
        ("a.png", "MPO", ["line 2 'a.png' is MPO"]),
        ("a.tiff", "PNG", ["line 2 'a.tiff' is PNG"]),
        ("a.JPeG", "JPEG", []),
        ("a.jpg", "MPO", []),
        ("a.TIF", "TIFF", []),
        ("a", "PNG", []),
        ("a.b", "PNG", []),
    ],
)
def test_disguised(name: str, kind: str, expected: Sequence[str], tmp_path: Path) -> None:
    options = {"save_all": True, "append_images": [picture(1)]} if kind == "MPO" else {}
    picture().save(tmp_path / name, format=kind, **options)
    rows = rows_of(name, name)
    assert list(disguised(rows, look_at_all(rows, tmp_path, track=silent))) == expected
