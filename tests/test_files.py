from __future__ import annotations

import csv
import errno
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybridnet import files
from hybridnet.errors import InputError
from hybridnet.files import (
    common_folder,
    csv_text,
    in_bytes,
    locked,
    named,
    output_folder,
    read_if_whole,
    read_json,
    remove_temporaries,
    replacing,
    shortened,
    size_limit,
    try_lock,
    will_not_need,
    writable_folder,
    write_json,
    write_text,
)


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


def test_the_new_name_is_on_the_disk_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "a.txt", []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append((str(Path(f"/proc/self/fd/{file}").readlink()), path.exists()))
    )
    write_text(path, "whole")
    temporary = tmp_path / f".a.txt.{os.getpid()}.tmp"
    assert synced == [(str(temporary), False), (str(tmp_path), True)]


def test_no_file_stays_open(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        write_text(tmp_path / "a.txt", "whole")
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_the_previous_file_is_kept(tmp_path: Path) -> None:
    path, previous = tmp_path / "a.txt", tmp_path / "b.txt"
    for text, before in (("first", None), ("second", "first"), ("third", "second")):
        with replacing(path, previous=previous) as stream:
            stream.write(text.encode())
        assert path.read_text() == text
        assert (previous.read_text() if previous.exists() else None) == before
    assert sorted(tmp_path.iterdir()) == [path, previous]


def _failing(number: int) -> Callable[..., None]:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib calls functions of its own")
@pytest.mark.parametrize("was_killed", [False, True])
def test_at_no_moment_is_there_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_killed: bool) -> None:
    """Whatever is changed in the folder, before and after it both names lead to whole files."""
    path, previous = tmp_path / "a.txt", tmp_path / "b.txt"
    write_text(path, "new")
    write_text(previous, "old")
    if was_killed:  # before, between the two renames: both names are those of one file
        previous.unlink()
        os.link(path, previous)
    calls, states = set(), []

    def look() -> None:
        state = path.read_text(), previous.read_text()
        if state not in states:
            states.append(state)

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.add(name)
            look()
            result = function(*arguments, **options)
            look()
            return result

        return call

    for name in ("link", "replace", "rename", "unlink", "fsync"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    with replacing(path, previous=previous) as stream:
        stream.write(b"newest")
    assert {"link", "replace", "fsync"} <= calls
    assert states == [*([] if was_killed else [("new", "old")]), ("new", "new"), ("newest", "new")]
    assert sorted(tmp_path.iterdir()) == [path, previous]


def test_without_hard_links_the_previous_file_is_kept_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, previous = tmp_path / "a.txt", tmp_path / "b.txt"
    write_text(path, "new")
    write_text(previous, "old")
    monkeypatch.setattr(os, "link", _failing(errno.EPERM))
    with replacing(path, previous=previous) as stream:
        stream.write(b"newest")
    assert (path.read_text(), previous.read_text()) == ("newest", "new")
    assert sorted(tmp_path.iterdir()) == [path, previous]


def test_a_failed_write_leaves_the_previous_file(tmp_path: Path) -> None:
    path, previous = tmp_path / "a.txt", tmp_path / "b.txt"
    write_text(path, "new")
    write_text(previous, "old")
    with pytest.raises(RuntimeError, match="disk"), replacing(path, previous=previous) as stream:
        stream.write(b"half of the n")
        raise RuntimeError("disk")
    assert (path.read_text(), previous.read_text()) == ("new", "old")
    assert sorted(tmp_path.iterdir()) == [path, previous]


@pytest.mark.parametrize("place", ["write", "sync"])
def test_an_error_without_a_name_gets_that_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    refuse = _failing(errno.ENOSPC)
    if place == "sync":
        monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "a.txt"):
        if place == "write":
            refuse()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.txt"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_a_file_that_cannot_be_made_is_named_by_its_own_name(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / folder / "a.txt"
    with pytest.raises(OSError, match=r"No such file|Not a directory") as caught:
        write_text(path, "")
    assert caught.value.filename == str(path)


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "a.txt"):
        (tmp_path / "other").read_text()
    assert caught.value.filename == str(tmp_path / "other")


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice")
def test_memory_is_given_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(b"content")
    calls = []

    def advise(descriptor: int, start: int, length: int, advice: int) -> None:
        calls.append((os.fstat(descriptor).st_ino, start, length, advice))
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", advise)
    will_not_need(path)  # advice that is refused does no harm
    assert calls == [(path.stat().st_ino, 0, 0, os.POSIX_FADV_DONTNEED)], "all of it"
    monkeypatch.undo()
    will_not_need(path)
    assert path.read_bytes() == b"content"
    monkeypatch.delattr(os, "posix_fadvise")
    will_not_need(path)


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    for name in (".last.pt.17.tmp", ".status.json.4711.tmp", ".lock", "mine.tmp", "last.pt", ".hydra"):
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".a.1.tmp").touch()
    remove_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "mine.tmp", "last.pt", ".hydra", "below"}
    assert (tmp_path / "below" / ".a.1.tmp").exists()


