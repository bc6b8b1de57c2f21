"""The store of decoded pictures: right pixels, built once, found again; damage to it or to a file is noticed."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridnet.data import digests, store
from hybridnet.data.decoded import LivePictures, Reduction
from hybridnet.data.image import load_reduced
from hybridnet.errors import InputError
from hybridnet.files import read_json, write_json
from tests.conftest import SECONDS
from tests.data.stores import (
    CROP_SIDE,
    REDUCTION,
    SHORT_SIDE,
    Noise,
    Open,
    assert_right,
    fault_of,
    folders,
    pictures_of,
    unfinished,
)

# The pixels


def test_some_pictures_in_another_order(open_in: Open, files: list[Path]) -> None:
    pictures = open_in(files).pictures([4, 1])
    assert pictures.sizes.tolist() == [[31, 28], [28, 33]]
    np.testing.assert_array_equal(pictures[0], load_reduced(files[4], crop_side=CROP_SIDE, short_side=SHORT_SIDE))


def test_names_may_be_odd(open_in: Open, tmp_path: Path, files: list[Path]) -> None:
    names = ["Blätter 葉.png", "a'b\"c.png", "line\nbreak.png", os.fsdecode(b"\xff\xfe.png"), "no extension"]
    odd = [file.rename(tmp_path / name) for file, name in zip(files, names, strict=True)]
    assert_right(open_in(odd), odd)
    assert_right(open_in(odd), odd)


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


# Built once, and said


def test_a_second_run_decodes_nothing(open_in: Open, files: list[Path], loads: list[Path]) -> None:
    open_in(files)
    assert sorted(loads) == sorted(files)
    loads.clear()
    assert_right(open_in(files), files)
    assert_right(open_in(files[::-1]), files[::-1])  # another order of the rows
    assert not loads


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


# Files that are no pictures


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
        assert len(opened.pictures([]).sizes) == 0
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
    told = f"the decoded pictures in {folders(cache)[0]} are damaged; they are decoded again"
    assert caplog.messages.count(told) == 1


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
    pictures = open_in(files).pictures(range(len(files)))
    first = pictures[0].copy()
    (folders(cache)[0] / "index.json").unlink()
    opened = open_in(files)
    assert_right(opened, files)
    np.testing.assert_array_equal(pictures[0], first)


# No room, no folder


class FullDisk(io.FileIO):
    """Takes one picture."""

    is_full = False

    def write(self, data: Any) -> int:
        if FullDisk.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        FullDisk.is_full = True
        return super().write(data)


@pytest.mark.parametrize("where", ["pixels", "index"])
def test_a_disk_that_fills_up_during_the_build_is_told(
    open_in: Open, files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FullDisk, "is_full", False)
    open_file = Path.open

    def open_on_full_disk(self: Path, mode: str = "r", *rest: Any, **settings: Any) -> Any:
        if self.name == "pixels.bin" and mode == "r+b":
            return FullDisk(str(self), "r+")
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
    pictures = opened.pictures(good)
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
    pictures = open_in(files, keep_pixels=False).pictures(range(len(files)))
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
pictures = opened.pictures(range(len(files)))
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
    said = [process.communicate(timeout=SECONDS)[0] for process in processes]
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
    assert f"pixels {expected_sum(files)}\n" in builder.communicate(timeout=SECONDS)[0]
    assert len(folders(cache)) == 2


@pytest.mark.parametrize("reduction", [REDUCTION, Reduction(12, 14)], ids=["the same store", "another one"])
def test_where_there_are_no_locks_two_builds_are_not_in_each_others_way(
    start: Start,
    open_in: Open,
    cache: Path,
    files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    reduction: Reduction,
) -> None:
    """Such as on Lustre without `flock`: a temporary may be of one that was killed, or of one that goes on."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    builder = start("wait")
    read_until(builder, "decoding now")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    (cache / f".{unfinished(cache)[0].name.split('.')[1]}.{os.getpid()}.tmp").mkdir()  # a killed one's, of our number
    pictures = open_in(files, reduction).pictures(range(len(files)))
    assert len(unfinished(cache)) == 2
    assert f"pixels {expected_sum(files)}\n" in builder.communicate(timeout=SECONDS)[0]
    assert len(folders(cache)) == (1 if reduction == REDUCTION else 2)
    assert_right(open_in(files), files)
    assert len(pictures[0])


def test_where_there_are_no_locks_the_first_of_two_builds_stays(
    open_in: Open, cache: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third process may be about to read it."""
    monkeypatch.setattr("hybridnet.files.fcntl", None)
    remember, first = store._remember, []

    def others_was_first(pixels: Path, identity: list[int]) -> None:
        monkeypatch.setattr(store, "_remember", remember)
        open_in(files)
        first.append((folders(cache)[0] / "index.json").stat().st_ino)

    monkeypatch.setattr(store, "_remember", others_was_first)
    assert_right(open_in(files), files)
    assert [(folder / "index.json").stat().st_ino for folder in folders(cache)] == first
    assert not unfinished(cache)


def test_the_index_is_plain_json(open_in: Open, files: list[Path], cache: Path) -> None:
    open_in(files)
    _, rows = json.loads((folders(cache)[0] / "index.json").read_text())
    assert [len(row) for row in rows] == [7] * len(files)
    assert [row[3] for row in rows] == np.cumsum([0, *(row[1] * row[2] * 3 for row in rows[:-1])]).tolist()
