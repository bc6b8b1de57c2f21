from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybridnet.files import read_json, replacing, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="disk"), replacing(path) as stream:
        stream.write(b"half of the n")
        raise RuntimeError("disk")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_content_is_on_the_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sizes = tmp_path / "a.txt", []
    sync = os.fsync

    def record(descriptor: int) -> None:
        sizes.append((os.fstat(descriptor).st_size, path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_text(path, "whole")
    assert sizes[0] == (len("whole"), False)


def test_json_holds_no_nan_or_infinity(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": float("nan"), "b": [1.5, float("inf")], "c": "ä"})
    assert read_json(path) == {"a": None, "b": [1.5, None], "c": "ä"}
    assert "ä" in path.read_text(encoding="utf-8")


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 0}')
    assert read_json(tmp_path / "a.json") == {"a": 0}
