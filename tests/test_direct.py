from __future__ import annotations

import errno
import mmap
import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridnet import direct
from hybridnet.direct import BLOCK, BUFFER, DirectFile

SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER + 3 * BLOCK + 5]


def written(path: Path, parts: list[bytes]) -> bytes:
    """The file's content after writing some parts."""
    with DirectFile(path) as stream:
        assert [stream.write(part) for part in parts] == [len(part) for part in parts]
        stream.flush()
    return path.read_bytes()


def content(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_written_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(b"what was there before " * 10_000)
    assert written(tmp_path / "a", [content(size)]) == content(size)


def test_parts_of_every_size_come_one_after_the_other(tmp_path: Path) -> None:
    parts = [content(size) for size in (*SIZES, *reversed(SIZES))]
    assert written(tmp_path / "a", parts) == b"".join(parts)


def test_tensors_memory_is_taken_as_bytes(tmp_path: Path) -> None:
    """torch hands over what it has as it is."""
    numbers = np.arange(5000, dtype=np.float32).reshape(50, 100)
    with DirectFile(tmp_path / "a") as stream:
        assert stream.write(memoryview(numbers)) == numbers.nbytes
        stream.flush()
    assert (tmp_path / "a").read_bytes() == numbers.tobytes()


def test_what_follows_a_flush_is_written_too(tmp_path: Path) -> None:
    first, second = content(BLOCK + 17), content(2 * BUFFER + 1)
    with DirectFile(tmp_path / "a") as stream:
        stream.write(first)
        stream.flush()
        assert (tmp_path / "a").read_bytes() == first
        stream.write(second)
        stream.flush()
    assert (tmp_path / "a").read_bytes() == first + second


def _resident_pages(path: Path) -> int:
    out = subprocess.run(["fincore", "-n", "-o", "PAGES", path], capture_output=True, text=True, check=True).stdout
    return int(out or 0)


def _writes_past_the_cache(probe: Path) -> bool:
    """Whether the system does what it is asked for: some take the flag and use the cache, such as a memory's."""
    try:
        descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
        os.write(descriptor, mmap.mmap(-1, BLOCK))
        os.close(descriptor)
        return _resident_pages(probe) == 0
    except (OSError, AttributeError):
        return False


def test_the_page_cache_stays_as_it_is(tmp_path: Path) -> None:
    if not _writes_past_the_cache(tmp_path / "probe"):
        pytest.skip("this system or its file system has no such writes, or no fincore")
    with DirectFile(tmp_path / "a") as stream:
        stream.write(content(4 * BUFFER + 1))
        stream.flush()
    assert _resident_pages(tmp_path / "a") <= 1


@pytest.mark.parametrize("place", ["open", "write"])
def test_a_file_system_without_direct_writes_gets_usual_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Some refuse it when the file is opened, some when it is written."""
    modes = []
    usual = direct.fcntl.fcntl

    class Refusing:
        F_GETFL, F_SETFL = direct.fcntl.F_GETFL, direct.fcntl.F_SETFL

        @staticmethod
        def fcntl(file: Any, command: int, flags: int = 0) -> int:
            if command == Refusing.F_SETFL:
                modes.append(bool(flags & os.O_DIRECT))
                if place == "open" and modes[-1]:
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
                flags &= ~os.O_DIRECT
            return usual(file, command, flags)

    monkeypatch.setattr(direct, "fcntl", Refusing)
    parts = [content(BUFFER), content(BUFFER + 5)]
    with DirectFile(tmp_path / "a") as stream:
        if place == "write":
            stream._file = _RefusingFile(stream._file, modes)
        for part in parts:
            stream.write(part)
        stream.flush()
    assert (tmp_path / "a").read_bytes() == b"".join(parts)
    assert modes == ([True] if place == "open" else [True, False])


class _RefusingFile:
    """Writes only after the mode was given up."""

    def __init__(self, file: Any, modes: list[bool]) -> None:
        self.file = file
        self.modes = modes

    def write(self, data: memoryview) -> int:
        if self.modes[-1]:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_without_such_writes_the_file_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "fcntl", None)  # as on Windows
    assert written(tmp_path / "a", [content(BUFFER + 5)]) == content(BUFFER + 5)


@pytest.mark.parametrize("limit", [0, BLOCK, BUFFER, BUFFER + BLOCK])
def test_a_limit_of_the_file_size_is_told(tmp_path: Path, limit: int) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught, DirectFile(tmp_path / "a") as stream:
            stream.write(content(BUFFER + 2 * BLOCK))
            stream.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