def test_the_temporary_of_a_killed_writer_is_found(tmp_path: Path) -> None:
    writer = replacing(tmp_path / "a.txt")
    writer.__enter__().close()
    (temporary,) = tmp_path.iterdir()
    remove_temporaries(tmp_path)
    assert not temporary.exists()


def test_json_holds_no_nan_or_infinity(tmp_path: Path) -> None:
    path, nan = tmp_path / "a.json", float("nan")
    write_json(
        path, {"a": nan, "b": [1.5, math.inf, {"c": (-math.inf, 2), "d": [[nan]]}], "e": "ä", "f": np.float64(nan)}
    )
    assert read_json(path) == {"a": None, "b": [1.5, None, {"c": [None, 2], "d": [[None]]}], "e": "ä", "f": None}
    text = path.read_text(encoding="utf-8")
    assert "ä" in text and "NaN" not in text and "Infinity" not in text
    assert text.startswith('{\n  "a": null,\n') and text.endswith("}\n")


def test_a_list_of_numbers_in_json_is_one_line(tmp_path: Path) -> None:
    """The confusion matrix of 1,000 classes would have a million of them."""
    path, content = (
        tmp_path / "a.json",
        {"a": [[1, -2], [3e-7, 0.5]], "b": "[\n1,\n 2]", "c": ["x", 1], "d": [], "e": [7]},
    )
    write_json(path, content)
    assert read_json(path) == content
    text = path.read_text(encoding="utf-8")
    assert '"a": [\n    [1, -2],\n    [3e-07, 0.5]\n  ],\n' in text
    assert '"b": "[\\n1,\\n 2]",\n  "c": [\n    "x",\n    1\n  ],\n  "d": [],\n  "e": [7]\n}' in text


def test_a_name_in_json_is_a_number_that_json_can_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {float("nan"): 1})


@pytest.mark.parametrize("value", [torch.tensor(1.0), torch.tensor(float("nan")), np.float32(1), np.arange(2)])
def test_what_is_no_plain_value_is_refused_and_not_half_written(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    write_json(path, "old")
    with pytest.raises(TypeError, match="is not JSON serializable"):
        write_json(path, {"a": [value]})
    assert read_json(path) == "old"


def test_what_is_no_character_can_be_read_again(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "a\udcff.png")  # as a name of another encoding is read
    assert (tmp_path / "a.txt").read_bytes() == rb"a\udcff.png"
    write_json(tmp_path / "a.json", ["a\udcff.png"])
    assert read_json(tmp_path / "a.json") == ["a\udcff.png"]


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


def test_several_share_a_lock_that_nobody_has_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as alone, path.open() as first, path.open() as second:
        assert try_lock(first, is_shared=True) and try_lock(second, is_shared=True)
        assert try_lock(alone) is False
        first.close()
        second.close()
        assert try_lock(alone)
        with path.open() as third:
            assert try_lock(third, is_shared=True) is False


def test_one_that_waits_for_a_lock_says_so_and_gets_it(tmp_path: Path) -> None:
    path, said, waits = tmp_path / "lock", [], threading.Event()

    def say() -> None:
        said.append("waiting")
        waits.set()

    def hold() -> None:
        with locked(path, on_wait=say) as is_alone:
            said.append("second" if is_alone else "beside the first")

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
    with locked(tmp_path / "lock", on_wait=lambda: pytest.fail("nobody holds it")) as is_alone:
        assert is_alone


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
        assert try_lock(first) is None
        assert try_lock(second) is None
    with locked(tmp_path / "lock", on_wait=lambda: pytest.fail("nobody waits")) as is_alone:
        assert not is_alone


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(files.fcntl, "flock", _failing(number))
    with (tmp_path / "lock").open("w") as stream:
        assert try_lock(stream) is None


def test_another_failure_to_lock_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.fcntl, "flock", _failing(errno.EIO))
    with (tmp_path / "lock").open("w") as stream, pytest.raises(OSError, match="Input/output error"):
        try_lock(stream)


