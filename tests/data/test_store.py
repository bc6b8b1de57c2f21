"""The store of decoded pictures: right pixels, built once, found again; damage to it or to a file is noticed."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridnet.data import digests, store, threads
from hybridnet.data.decoded import LivePictures, Reduction
from hybridnet.data.image import load_reduced
from hybridnet.data.store import Store, open_store
from hybridnet.errors import Fault, InputError
from hybridnet.files import in_bytes, read_json, write_json

CROP_SIDE, SHORT_SIDE = 24, 28
REDUCTION = Reduction(CROP_SIDE, SHORT_SIDE)
ROTATED = 6  # EXIF: stands upright after a quarter turn
ORIENTATION = 0x0112

Noise = Callable[..., np.ndarray]
Open = Callable[..., Store]


def untracked(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    return items


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_in(cache: Path, tmp_path: Path) -> Open:
    """`open_store` with everything but the files given."""

    def call(files: Sequence[Path], reduction: Reduction = REDUCTION, **settings: Any) -> Store:
        default = {"cache_dir": cache, "table": tmp_path / "metadata.csv", "keep_pixels": True, "track": untracked}
        return open_store(files, reduction, **default | settings)

    return call


@pytest.fixture
def files(tmp_path: Path, noise: Noise) -> list[Path]:
    """Five pictures of different shapes, one of them a BMP in spite of its name."""
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.fromarray(noise(20 + 11 * number, 30 + 7 * number, seed=number)).save(
            path, "BMP" if number == 1 else "PNG"
        )
    return paths


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    done: list[Path] = []
    load = Reduction.load

    def recorded(self: Reduction, file: Path) -> np.ndarray:
        done.append(file)
        return load(self, file)

    monkeypatch.setattr(Reduction, "load", recorded)
    return done


def pictures_of(opened: Store, files: Sequence[Path]) -> list[np.ndarray]:
    pictures = opened.pictures(range(len(files)), files)
    return [pictures[index] for index in range(len(files))]


def assert_right(opened: Store, files: Sequence[Path], reduction: Reduction = REDUCTION) -> None:
    """Every picture is that of its file, bit for bit, and has the size that was promised."""
    pictures = opened.pictures(range(len(files)), files)
    for index, file in enumerate(files):
        expected = load_reduced(file, crop_side=reduction.crop_side, short_side=reduction.short_side)
        assert pictures[index].dtype == np.uint8
        np.testing.assert_array_equal(pictures[index], expected, err_msg=file.name)
        assert tuple(pictures.sizes[index]) == expected.shape[:2]


def folders(cache: Path) -> list[Path]:
    """Of complete stores."""
    return [path for path in cache.iterdir() if path.is_dir() and not path.name.startswith(".")]


def unfinished(cache: Path) -> list[Path]:
    return list(cache.glob(".*.tmp"))


def fault_of(call: Callable[[], object]) -> Fault:
    with pytest.raises(InputError) as error:
        call()
    (fault,) = error.value.faults
    return fault


# The pixels


def smooth(height: int, width: int) -> Image.Image:
    coarse = np.random.default_rng(height).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    smooth(60, 131).save(path, "JPEG", exif=exif)


def deep(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 65536, (40, 51)).astype(np.uint16)).save(path, "PNG")


# What is written, and the height and width that are kept of it.
KINDS: dict[str, tuple[Callable[[Path], None], tuple[int, int]]] = {
    "jpeg, smaller than wanted": (lambda path: smooth(20, 29).save(path, "JPEG"), (20, 29)),
    "jpeg, as it is": (lambda path: smooth(26, 37).save(path, "JPEG"), (26, 37)),
    "jpeg at 1/2": (lambda path: smooth(53, 80).save(path, "JPEG"), (27, 40)),
    "jpeg at 1/4": (lambda path: smooth(109, 131).save(path, "JPEG"), (28, 33)),
    "jpeg at 1/4, then resized": (lambda path: smooth(131, 170).save(path, "JPEG"), (28, 36)),
    "jpeg, rotated": (rotated, (62, 28)),
    "jpeg, grey": (lambda path: smooth(70, 60).convert("L").save(path, "JPEG"), (33, 28)),
    "jpeg, cmyk": (lambda path: smooth(70, 61).convert("CMYK").save(path, "JPEG"), (32, 28)),
    "png": (lambda path: smooth(90, 60).save(path, "PNG"), (42, 28)),
    "png of one pixel": (lambda path: smooth(1, 1).save(path, "PNG"), (1, 1)),
    "png with alpha": (lambda path: smooth(25, 31).convert("RGBA").save(path, "PNG"), (25, 31)),
    "png of 16 bits": (deep, (28, 36)),
    "palette": (lambda path: smooth(41, 40).quantize(16).save(path, "PNG"), (29, 28)),
    "webp": (lambda path: smooth(66, 50).save(path, "WEBP"), (37, 28)),
    "tiff": (lambda path: smooth(50, 66).save(path, "TIFF"), (28, 37)),
    "bmp": (lambda path: smooth(29, 300).save(path, "BMP"), (28, 290)),
}


def test_pixels_are_those_of_the_files(open_in: Open, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}" for number in range(len(KINDS))]
    for file, (write, _) in zip(files, KINDS.values(), strict=True):
        write(file)
    opened = open_in(files)
    assert [opened.cause(index) for index in range(len(files))] == [""] * len(files)
    assert_right(opened, files)
    sizes = opened.pictures(range(len(files)), files).sizes
    assert dict(zip(KINDS, map(tuple, sizes.tolist()), strict=True)) == {
        kind: size for kind, (_, size) in KINDS.items()
    }
    assert_right(open_in(files), files)  # read from the disk


def test_some_pictures_in_another_order(open_in: Open, files: list[Path]) -> None:
    pictures = open_in(files).pictures([4, 1], [files[4], files[1]])
    assert pictures.sizes.tolist() == [[31, 28], [28, 33]]
    np.testing.assert_array_equal(pictures[0], load_reduced(files[4], crop_side=CROP_SIDE, short_side=SHORT_SIDE))


def test_names_may_be_odd(open_in: Open, tmp_path: Path, files: list[Path]) -> None:
    names = ["Blätter 葉.png", "a'b\"c.png", "line\nbreak.png", os.fsdecode(b"\xff\xfe.png"), "no extension"]
    odd = [file.rename(tmp_path / name) for file, name in zip(files, names, strict=True)]
    assert_right(open_in(odd), odd)
    assert_right(open_in(odd), odd)


def test_pictures_may_be_changed_without_changing_the_store(open_in: Open, files: list[Path]) -> None:
    opened = open_in(files)
    picture = pictures_of(opened, files)[0]
    picture[:] = 0  # torch warns of arrays that it must not write into
    assert_right(open_in(files), files)


def test_one_content_is_stored_once(open_in: Open, files: list[Path], cache: Path, loads: list[Path]) -> None:
    twice = [*files, *(shutil.copy(file, file.with_name(f"copy of {file.name}")) for file in files)]
    opened = open_in(twice)
    assert len(loads) == len(files)
    assert_right(opened, twice)
    num_bytes = sum(picture.size for picture in pictures_of(opened, files))
    assert (folders(cache)[0] / "pixels.bin").stat().st_size == num_bytes
    groups = [opened.group(index) for index in range(len(twice))]
    assert groups[: len(files)] == groups[len(files) :]
    assert len(set(groups)) == len(files)


def test_copies_that_are_encoded_anew_have_one_group(open_in: Open, tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "c.png"]
    smooth(50, 60).save(files[0])
    smooth(50, 60).transpose(Image.Transpose.ROTATE_90).save(files[1], quality=90)
    smooth(51, 60).save(files[2])
    for opened in (open_in(files), open_in(files)):
        assert opened.group(0) == opened.group(1) != opened.group(2)


# Built once, and said


def test_a_second_run_decodes_nothing(open_in: Open, files: list[Path], loads: list[Path]) -> None:
    open_in(files)
    assert sorted(loads) == sorted(files)
    loads.clear()
    assert_right(open_in(files), files)
    assert_right(open_in(files[::-1]), files[::-1])  # another order of the rows
    assert not loads


def test_progress_and_size_are_told(
    open_in: Open, files: list[Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    calls, passed = [], []

    def track(items: Iterable[Any], description: str, total: int) -> Iterator[Any]:
        calls.append((description, total))
        for item in items:
            passed.append(item)
            yield item

    open_in(files, track=track)
    assert calls == [("Decoding pictures", len(files))]
    assert len(passed) == len(files)
    size = in_bytes((folders(cache)[0] / "pixels.bin").stat().st_size)
    assert caplog.messages == [f"decoding 5 pictures once, {size} in {folders(cache)[0]}"]
    open_in(files, track=track)
    assert (len(calls), len(caplog.messages)) == (1, 1)


def test_other_settings_and_other_files_make_another_store(
    open_in: Open, files: list[Path], cache: Path, loads: list[Path]
) -> None:
    others = [Reduction(12, 28), Reduction(24, 24)]
    for reduction in (REDUCTION, *others):
        loads.clear()
        assert_right(open_in(files, reduction), files, reduction)
        assert len(loads) == len(files)
    open_in(files[:4])
    open_in(files[1:])
    assert len(folders(cache)) == 5
    loads.clear()
    assert_right(open_in(files), files)
    assert_right(open_in(files[:4]), files[:4])
    assert not loads


# A file changes


def overwritten(file: Path, noise: Noise) -> None:
    Image.fromarray(noise(31, 44, seed=77)).save(file)


def of_the_same_size(file: Path, noise: Noise) -> None:
    """The old time as well."""
    status, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-300] + content[-300:][::-1])  # pixels of a BMP
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [overwritten, of_the_same_size])
def test_a_changed_file_is_noticed(
    open_in: Open, files: list[Path], noise: Noise, change: Callable[[Path, Noise], None], loads: list[Path]
) -> None:
    before = pictures_of(open_in(files), files)[1].copy()
    loads.clear()
    change(files[1], noise)
    opened = open_in(files)
    assert_right(opened, files)
    assert loads
    after = pictures_of(opened, files)[1]
    assert after.shape != before.shape or (after != before).any()


def test_another_decoder_makes_another_store(
    open_in: Open, files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pixels may differ, and cache=none would not have the same."""
    open_in(files)
    monkeypatch.setattr("PIL.__version__", "99.0")
    open_in(files)
    assert len(list(cache.glob("*/index.json"))) == 2


