"""Files that somebody else made: what is a table is read as it stands, what is none is explained."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from hybridnet.data.rows import read_rows, read_text, require_file
from hybridnet.errors import Fault, InputError

HEADING = "path,label,split\n"
GOOD = "a.png,leaf,train\nb.png,root,valid\n"
SEMICOLONS = (HEADING + GOOD).replace(",", ";")


def table(folder: Path, content: str | bytes) -> Path:
    path = folder / "metadata.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fault_in(path: Path) -> Fault:
    with pytest.raises(InputError) as error:
        read_rows(path)
    (fault,) = error.value.faults
    assert fault.where == f"data.metadata={path}"
    return fault


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(HEADING + GOOD, id="as it should be"),
        pytest.param((HEADING + GOOD).rstrip("\n"), id="no last line end"),
        pytest.param("\ufeff" + HEADING + GOOD, id="byte order mark"),
        pytest.param((HEADING + GOOD).replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param((HEADING + GOOD).replace("\n", "\r"), id="line ends of old Macs"),
        pytest.param('"path","label","split"\n"a.png","leaf","train"\nb.png,root,valid\n', id="quotes"),
        pytest.param("split,width,path,label\ntrain,3,a.png,leaf\nvalid,4,b.png,root\n", id="other columns"),
        pytest.param("path,label,split,,\na.png,leaf,train,,\nb.png,root,valid,,\n", id="empty columns"),
        pytest.param(SEMICOLONS, id="semicolons, as Excel writes where a comma is the decimal sign"),
        pytest.param("\r\n" + SEMICOLONS.replace("\n", "\r"), id="semicolons of old Macs"),
        pytest.param('"path";"label";"split"\n"a.png";"leaf";"train"\nb.png;root;valid\n', id="semicolons and quotes"),
        pytest.param(SEMICOLONS.replace(";", "\t"), id="tabs"),
        pytest.param(SEMICOLONS.replace(";", "|"), id="vertical bars"),
        pytest.param(
            '"wide, high; deep",path,label,split\n3,a.png,leaf,train\n,b.png,root,valid\n', id="several signs"
        ),
        pytest.param("\n \n" + HEADING + "\n" + GOOD + "\n,,\n   \n", id="blank lines"),
    ],
)
def test_spellings_of_one_table(content: str, tmp_path: Path) -> None:
    rows, faults = read_rows(table(tmp_path, content))
    assert not faults
    assert [row[1:] for row in rows] == [("a.png", "leaf", "train", None, None), ("b.png", "root", "valid", None, None)]


@pytest.mark.parametrize(
    "text", ["NA", "null", "007", "1e5", "True", " leaf", "nan", "a, b", 'a "b"', "müde", "葉", "a\nb", "a\r\nb"]
)
def test_text_stays_text(text: str, tmp_path: Path) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    ((row,), _) = read_rows(table(tmp_path, f"{HEADING}{quoted},{quoted},train\n"))
    assert row[:4] == (2, text, text, "train")


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    rows, _ = read_rows(table(tmp_path, "\n" + HEADING + '\n"a\nb",leaf,train\nc.png,leaf,train\n\nd.png,leaf,train'))
    assert [(row.line, row.path) for row in rows] == [(4, "a\nb"), (6, "c.png"), (8, "d.png")]


def test_fold_and_group_are_text(tmp_path: Path) -> None:
    ((row,), _) = read_rows(table(tmp_path, "group,path,label,split,fold\n,a,leaf,train,02\n"))
    assert (row.group, row.fold) == ("", "02")


@pytest.mark.parametrize(
    ("content", "what", "cause", "hint"),
    [
        (b"", "unreadable file", "is empty (0 bytes)", "hybridnet.prepare"),
        (b"\xef\xbb\xbf", "unreadable file", "is empty (3 bytes)", "hybridnet.prepare"),
        (b"\n \r\n", "unreadable file", "is empty (4 bytes)", "hybridnet.prepare"),
        (bytes(4096), "unreadable file", "is empty (4096 bytes)", "hybridnet.prepare"),
        (HEADING, "no rows", "the table ends after its first line", "hybridnet.prepare"),
        (HEADING + "\n,,\n", "no rows", "the table ends after its first line", "hybridnet.prepare"),
        (",,\n", "no rows", "all its lines are blank", "hybridnet.prepare"),
        ("a", "missing columns", "no path, label, split; found 'a'", "must be: path,label,split"),
        (GOOD, "missing columns", "no path, label, split; found 'a.png', 'leaf', 'train'", "must be: path,label,split"),
        (
            "path,class,split\n" + GOOD,
            "missing columns",
            "no label; found 'path', 'class', 'split'",
            "path,label,split",
        ),
        (
            "Path, label,split\n" + GOOD,
            "missing columns",
            "no path, label",
            "rename 'Path' to 'path', ' label' to 'lab",
        ),
        (
            "path,label,split \n" + GOOD,
            "missing columns",
            "no split; found 'path', 'label', 'split '",
            "'split ' to 's",
        ),
        ("Path,class,split\n" + GOOD, "missing columns", "no path, label; found 'Path'", "must be: path,label,split"),
        ("path,path,label,split\n", "doubled columns", "path is there more than once; found 'path', 'path'", "remove"),
        ("path,label,split,fold,fold\n", "doubled columns", "fold is there more than once", "remove"),
        (
            "path;class;split\n" + SEMICOLONS,
            "missing columns",
            "no label; found 'path', 'class', 'split'",
            "must be: path",
        ),
        ((HEADING + GOOD).encode("utf-16"), "unreadable file", "is not UTF-8 but UTF-16", "CSV UTF-8"),
        ((HEADING + GOOD).encode("utf-16-le"), "unreadable file", "is not UTF-8 but UTF-16", "CSV UTF-8"),
        ((HEADING + GOOD).encode("utf-16-be"), "unreadable file", "is not UTF-8 but UTF-16", "CSV UTF-8"),
        (codecs.BOM_UTF16_BE + (HEADING + GOOD).encode("utf-16-be"), "unreadable file", "but UTF-16", "CSV UTF-8"),
        (SEMICOLONS.encode("utf-16"), "unreadable file", "is not UTF-8 but UTF-16", "CSV UTF-8"),
        ((HEADING + GOOD).encode("utf-32"), "unreadable file", "UTF-32", "CSV UTF-8"),
        ((HEADING + "ü.png,leaf,train\n").encode("latin-1"), "unreadable file", "byte 0xfc in line 2", "CSV UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0", "unreadable file", "byte 0x89 in line 1", "CSV UTF-8"),
        (b"PK\x03\x04\x14\0\x06\0\x08\0", "unreadable file", "an Excel workbook", "CSV UTF-8"),
        (HEADING + GOOD + "a\0.png,leaf,train\n", "unreadable file", "a zero byte in line 4", ""),
        (
            HEADING + GOOD + '"a.png,leaf,train\n',
            "unreadable file",
            'quote (") that opens in line 4 does not',
            "doubled",
        ),
        (HEADING + GOOD + '"a.png,leaf,train\n' * 3, "unreadable file", 'quote (") in line 4 is misplaced', "doubled"),
        (HEADING + '"' + "a.png,leaf,train\n" * 9999, "unreadable file", "opens in line 2 does not close", "doubled"),
        (HEADING + GOOD + '"a" b.png,leaf,train\n', "unreadable file", 'quote (") in line 4 is misplaced', "doubled"),
    ],
)
def test_no_such_table(content: str | bytes, what: str, cause: str, hint: str, tmp_path: Path) -> None:
    fault = fault_in(table(tmp_path, content))
    assert fault.what == what
    assert cause in fault.cause
    assert hint in fault.hint


def test_rows_with_another_number_of_fields_are_told_and_the_others_are_read(tmp_path: Path) -> None:
    path = table(tmp_path, f"{HEADING}{GOOD}a, b.png,leaf,train\nc.png,leaf\n\n{GOOD}")
    rows, (fault,) = read_rows(path)
    assert [row.line for row in rows] == [2, 3, 7, 8]
    assert (fault.what, fault.cause) == ("wrong rows", "expected 3 fields: line 4 has 4, line 5 has 2")
    assert fault.hint == "put a path or label with ',' into quotes: \"a, b.jpg\""
    path.write_text(path.read_text().replace(",", ";"))
    assert read_rows(path)[1][0].hint == "put a path or label with ';' into quotes: \"a; b.jpg\""
    path.write_text("path;label;split\na.png;leaf\n")
    assert read_rows(path)[1][0].hint == "give every row all of them, empty ones as well: path;label;split"


def test_one_comma_too_many_in_every_row_is_told_as_such(tmp_path: Path) -> None:
    rows, (fault,) = read_rows(table(tmp_path, HEADING + "a.png,leaf,train,\nb.png,root,valid,\n"))
    assert not rows
    assert fault.cause == "expected 3 fields: line 2 has 4, line 3 has 4"


@pytest.mark.parametrize("option", ["data.metadata", "data.label2id"])
def test_missing_file_says_how_to_make_one(option: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nowhere", "nowhere/deep", "file/deep"):
        with pytest.raises(InputError) as error:
            require_file(tmp_path / name, option)
        (fault,) = error.value.faults
        assert fault[:3] == ("missing file", f"{option}={tmp_path / name}", "no such file")
        assert "python -m hybridnet.prepare root=" in fault.hint


def test_folder_is_no_table(tmp_path: Path) -> None:
    fault = fault_in(tmp_path)
    assert fault.cause == "is a folder"
    assert fault.hint.endswith(f"data.metadata={tmp_path / 'metadata.csv'}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metadata.csv")
    assert fault_in(tmp_path / "metadata.csv").cause == "is not a regular file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs devices")
def test_device_without_end_is_not_read() -> None:
    assert fault_in(Path("/dev/zero")).cause == "is not a regular file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_is_told(tmp_path: Path) -> None:
    path = table(tmp_path, HEADING + GOOD)
    path.chmod(0)
    assert fault_in(path).cause == "Permission denied"


def test_file_with_an_impossible_name_is_told(tmp_path: Path) -> None:
    assert fault_in(tmp_path / ("x" * 3000)).cause == "File name too long"
    assert "null byte" in fault_in(tmp_path / "a\0b").cause


def test_text_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffmüde\r\n".encode())
    assert read_text(tmp_path / "a", "option") == "müde\r\n"
