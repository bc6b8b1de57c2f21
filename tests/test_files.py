from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hybridnet import files
from hybridnet.files import csv_text, locked, read_json, replacing, try_lock, write_json, write_text


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


def test_a_table_keeps_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    rows = [["path", "cause"], ["a,b.jpg", 'says "no"'], ["two\nlines", "ü"], ["", "7"]]
    text = csv_text(rows)
    assert text.startswith('path,cause\n"a,b.jpg","says ""no"""\n')
    assert "\r" not in text
    write_text(tmp_path / "a.csv", text)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == rows


def test_a_table_takes_numbers_and_any_iterable() -> None:
    assert csv_text((number, f"row {number}") for number in range(2)) == "0,row 0\n1,row 1\n"
    assert csv_text([]) == ""


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        assert try_lock(first)
        assert not try_lock(second)
        first.close()
        assert try_lock(second)


def test_one_that_waits_for_a_lock_says_so_and_gets_it(tmp_path: Path) -> None:
    path, said, waits = tmp_path / "lock", [], threading.Event()

    def say() -> None:
        said.append("waiting")
        waits.set()

    def hold() -> None:
        with locked(path, on_wait=say):
            said.append("second")

    thread = threading.Thread(target=hold)
    with locked(path, on_wait=lambda: pytest.fail("nobody else holds it")):
        thread.start()
        assert waits.wait(20)
        said.append("first")
    thread.join(20)
    assert said == ["waiting", "first", "second"]


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "lock", on_wait=lambda: None):
        raise RuntimeError
    with locked(tmp_path / "lock", on_wait=lambda: pytest.fail("nobody holds it")):
        pass


HOLDER = """
import sys
from pathlib import Path
from hybridnet.files import locked
with locked(Path(sys.argv[1]), on_wait=lambda: None):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    words = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            with path.open("w") as stream:
                assert not try_lock(stream)
        finally:
            process.kill()
        process.wait(20)
    with path.open("w") as stream:
        assert try_lock(stream)


def test_a_system_without_locks_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)  # as on Windows
    with (tmp_path / "lock").open("w") as first, (tmp_path / "lock").open("w") as second:
        assert try_lock(first)
        assert try_lock(second)
    with locked(tmp_path / "lock", on_wait=lambda: pytest.fail("nobody waits")):
        pass
