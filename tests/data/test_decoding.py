"""Decoding through the store: right pixels, causes of what is no picture, files that change meanwhile, no room."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridnet.data import decoding, threads
from hybridnet.data.decoded import Reduction
from hybridnet.data.image import load_reduced
from hybridnet.errors import Fault, InputError
from hybridnet.files import in_bytes
from tests.data.stores import REDUCTION, Open, assert_right, fault_of, folders, unfinished

ROTATED = 6  # EXIF: stands upright after a quarter turn
ORIENTATION = 0x0112


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
    sizes = opened.pictures(range(len(files))).sizes
    assert dict(zip(KINDS, map(tuple, sizes.tolist()), strict=True)) == {
        kind: size for kind, (_, size) in KINDS.items()
    }
    assert_right(open_in(files), files)  # read from the disk


@pytest.mark.usefixtures("in_processes")
def test_processes_make_the_same_store(open_in: Open, files: list[Path], tmp_path: Path, loads: list[Path]) -> None:
    """`loads` has what this process decodes."""
    cut, copy = tmp_path / "cut.png", tmp_path / "copy.png"
    cut.write_bytes(files[0].read_bytes()[:-200])
    with Image.open(files[1]) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(copy)
    everything = [*files, cut, copy]
    for opened in (open_in(everything), open_in(everything)):
        assert not loads
        assert "truncated" in opened.cause(len(files))
        assert opened.group(1) == opened.group(len(files) + 1) != opened.group(0)
        assert_right(opened, files)


def test_copies_that_are_encoded_anew_have_one_group(open_in: Open, tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "c.png"]
    smooth(50, 60).save(files[0])
    smooth(50, 60).transpose(Image.Transpose.ROTATE_90).save(files[1], quality=90)
    smooth(51, 60).save(files[2])
    for opened in (open_in(files), open_in(files)):
        assert opened.group(0) == opened.group(1) != opened.group(2)


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
        pictures = opened.pictures(kept)
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


def test_a_full_disk_is_noticed_before(
    open_in: Open, files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch, loads: list[Path]
) -> None:
    open_in(files[:2])
    used = in_bytes((folders(cache)[0] / "pixels.bin").stat().st_size)
    need = sum(load_reduced(file, crop_side=24, short_side=28).size for file in files)
    loads.clear()

    free = need + decoding.SPARE_BYTES - 1
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

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
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
