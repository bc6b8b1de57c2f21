"""Every way in which a table can be wrong is told with its path, lines and counts; a right one is read as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hybridnet.data.table import Split, check_files, choose, read_label2id, read_metadata
from hybridnet.errors import Fault, InputError

LABELS = {"leaf": 0, "root": 1, "stem": 2}
HEADING = "path,label,split\n"
GOOD = "a.png,leaf,train\nb.png,root,valid\n"


def fault_of(call: Callable[[], object]) -> Fault:
    """The only fault of a call that must fail."""
    with pytest.raises(InputError) as error:
        call()
    assert len(error.value.faults) == 1
    return error.value.faults[0]


def table(folder: Path, content: str | bytes) -> Path:
    path = folder / "metadata.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fault_in(folder: Path, content: str | bytes, labels: dict[str, int] = LABELS) -> Fault:
    path = table(folder, content)
    fault = fault_of(lambda: read_metadata(path, labels))
    assert fault.where == f"data.metadata={path}"
    return fault


def split_of(labels: list[int]) -> Split:
    paths = [f"{number}.png" for number in range(len(labels))]
    return Split(paths, [Path("photos") / path for path in paths], np.array(labels))


# label2id.json


def test_labels_come_in_the_order_of_their_index(tmp_path: Path) -> None:
    path = tmp_path / "label2id.json"
    path.write_bytes('\ufeff{"müde": 2, "NA": 0, "007": 1}'.encode())
    assert list(read_label2id(path).items()) == [("NA", 0), ("007", 1), ("müde", 2)]


@pytest.mark.parametrize(
    ("content", "what", "cause"),
    [
        (b"", "unreadable file", "not JSON in UTF-8"),
        (b"leaf: 0", "unreadable file", "not JSON in UTF-8 .*line 1 column 1"),
        (b'{"leaf": 0,}', "unreadable file", "not JSON in UTF-8"),
        ('{"müde": 0}'.encode("latin-1"), "unreadable file", "not JSON in UTF-8"),
        (b'["leaf", "root"]', "wrong content", "expected an object, got list"),
        (b'"leaf"', "wrong content", "expected an object, got str"),
        (b"{}", "wrong content", "expected an object"),
        (b'{"leaf": true, "root": 0}', "wrong content", "every class index must be an integer"),
        (b'{"leaf": 0.0, "root": 1.0}', "wrong content", "every class index must be an integer"),
        (b'{"leaf": "0"}', "wrong content", "every class index must be an integer"),
        (b'{"leaf": null}', "wrong content", "every class index must be an integer"),
        (b'{"leaf": 0, "root": 2}', "wrong content", r"must be 0 … 1 without gaps or doubles, got \[0, 2\]"),
        (b'{"leaf": 1, "root": 2}', "wrong content", r"must be 0 … 1 without gaps or doubles, got \[1, 2\]"),
        (b'{"a": 0, "b": 1, "c": 1}', "wrong content", r"must be 0 … 2 without gaps or doubles, got \[0, 1, 1\]"),
        (b'{"leaf": -1, "root": 0}', "wrong content", r"must be 0 … 1 without gaps or doubles, got \[-1, 0\]"),
    ],
)
def test_wrong_labels(content: bytes, what: str, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "label2id.json"
    path.write_bytes(content)
    fault = fault_of(lambda: read_label2id(path))
    assert (fault.what, fault.where) == (what, f"data.label2id={path}")
    assert re.search(cause, fault.cause)


# metadata.csv


@pytest.mark.parametrize("read", [read_label2id, lambda path: read_metadata(path, LABELS)], ids=["labels", "table"])
@pytest.mark.parametrize("name", ["nowhere/file", ""], ids=["missing", "folder"])
def test_missing_file_says_how_to_make_one(read: Callable, name: str, tmp_path: Path) -> None:
    fault = fault_of(lambda: read(tmp_path / name))
    assert (fault.what, fault.cause) == ("missing file", "no such file")
    assert str(tmp_path / name) in fault.where
    assert "python -m hybridnet.prepare root=" in fault.hint


def test_splits(tmp_path: Path) -> None:
    rows = ["a.png,leaf,train", "deep/b.png,stem,test", "c.png,root,valid", "/elsewhere/d.png,root,train"]
    splits = read_metadata(table(tmp_path, HEADING + "\n".join(rows)), LABELS)
    assert {name: split.paths for name, split in splits.items()} == {
        "train": ["a.png", "/elsewhere/d.png"],
        "valid": ["c.png"],
        "test": ["deep/b.png"],
    }
    assert splits["train"].files == [tmp_path / "a.png", Path("/elsewhere/d.png")]
    assert splits["test"].files == [tmp_path / "deep" / "b.png"]
    assert [split.labels.tolist() for split in splits.values()] == [[0, 1], [1], [2]]
    assert splits["train"].labels.dtype == np.int64
    assert len(splits["train"]) == 2


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(HEADING + GOOD, id="as it should be"),
        pytest.param((HEADING + GOOD).rstrip("\n"), id="no last line end"),
        pytest.param(("\ufeff" + HEADING + GOOD), id="byte order mark"),
        pytest.param((HEADING + GOOD).replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param('"path","label","split"\n"a.png","leaf","train"\nb.png,root,valid\n', id="quotes"),
        pytest.param("split,width,path,label\ntrain,3,a.png,leaf\nvalid,4,b.png,root\n", id="other columns"),
    ],
)
def test_spellings_of_one_table(content: str, tmp_path: Path) -> None:
    splits = read_metadata(table(tmp_path, content), LABELS)
    assert splits["train"].paths == ["a.png"] and splits["valid"].paths == ["b.png"]
    assert splits["train"].labels.tolist() == [0] and splits["valid"].labels.tolist() == [1]


@pytest.mark.parametrize("text", ["NA", "null", "007", "1e5", "True", "None", " leaf", "nan", "müde, grün", "葉"])
def test_text_stays_text(text: str, tmp_path: Path) -> None:
    row = f'"{text}","{text}"'
    path = table(tmp_path, f"{HEADING}{row},train\n{row},valid\n")
    split = read_metadata(path, {text: 0})["train"]
    assert (split.paths, split.files, split.labels.tolist()) == ([text], [tmp_path / text], [0])


@pytest.mark.parametrize(
    ("content", "what", "cause", "hint"),
    [
        (b"", "unreadable file", "not a CSV file", ""),
        (HEADING, "empty split", "no row has split 'train'", "python -m hybridnet.prepare"),
        (HEADING + "a.png,leaf,train\n", "empty split", "no row has split 'valid'", "python -m hybridnet.prepare"),
        (HEADING + "a.png,leaf,valid\n", "empty split", "no row has split 'train'", "python -m hybridnet.prepare"),
        (HEADING + "a.png,leaf,test\n", "empty split", "no row has split 'train'", "python -m hybridnet.prepare"),
        (GOOD, "missing columns", "no path, label, split; found a.png, leaf, train", "path,label,split"),
        ("path,class,split\n" + GOOD, "missing columns", "no label; found path, class, split", "path,label,split"),
        ("Path,label\na.png,leaf\n", "missing columns", "no path, split; found Path, label", "path,label,split"),
        ((HEADING + GOOD).replace(",", ";"), "missing columns", "found path;label;split", "columns with commas"),
        ((HEADING + GOOD).encode("utf-16"), "unreadable file", "not UTF-8", "CSV UTF-8"),
        ((HEADING + "ü.png,leaf,train\n").encode("latin-1"), "unreadable file", "not UTF-8", "CSV UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "unreadable file", "not UTF-8", "CSV UTF-8"),
        (HEADING + GOOD + "a.png,leaf,train,x\n", "unreadable file", "Expected 3 fields in line 4, saw 4", ""),
        (HEADING + '"a.png,leaf,train\n', "unreadable file", "not a CSV file", ""),
    ],
)
def test_no_such_table(content: str | bytes, what: str, cause: str, hint: str, tmp_path: Path) -> None:
    fault = fault_in(tmp_path, content)
    assert fault.what == what
    assert cause in fault.cause
    assert hint in fault.hint


UNSAFE = "path that is empty, a URL, or contains '..'"


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ("a.png,flower,train", "unknown label (label2id has leaf, root, stem): line 4 'flower'"),
        ("a.png,Leaf,train", "unknown label (label2id has leaf, root, stem): line 4 'Leaf'"),
        ("a.png,,train", "unknown label (label2id has leaf, root, stem): line 4 ''"),
        ("a.png,leaf,validation", "unknown split (expected train, valid, test): line 4 'validation'"),
        ("a.png,leaf,Train", "unknown split (expected train, valid, test): line 4 'Train'"),
        ("a.png,leaf", "unknown split (expected train, valid, test): line 4 ''"),
        (",leaf,train", f"{UNSAFE}: line 4 ''"),
        ("  ,leaf,train", f"{UNSAFE}: line 4 '  '"),
        ("../a.png,leaf,train", f"{UNSAFE}: line 4 '../a.png'"),
        ("a/../../b.png,leaf,train", f"{UNSAFE}: line 4 'a/../../b.png'"),
        ("..\\a.png,leaf,train", f"{UNSAFE}: line 4 '..\\\\a.png'"),
        ("a\\..\\..\\b.png,leaf,train", f"{UNSAFE}: line 4 'a\\\\..\\\\..\\\\b.png'"),
        ("/photos/../../etc/passwd,leaf,train", f"{UNSAFE}: line 4 '/photos/../../etc/passwd'"),
        ("https://example.org/a.png,leaf,train", f"{UNSAFE}: line 4 'https://example.org/a.png'"),
        ("file:///etc/passwd,leaf,train", f"{UNSAFE}: line 4 'file:///etc/passwd'"),
        ("a\0.png,leaf,train", f"{UNSAFE}: line 4 'a\\x00.png'"),
    ],
)
def test_wrong_row(row: str, cause: str, tmp_path: Path) -> None:
    fault = fault_in(tmp_path, HEADING + GOOD + row + "\n" + GOOD)
    assert (fault.what, fault.cause) == ("wrong rows", cause)


@pytest.mark.parametrize("path", ["..a.png", "a..b/c.png", "a..png", "con:2.png", "/absolute/a.png"])
def test_odd_path_is_fine(path: str, tmp_path: Path) -> None:
    splits = read_metadata(table(tmp_path, f"{HEADING}{path},leaf,train\n{GOOD}"), LABELS)
    assert splits["train"].paths == [path, "a.png"]


def test_every_kind_of_wrong_row_is_told_at_once(tmp_path: Path) -> None:
    path = table(tmp_path, f"{HEADING}../a.png,flower,train\nb.png,flower,val\n{GOOD}")
    with pytest.raises(InputError) as error:
        read_metadata(path, LABELS)
    assert [fault.cause for fault in error.value.faults] == [
        "unknown label (label2id has leaf, root, stem): line 2 'flower', line 3 'flower'",
        "unknown split (expected train, valid, test): line 3 'val'",
        f"{UNSAFE}: line 2 '../a.png'",
    ]
    assert str(error.value).count(f"error: wrong rows in data.metadata={path}: ") == 3


@pytest.mark.parametrize(("num_wrong", "end"), [(20, "line 23 'flower'"), (21, "line 23 'flower' … (21 in all)")])
def test_first_twenty_lines_are_listed(num_wrong: int, end: str, tmp_path: Path) -> None:
    fault = fault_in(tmp_path, HEADING + GOOD + "a.png,flower,train\n" * num_wrong)
    assert fault.cause.count("line ") == 20
    assert fault.cause.endswith(end)


def test_one_comma_too_many_in_every_row_is_told_as_such(tmp_path: Path) -> None:
    fault = fault_in(tmp_path, HEADING + "a.png,leaf,train,\nb.png,root,valid,\n")
    assert "Expected 3 fields in line 2, saw 4" in fault.cause and "unknown label" not in fault.cause


def test_empty_line_at_the_end_is_fine(tmp_path: Path) -> None:
    assert len(read_metadata(table(tmp_path, HEADING + GOOD + "\n"), LABELS)["train"]) == 1


def test_empty_lines_count_where_a_line_is_named(tmp_path: Path) -> None:
    fault = fault_in(tmp_path, HEADING + "\n" + GOOD + "\n\n" + "a.png,flower,train\n")
    assert fault.cause.endswith(": line 7 'flower'")


# The pictures of a table


def test_missing_and_unreadable_pictures_are_listed(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(train=4, valid=2)
    (folder / "01.png").unlink()
    (folder / "03.png").write_text("no picture")
    (folder / "05.png").write_bytes(b"")
    splits = read_metadata(folder / "metadata.csv", LABELS)
    fault = fault_of(lambda: check_files([splits["train"], splits["valid"]], where="here"))
    assert (fault.what, fault.where) == ("unusable images", "here")
    count, *lines = fault.cause.splitlines()
    assert count == "3 of them"
    assert lines[0] == f"  {folder / '01.png'}: no such file"
    assert [line.split(":")[0] for line in lines] == [f"  {folder / name}" for name in ("01.png", "03.png", "05.png")]


def test_good_pictures_pass(make_folder: Callable[..., Path]) -> None:
    check_files(read_metadata(make_folder() / "metadata.csv", LABELS).values(), where="here")


@pytest.mark.parametrize(("num_missing", "more"), [(20, None), (23, "  … and 3 more")])
def test_first_twenty_pictures_are_listed(num_missing: int, more: str | None) -> None:
    fault = fault_of(lambda: check_files([split_of([0] * num_missing)], where="here"))
    count, *lines = fault.cause.splitlines()
    assert count == f"{num_missing} of them"
    assert len([line for line in lines if line.endswith(": no such file")]) == 20
    assert lines[20:] == ([more] if more else [])


# Limits

COUNTS = {0: 60, 1: 30, 2: 10}
MIXED = split_of(np.random.default_rng(7).permutation(np.repeat(list(COUNTS), list(COUNTS.values()))).tolist())


@pytest.mark.parametrize("limit", [None, 100, 101])
def test_no_limit_takes_all(limit: int | None) -> None:
    assert choose(MIXED, limit, seed=0) is MIXED


@pytest.mark.parametrize("seed", [0, 42])
def test_every_class_keeps_its_share(seed: int) -> None:
    for limit in range(1, 100):
        chosen = choose(MIXED, limit, seed=seed)
        assert len(chosen) == len(chosen.paths) == limit
        found = np.bincount(chosen.labels, minlength=3)
        wanted = np.array(list(COUNTS.values())) * limit / 100
        assert np.abs(found - wanted).max() <= 1, limit
    assert np.bincount(choose(MIXED, 20, seed=seed).labels).tolist() == [12, 6, 2]


def test_larger_limit_adds_to_a_smaller_one_in_the_order_of_the_table() -> None:
    chosen = [choose(MIXED, limit, seed=3).paths for limit in range(1, 101)]
    for smaller, larger in pairwise(chosen):
        assert set(smaller) < set(larger)
        assert smaller == [path for path in larger if path in smaller]
    assert chosen[-1] == MIXED.paths
    assert chosen[40] == [path for path in MIXED.paths if path in chosen[40]]


def test_choice_depends_on_the_seed_alone() -> None:
    assert choose(MIXED, 30, seed=3).paths == choose(MIXED, 30, seed=3).paths
    assert choose(MIXED, 30, seed=3).paths != choose(MIXED, 30, seed=4).paths


def test_choice_keeps_files_and_labels_together() -> None:
    chosen = choose(MIXED, 30, seed=3)
    numbers = [int(Path(path).stem) for path in chosen.paths]
    assert chosen.files == [MIXED.files[number] for number in numbers]
    assert chosen.labels.tolist() == MIXED.labels[numbers].tolist()