def test_a_path_below_the_working_directory_is_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    assert shortened(tmp_path / "a" / "b" / "c.pt") == Path("b/c.pt")
    assert shortened(tmp_path / "c.pt") == tmp_path / "c.pt"


def test_without_a_working_directory_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    assert shortened(tmp_path / "here" / "a") == tmp_path / "here" / "a"


def test_files_have_a_folder_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert common_folder([Path("a/b/1.png"), tmp_path / "a" / "c" / "1.png"]) == tmp_path / "a"
    assert common_folder([Path("a/b/1.png")]) == tmp_path / "a" / "b"


@pytest.mark.usefixtures("two_drives")
def test_files_on_two_drives_have_no_folder_in_common() -> None:
    assert common_folder([Path("/a/1.png"), Path("/a/2.png")]) is None


@pytest.mark.parametrize(
    ("limits", "largest"),
    [((5000, 9000), 5000), ((0, resource.RLIM_INFINITY), 0), ((resource.RLIM_INFINITY,) * 2, math.inf)],
)
def test_the_largest_file_that_may_be_written(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], largest: float
) -> None:
    monkeypatch.setattr(resource, "getrlimit", {resource.RLIMIT_FSIZE: limits}.get)
    assert size_limit() == largest


def test_a_system_without_limits_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "resource", None)  # as on Windows
    assert size_limit() == math.inf


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (3_140_000_000, "3.1 GB"),
        (1_000_000_000, "1.0 GB"),
        (12_400_000, "12 MB"),
        (1_000_000, "1 MB"),
        (345_000, "345 kB"),
        (0, "0 kB"),
    ],
)
def test_bytes_are_said_for_people(number: int, text: str) -> None:
    assert in_bytes(number) == text


def test_a_folder_to_write_in_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        writable_folder(tmp_path / "file")

    def refused(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)  # root may write everywhere
    with pytest.raises(PermissionError, match="Permission denied"):
        writable_folder(tmp_path / "a")


def test_an_output_folder_that_is_none_is_told_with_what_to_do(tmp_path: Path) -> None:
    assert output_folder(tmp_path / "a").is_dir()
    (tmp_path / "file").touch()
    hint = "hint: choose another one with out=<folder>"
    with pytest.raises(InputError, match=rf"unusable folder in out={tmp_path}/file: File exists\n{hint}"):
        output_folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"missing value in out=: no folder is named\nhint: out=\. is the working"):
        output_folder("")


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '{"a": 1}', "\xff"])
def test_a_file_that_is_missing_damaged_or_another_one_has_nothing(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text, encoding="latin-1")
    assert read_if_whole(tmp_path / "a.json") == ({"a": 1} if text == '{"a": 1}' else {})
    assert read_if_whole(tmp_path / "a.json", list) == ([1] if text == "[1]" else [])


@pytest.mark.parametrize("names", [None, "", [], ["", "a"]])
def test_an_option_that_names_nothing_is_refused(names: str | list[str] | None) -> None:
    with pytest.raises(InputError, match=r"missing value in run: no run is named\nhint: run=a$"):
        named(names, kind="run", hint="run=a")


def test_an_option_names_one_thing_or_several() -> None:
    assert named("a/", kind="run", hint="") == ["a/"]
    assert named(("a", "b"), kind="run", hint="") == ["a", "b"]
