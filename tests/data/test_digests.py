"""Digests of files: right, remembered for files that stay the same, and only for those."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hybridnet.data import digests
from hybridnet.data.digests import content_digests
from hybridnet.files import read_json, write_json


def digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "files.json"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "b", tmp_path / "a"]
    for path in paths:
        path.write_bytes(f"content of {path.name}".encode())
    return paths


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read; all files count as old enough to be remembered."""
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -3600.0)
    done: list[str] = []
    read_bytes = Path.read_bytes

    def recorded(self: Path) -> bytes:
        done.append(self.name)
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", recorded)
    return done


def test_digests_are_those_of_the_contents_in_the_order_of_the_files(files: list[Path], memory: Path) -> None:
    first, second = digest(b"content of b"), digest(b"content of a")
    assert content_digests([*files, files[0]], memory=memory) == [first, second, first]
    assert content_digests([], memory=memory) == []


def test_one_file_is_read_once_and_remembered(files: list[Path], memory: Path, reads: list[str]) -> None:
    found = content_digests([*files, *files], memory=memory)
    assert sorted(reads) == ["a", "b"]
    reads.clear()
    assert content_digests([*files, *files], memory=memory) == found
    assert not reads


def test_other_files_are_not_forgotten(files: list[Path], memory: Path, reads: list[str]) -> None:
    content_digests(files[:1], memory=memory)
    content_digests(files[1:], memory=memory)
    reads.clear()
    content_digests(files, memory=memory)
    assert not reads


def test_the_memory_is_written_only_when_it_changes(
    files: list[Path], memory: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content_digests(files, memory=memory)
    monkeypatch.setattr(digests, "write_json", lambda *_: pytest.fail("nothing is new"))
    content_digests(files, memory=memory)
    content_digests(files[:1], memory=memory)


def longer(path: Path) -> None:
    path.write_bytes(b"much longer content")


def as_long(path: Path) -> None:
    path.write_bytes(b"CONTENT of b")


def as_long_at_the_old_time(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"CONTENT of b")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def another_file_at_the_old_time(path: Path) -> None:
    """As `cp -p` and `rsync -t` do."""
    status, other = path.stat(), path.with_name("other")
    other.write_bytes(b"CONTENT of b")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [longer, as_long, as_long_at_the_old_time, another_file_at_the_old_time])
def test_a_changed_file_is_read_again(
    files: list[Path], memory: Path, reads: list[str], change: Callable[[Path], None]
) -> None:
    before = content_digests(files, memory=memory)
    reads.clear()
    change(files[0])
    after = content_digests(files, memory=memory)
    assert reads == ["b"]
    assert after == [digest(files[0].read_bytes()), before[1]]
    assert after[0] != before[0]
    reads.clear()
    assert content_digests(files, memory=memory) == after
    assert not reads


def test_a_file_changed_within_the_resolution_of_the_clock_is_noticed(
    files: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second content has the first one's size and times: a FAT disk's clock moves every two seconds."""
    written = 1_000_000

    def coarse(file: str) -> SimpleNamespace:
        status = Path(file).stat()
        times = {"st_mtime_ns": written * 10**9, "st_ctime_ns": written * 10**9}
        return SimpleNamespace(st_mode=status.st_mode, st_size=status.st_size, st_ino=status.st_ino, **times)

    monkeypatch.setattr(digests, "os", SimpleNamespace(stat=coarse))
    now = written + 0.5
    monkeypatch.setattr(digests, "time", SimpleNamespace(time=lambda: now))
    content_digests(files, memory=memory)
    files[0].write_bytes(b"CONTENT of b")
    now = written + 3600
    assert content_digests(files, memory=memory)[0] == digest(b"CONTENT of b")
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("old files are remembered"))
    assert content_digests(files, memory=memory)[0] == digest(b"CONTENT of b")


def test_young_files_are_not_remembered(files: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED_SECONDS", 3600.0)
    content_digests(files, memory=memory)
    assert not memory.exists()


def test_what_cannot_be_read_has_its_cause(tmp_path: Path, files: list[Path], memory: Path, reads: list[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    odd = [tmp_path / "missing", tmp_path, tmp_path / "pipe", files[0] / "below", tmp_path / ("x" * 300)]
    for _ in range(2):
        found = content_digests([files[0], *odd, files[1]], memory=memory)
        assert [found[0], found[-1]] == [digest(b"content of b"), digest(b"content of a")]
        causes = [error.strerror or str(error) for error in found[1:-1]]
        assert causes == [
            "No such file or directory",
            "is a folder",
            "is not a regular file",
            "Not a directory",
            "File name too long",
        ]
    assert set(read_json(memory)) == {str(file) for file in files}


def test_a_file_that_comes_back_is_read(files: list[Path], memory: Path, reads: list[str]) -> None:
    content = files[0].read_bytes()
    content_digests(files, memory=memory)
    files[0].unlink()
    assert isinstance(content_digests(files, memory=memory)[0], FileNotFoundError)
    files[0].write_bytes(content)
    assert content_digests(files, memory=memory)[0] == digest(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda known: None,
        lambda known: 5,
        lambda known: [],
        lambda known: dict.fromkeys(known, 5),
        lambda known: {file: {} for file in known},
        lambda known: {file: [] for file in known},
        lambda known: {file: entry[:-1] for file, entry in known.items()},
        lambda known: {file: [*entry[:-1], None] for file, entry in known.items()},
        lambda known: {file: [*entry[:-1], entry[-1][:-1]] for file, entry in known.items()},
        lambda known: {file: [*entry[:-1], "x" + entry[-1][1:]] for file, entry in known.items()},
        lambda known: {file: [None, *entry[1:]] for file, entry in known.items()},
    ],
)
def test_a_damaged_memory_is_written_anew(
    files: list[Path], memory: Path, reads: list[str], damage: Callable[[dict[str, list]], object]
) -> None:
    expected = content_digests(files, memory=memory)
    known = read_json(memory)
    write_json(memory, damage(known))
    reads.clear()
    assert content_digests(files, memory=memory) == expected
    assert sorted(reads) == ["a", "b"]
    assert read_json(memory) == known


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_memory_that_is_no_json_is_written_anew(
    files: list[Path], memory: Path, reads: list[str], content: bytes
) -> None:
    expected = content_digests(files, memory=memory)
    memory.write_bytes(content)
    assert content_digests(files, memory=memory) == expected
    assert len(read_json(memory)) == 2


def test_a_memory_that_cannot_be_written_is_done_without(files: list[Path], reads: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        assert content_digests(files, memory=files[0] / "cache" / "files.json")[1] == digest(b"content of a")
    assert sorted(reads) == ["a", "a", "b", "b"]


def test_a_name_that_is_no_text_is_read_each_time(tmp_path: Path, memory: Path, reads: list[str]) -> None:
    file = tmp_path / os.fsdecode(b"\xff.jpg")
    file.write_bytes(b"picture")
    for _ in range(2):
        assert content_digests([file], memory=memory) == [digest(b"picture")]
    assert not list(memory.parent.glob(".*"))