def test_a_file_that_was_only_touched_or_moved_is_the_same(
    open_in: Open, files: list[Path], tmp_path: Path, loads: list[Path]
) -> None:
    open_in(files)
    loads.clear()
    os.utime(files[0])
    shutil.copy(files[1], tmp_path / "other")
    (tmp_path / "other").replace(files[1])
    files[2] = files[2].rename(tmp_path / "elsewhere.png")
    assert_right(open_in(files), files)
    assert not loads


def vanish(file: Path) -> None:
    file.unlink()


def become_another(file: Path) -> None:
    with Image.open(file) as image:
        turned = image.transpose(Image.Transpose.ROTATE_180)
    turned.save(file)


def be_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize("change", [vanish, become_another, be_cut])
@pytest.mark.parametrize("moment", ["load", "size"])
def test_a_file_that_changes_during_the_build_spoils_nothing(
    open_in: Open,
    files: list[Path],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    moment: str,
) -> None:
    content = files[2].read_bytes()
    read = getattr(Reduction, moment)

    def changing(self: Reduction, file: Path) -> Any:
        if file == files[2]:
            change(file)
        return read(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(Reduction, moment, changing)
        fault = fault_of(lambda: open_in(files))
    if change is vanish:
        assert (fault.what, fault.where, fault.cause) == ("unreadable image", str(files[2]), "no such file")
    else:
        assert fault.where == f"{files[2]} …"
        assert "1 files were replaced or removed while they were decoded" in str(fault)
    assert not unfinished(cache)
    files[2].write_bytes(content)  # the same content as at first: nothing wrong may be kept under its name
    opened = open_in(files)
    assert opened.cause(2) == ""
    assert_right(opened, files)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError("no memory")])
@pytest.mark.parametrize("moment", ["load", "size"])
def test_what_may_pass_is_not_remembered(
    open_in: Open, files: list[Path], monkeypatch: pytest.MonkeyPatch, error: Exception, moment: str
) -> None:
    read = getattr(Reduction, moment)

    def failing(self: Reduction, file: Path) -> Any:
        if file == files[3]:
            raise InputError(Fault("unreadable image", str(file), str(error))) from error
        return read(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(Reduction, moment, failing)
        assert str(files[3]) in str(fault_of(lambda: open_in(files)))
    assert_right(open_in(files), files)


# Files that are no pictures


def test_unusable_files_have_their_cause(open_in: Open, files: list[Path], tmp_path: Path, loads: list[Path]) -> None:
    bad = {name: tmp_path / f"{name}.jpg" for name in ("missing", "folder", "pipe", "empty", "text", "cut", "slip")}
    bad["folder"].mkdir()
    os.mkfifo(bad["pipe"])
    bad["empty"].touch()
    bad["text"].write_text("<annotation/>")
    bad["cut"].write_bytes(files[4].read_bytes()[:-2000])
    bad["slip"].symlink_to("nowhere")
    everything = [*files[:2], *bad.values(), *files[2:]]
    header = "is none of JPEG, PNG, WebP, BMP and TIFF, or its header is damaged"
    for opened in (open_in(everything), open_in(everything)):
        causes = dict(zip(bad, [opened.cause(index) for index in range(2, 2 + len(bad))], strict=True))
        assert "truncated" in causes.pop("cut")
        assert causes == {
            "missing": "no such file",
            "folder": "is a folder",
            "pipe": "is not a regular file",
            "empty": "is empty (0 bytes)",
            "text": header,
            "slip": "no such file",
        }
        kept = [0, 1, *range(2 + len(bad), len(everything))]
        assert [opened.cause(index) for index in kept] == [""] * len(files)
        pictures = opened.pictures(kept, [everything[index] for index in kept])
        for number, index in enumerate(kept):
            np.testing.assert_array_equal(pictures[number], REDUCTION.load(everything[index]))
    assert loads.count(bad["cut"]) == 1


def test_a_damaged_picture_at_the_end_of_the_store_is_decoded_once(
    open_in: Open, files: list[Path], loads: list[Path]
) -> None:
    """Its place is reserved before it is decoded."""
    content, others = files[0].read_bytes(), [digest_of(file.read_bytes()) for file in files[1:]]
    cut = next(part for part in (content[:-number] for number in range(200, 900)) if digest_of(part) > max(others))
    files[0].write_bytes(cut)
    assert "truncated" in open_in(files).cause(0)
    loads.clear()
    assert "truncated" in open_in(files).cause(0)
    assert not loads


def digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@pytest.mark.parametrize("keep_pixels", [True, False])
@pytest.mark.parametrize("num_files", [0, 3])
@pytest.mark.parametrize("is_verified", [True, False])
def test_without_a_usable_picture(
    open_in: Open, tmp_path: Path, cache: Path, num_files: int, keep_pixels: bool, is_verified: bool
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(num_files)]
    for number, file in enumerate(files):
        file.write_text(f"no picture {number}")
    for _ in range(2):
        opened = open_in(files, keep_pixels=keep_pixels)
        assert all(opened.cause(index) for index in range(num_files))
        assert len(opened.pictures([], []).sizes) == 0
        if not is_verified:
            (folders(cache)[0] / "verified.json").unlink(missing_ok=True)


# A damaged store


def _flip(file: Path, *, keep_time: bool) -> None:
    status, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    if keep_time:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _edit(file: Path, change: Callable[[list[list]], None]) -> None:
    """Another program's slip, or a bad disk's: the index is JSON all the same."""
    checksum, rows = read_json(file)
    change(rows)
    write_json(file, [checksum, rows])


def turn_first(rows: list[list]) -> None:
    digest, height, width, *rest = rows[0]
    assert height != width
    rows[0] = [digest, width, height, *rest]


def set_field(number: int, value: Any) -> Callable[[list[list]], None]:
    def change(rows: list[list]) -> None:
        rows[1][number] = value

    return change


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no index": lambda folder: (folder / "index.json").unlink(),
    "empty index": lambda folder: (folder / "index.json").write_text(""),
    "half an index": lambda folder: os.truncate(folder / "index.json", 300),
    "null": lambda folder: (folder / "index.json").write_text("null"),
    "a number": lambda folder: (folder / "index.json").write_text("[1, 2]"),
    "rows alone": lambda folder: write_json(folder / "index.json", read_json(folder / "index.json")[1]),
    "another format": lambda folder: (folder / "index.json").write_text('{"format": 7, "entries": {}}'),
    "bytes": lambda folder: (folder / "index.json").write_bytes(b"\xff\xfe\x00"),
    "height and width swapped": lambda folder: _edit(folder / "index.json", turn_first),
    "offset behind the end": lambda folder: _edit(folder / "index.json", set_field(3, 10**9)),
    "negative offset": lambda folder: _edit(folder / "index.json", set_field(3, -5)),
    "other group": lambda folder: _edit(folder / "index.json", set_field(5, 0)),
    "a cause": lambda folder: _edit(folder / "index.json", set_field(6, "is bad")),
    "a text for a number": lambda folder: _edit(folder / "index.json", set_field(1, "28")),
    "a row less": lambda folder: _edit(folder / "index.json", lambda rows: rows.pop()),
    "no pixels": lambda folder: (folder / "pixels.bin").unlink(),
    "no pixel": lambda folder: os.truncate(folder / "pixels.bin", 0),
    "half the pixels": lambda folder: os.truncate(folder / "pixels.bin", 1000),
    "more pixels": lambda folder: (folder / "pixels.bin").write_bytes((folder / "pixels.bin").read_bytes() + b"more"),
    "another pixel": lambda folder: _flip(folder / "pixels.bin", keep_time=False),
    "another pixel at the old time": lambda folder: _flip(folder / "pixels.bin", keep_time=True),
    "a folder": lambda folder: ((folder / "index.json").unlink(), (folder / "index.json").mkdir()),
    "nothing": lambda folder: [file.unlink() for file in folder.iterdir()],
    "another pixel, a bad note": lambda folder: (
        _flip(folder / "pixels.bin", keep_time=True),
        (folder / "verified.json").write_text("{"),
    ),
    "another pixel, no note": lambda folder: (
        _flip(folder / "pixels.bin", keep_time=True),
        (folder / "verified.json").unlink(),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_store_is_built_anew(
    open_in: Open, files: list[Path], cache: Path, loads: list[Path], damage: Callable[[Path], Any]
) -> None:
    before = open_in(files)
    groups = [before.group(index) for index in range(len(files))]
    damage(folders(cache)[0])
    loads.clear()
    opened = open_in(files)
    assert len(loads) == len(files)
    assert_right(opened, files)
    assert [opened.group(index) for index in range(len(files))] == groups
    loads.clear()
    assert_right(open_in(files), files)
    assert not loads
    assert len(folders(cache)) == 1


def test_damaged_pixels_are_told(
    open_in: Open, files: list[Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_in(files)
    _flip(folders(cache)[0] / "pixels.bin", keep_time=True)
    caplog.set_level("INFO")
    open_in(files)
    assert f"the decoded pictures in {folders(cache)[0]} are damaged; they are decoded again" in caplog.messages


@pytest.mark.parametrize("note", [None, "{", "5", "[]"])
def test_a_store_whose_pixels_were_not_compared_yet_is_compared_and_used(
    open_in: Open, files: list[Path], cache: Path, loads: list[Path], note: str | None
) -> None:
    """For instance a cache that was copied to another disk."""
    open_in(files)
    memory = folders(cache)[0] / "verified.json"
    memory.unlink() if note is None else memory.write_text(note)
    loads.clear()
    assert_right(open_in(files), files)
    assert not loads
    assert len(read_json(memory)) == 4


def test_checksums_are_compared_once(
    open_in: Open, files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_in(files)
    compared = []
    checksum = store.zlib.crc32
    monkeypatch.setattr(store, "zlib", SimpleNamespace(crc32=lambda data: compared.append(1) or checksum(data)))
    open_in(files)
    assert not compared
    os.utime(folders(cache)[0] / "pixels.bin")
    open_in(files)
    assert len(compared) == len(files)
    open_in(files)
    assert len(compared) == len(files)


def test_a_store_in_use_outlives_its_replacement(open_in: Open, files: list[Path], cache: Path) -> None:
    """What another process maps is not changed under its feet."""
    pictures = open_in(files).pictures(range(len(files)), files)
    first = pictures[0].copy()
    (folders(cache)[0] / "index.json").unlink()
    opened = open_in(files)
    assert_right(opened, files)
    np.testing.assert_array_equal(pictures[0], first)


# No room, no folder


def test_a_full_disk_is_noticed_before(
    open_in: Open, files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch, loads: list[Path]
) -> None:
    open_in(files[:2])
    used = in_bytes((folders(cache)[0] / "pixels.bin").stat().st_size)
    need = sum(load_reduced(file, crop_side=24, short_side=28).size for file in files)
    loads.clear()

    free = need + store.SPARE_BYTES - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    fault = fault_of(lambda: open_in(files))
    assert (fault.what, fault.where) == ("no room", f"data.cache_dir={cache}")
    assert fault.cause == f"the decoded pictures need {in_bytes(need)} besides 67 MB for the run, 67 MB are free"
    assert fault.hint.startswith("data.cache_dir=<folder on another disk>, or data.cache=none")
    assert f"the {used} of stores in it may be deleted" in fault.hint
    assert not loads
    assert not unfinished(cache)

    free += 1
    assert_right(open_in(files), files)


class FullDisk(io.FileIO):
    """Takes some bytes."""

    left = 3000

    def write(self, data: Any) -> int:
        self.left -= memoryview(data).nbytes
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("where", ["pixels", "index"])
def test_a_disk_that_fills_up_during_the_build_is_told(
    open_in: Open, files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    open_file = Path.open

    def open_on_full_disk(self: Path, mode: str = "r", *rest: Any, **settings: Any) -> Any:
        if self.name == "pixels.bin" and mode == "wb":
            return FullDisk(str(self), "w")
        return open_file(self, mode, *rest, **settings)

    with monkeypatch.context() as patch:
        if where == "index":
            patch.setattr(store, "write_json", full)
        else:
            patch.setattr(Path, "open", open_on_full_disk)
        fault = fault_of(lambda: open_in(files))
    assert (fault.what, fault.where, fault.cause) == (
        "no room",
        f"data.cache_dir={cache}",
        "No space left on device",
    )
    assert "data.cache=none" in fault.hint
    assert not unfinished(cache)
    assert not folders(cache)
    assert_right(open_in(files), files)


@pytest.mark.parametrize("deeper", ["", "deeper"])
def test_a_cache_folder_that_is_a_file_is_named(open_in: Open, files: list[Path], tmp_path: Path, deeper: str) -> None:
    (tmp_path / "file").write_text("precious")
    place = tmp_path / "file" / deeper
    fault = fault_of(lambda: open_in(files, cache_dir=place))
    assert (fault.what, fault.where) == ("unusable folder", f"data.cache_dir={place}")
    assert fault.cause in ("File exists", "Not a directory")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_store_can_be_read_where_nothing_can_be_written(
    open_in: Open, files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch, loads: list[Path]
) -> None:
    """A colleague's cache on a shared disk."""
    open_in(files)
    os.utime(folders(cache)[0] / "pixels.bin")  # as a copy has another time
    loads.clear()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store, "write_json", refuse)
    monkeypatch.setattr(digests, "write_json", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(store, "locked", refuse)
    assert_right(open_in(files), files)
    assert not loads
    (folders(cache)[0] / "index.json").unlink()
    assert fault_of(lambda: open_in(files)).cause == "Read-only file system"


# Without pixels


def test_without_a_store_every_file_is_checked_once(
    open_in: Open, files: list[Path], cache: Path, loads: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    files[3].write_bytes(files[3].read_bytes()[:-500])
    good = [0, 1, 2, 4]
    for num_loads in (5, 0):
        loads.clear()
        opened = open_in(files, keep_pixels=False)
        assert len(loads) == num_loads
        assert [opened.cause(index) for index in good] == [""] * 4
        assert "truncated" in opened.cause(3)
        assert len({opened.group(index) for index in good}) == 4
    assert sum(file.stat().st_size for file in cache.glob("*/pixels.bin")) == 0
    assert not caplog.messages
    pictures = opened.pictures(good, [files[index] for index in good])
    assert isinstance(pictures, LivePictures)
    for number, index in enumerate(good):
        np.testing.assert_array_equal(pictures[number], REDUCTION.load(files[index]))
        assert tuple(pictures.sizes[number]) == pictures[number].shape[:2]


def test_without_a_store_nothing_needs_to_be_written(
    open_in: Open, files: list[Path], tmp_path: Path, loads: list[Path]
) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        loads.clear()
        opened = open_in(files, keep_pixels=False, cache_dir=tmp_path / "file" / "cache")
        assert len(loads) == len(files)
    assert_right(opened, files)


def test_without_a_store_a_full_disk_is_no_matter(
    open_in: Open, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    assert_right(open_in(files, keep_pixels=False), files)


def test_without_a_store_a_picture_that_was_replaced_is_noticed(open_in: Open, files: list[Path], noise: Noise) -> None:
    pictures = open_in(files, keep_pixels=False).pictures(range(len(files)), files)
    Image.fromarray(noise(25, 26)).save(files[0])
    with pytest.raises(InputError, match=r"changed image in .*0\.png: it was replaced after the run had started"):
        pictures[0]
    assert pictures[1].shape == (28, 33, 3)


# Several processes, and processes that are killed

BUILDER = """
import logging, os, signal, sys
from pathlib import Path
from hybridnet.data import store

logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
moment, cache, *files = sys.argv[1:]

def before(owner, name, action):
    original = getattr(owner, name)
    def changed(*arguments, **settings):
        action()
        return original(*arguments, **settings)
    setattr(owner, name, changed)

def wait():
    print("decoding now", flush=True)
    sys.stdin.readline()

if moment == "wait":
    before(store.Reduction, "load", wait)
elif moment != "run":
    owner = {"load": store.Reduction, "rename": Path}.get(moment, store)
    before(owner, moment, lambda: os.kill(os.getpid(), signal.SIGKILL))
print("ready", flush=True)
if moment == "run":
    sys.stdin.readline()
opened = store.open_store(
    [Path(file) for file in files], store.Reduction(24, 28), cache_dir=Path(cache),
    table=Path("metadata.csv"), keep_pixels=True, track=lambda items, description, total: items,
)
pictures = opened.pictures(range(len(files)), files)
print("pixels", sum(int(pictures[index].sum()) for index in range(len(files))), flush=True)
"""

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(cache: Path, files: list[Path]) -> Iterator[Start]:
    """Starts a process that opens the store; it is ended with the test."""
    begun: list[subprocess.Popen[str]] = []

    def call(moment: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", BUILDER, moment, str(cache), *map(str, files)]
        begun.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    yield call
    for process in begun:
        with process:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"the process ended without saying {words!r}")


def expected_sum(files: Sequence[Path]) -> int:
    return sum(int(load_reduced(file, crop_side=CROP_SIDE, short_side=SHORT_SIDE).sum()) for file in files)


def test_of_many_that_start_together_one_builds(start: Start, cache: Path, files: list[Path]) -> None:
    processes = [start("run") for _ in range(3)]
    for process in processes:
        read_until(process, "ready")
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    assert sum("decoding 5 pictures once" in text for text in said) == 1
    assert all(f"pixels {expected_sum(files)}\n" in text for text in said)
    assert len(folders(cache)) == 1
    assert not unfinished(cache)


def test_one_waits_while_another_builds(start: Start, cache: Path, files: list[Path]) -> None:
    builder = start("wait")
    read_until(builder, "decoding now")
    waiting = start("run")
    waiting.stdin.write("\n")
    waiting.stdin.flush()
    read_until(waiting, "another process is decoding the same pictures; waiting for it")
    assert not folders(cache)
    builder.stdin.close()
    said = waiting.stdout.read()
    assert said == f"pixels {expected_sum(files)}\n"
    assert (builder.wait(60), waiting.wait(60)) == (0, 0)
    assert len(folders(cache)) == 1


def test_one_that_waits_takes_over_when_the_builder_dies(start: Start, cache: Path, files: list[Path]) -> None:
    builder = start("wait")
    read_until(builder, "decoding now")
    waiting = start("run")
    waiting.stdin.write("\n")
    waiting.stdin.flush()
    read_until(waiting, "waiting for it")
    builder.kill()
    said = waiting.stdout.read()
    assert "decoding 5 pictures once" in said
    assert f"pixels {expected_sum(files)}\n" in said
    assert waiting.wait(60) == 0
    assert len(folders(cache)) == 1
    assert not unfinished(cache)


# While decoding, after the pixels, between the index and the note, before the store gets its name.
@pytest.mark.parametrize("moment", ["load", "write_json", "_remember", "rename"])
def test_a_killed_build_is_begun_again(
    start: Start, open_in: Open, cache: Path, files: list[Path], loads: list[Path], moment: str
) -> None:
    assert start(moment).wait(60) == -9
    assert len(unfinished(cache)) == 1
    assert not folders(cache)
    assert_right(open_in(files), files)
    assert len(loads) == len(files)
    assert not unfinished(cache)
    assert len(folders(cache)) == 1


def test_a_killed_repair_leaves_no_half_of_a_store(
    start: Start, open_in: Open, cache: Path, files: list[Path], loads: list[Path]
) -> None:
    """The damaged store is gone, the new one has no name yet."""
    open_in(files)
    os.truncate(folders(cache)[0] / "pixels.bin", 1000)
    assert start("rename").wait(60) == -9
    assert len(unfinished(cache)) == 1
    loads.clear()
    assert_right(open_in(files), files)
    assert len(loads) == len(files)
    assert not unfinished(cache)


def test_what_a_killed_build_of_other_settings_left_is_removed(
    start: Start, open_in: Open, cache: Path, files: list[Path]
) -> None:
    assert start("_remember").wait(60) == -9
    assert len(unfinished(cache)) == 1
    open_in(files, Reduction(12, 14))
    assert not unfinished(cache)


def test_what_another_process_is_building_is_left_alone(
    start: Start, open_in: Open, cache: Path, files: list[Path]
) -> None:
    builder = start("wait")
    read_until(builder, "decoding now")
    open_in(files, Reduction(12, 14))
    assert len(unfinished(cache)) == 1
    assert f"pixels {expected_sum(files)}\n" in builder.communicate(timeout=60)[0]
    assert len(folders(cache)) == 2


def test_an_interrupted_build_stops_and_leaves_nothing(
    open_in: Open, files: list[Path], cache: Path, loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool has one thread, whose second picture takes until the first one's interruption was dealt with."""
    left, load = threading.Event(), Reduction.load

    class Pool(ThreadPoolExecutor):
        def __init__(self, num_threads: int) -> None:
            left.clear()  # another one has looked at the files before
            super().__init__(num_threads)

        def shutdown(self, **options: Any) -> None:
            super().shutdown(**options | {"wait": False})
            left.set()
            super().shutdown(**options)

    def slow(self: Reduction, file: Path) -> np.ndarray:
        if loads:
            assert left.wait(20)
        return load(self, file)

    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(threads, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(threads, "BLOCK", 1)
    monkeypatch.setattr(Reduction, "load", slow)

    def interrupt(items: Iterable[Any], description: str, total: int) -> Iterator[Any]:
        for item in items:
            yield item
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_in(files, track=interrupt)
    assert len(loads) <= 2
    assert not unfinished(cache)
    assert not folders(cache)
    monkeypatch.setattr(Reduction, "load", load)
    assert_right(open_in(files), files)


def test_the_index_is_plain_json(open_in: Open, files: list[Path], cache: Path) -> None:
    open_in(files)
    _, rows = json.loads((folders(cache)[0] / "index.json").read_text())
    assert [len(row) for row in rows] == [7] * len(files)
    assert [row[3] for row in rows] == np.cumsum([0, *(row[1] * row[2] * 3 for row in rows[:-1])]).tolist()
