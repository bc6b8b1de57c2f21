"""Every way in which a table can be wrong is told with its lines and counts; a right one is read as it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hybridnet.data import table as module
from hybridnet.data.table import (
    Split,
    choose,
    examine,
    is_safe,
    read_metadata,
    require_usable,
)
from hybridnet.errors import Fault, InputError

LABELS = {"leaf": 0, "root": 1, "stem": 2}
HEADING = "path,label,split\n"
GOOD = "a.png,leaf,train\nb.png,root,train\nc.png,stem,train\nd.png,root,valid\n"  # lines 2 to 5


def faults_of(call: Callable[[], object]) -> tuple[Fault, ...]:
    with pytest.raises(InputError) as error:
        call()
    return error.value.faults


def fault_of(call: Callable[[], object]) -> Fault:
    """The only fault of a call that must fail."""
    (fault,) = faults_of(call)
    return fault


def table(folder: Path, content: str) -> Path:
    path = folder / "metadata.csv"
    path.write_bytes(content.encode())
    return path


def causes_in(folder: Path, content: str, *, fold: int | None = None) -> list[str]:
    path = table(folder, content)
    faults = faults_of(lambda: read_metadata(path, LABELS, fold=fold))
    assert {fault.where for fault in faults} <= {f"data.metadata={path}", f"data.fold={fold}"}
    return [fault.cause for fault in faults]


def split_of(labels: list[int]) -> Split:
    paths = [f"{number}.png" for number in range(len(labels))]
    return Split(Path("photos"), paths, np.array(labels), list(range(2, len(labels) + 2)), [""] * len(labels))


# metadata.csv


def test_files_are_where_the_table_says(tmp_path: Path) -> None:
    rows = ["e.png,leaf,train", "deep/f.png,stem,train", "/elsewhere/g.png,root,valid"]
    splits = read_metadata(table(tmp_path, HEADING + GOOD + "\n".join(rows)), LABELS)
    assert splits["train"].files[-2:] == [tmp_path / "e.png", tmp_path / "deep" / "f.png"]
    assert splits["valid"].files[-1] == Path("/elsewhere/g.png")
    for split in splits.values():
        assert list(map(Path, split.file_names)) == split.files


def test_splits(tmp_path: Path) -> None:
    rows = ["e.png,leaf,train", "deep/f.png,stem,test", "", "/elsewhere/g.png,root,valid", "h.png,leaf,valid"]
    splits = read_metadata(table(tmp_path, HEADING + GOOD + "\n".join(rows)), LABELS)
    assert {name: split.paths for name, split in splits.items()} == {
        "train": ["a.png", "b.png", "c.png", "e.png"],
        "valid": ["d.png", "/elsewhere/g.png", "h.png"],
        "test": ["deep/f.png"],
    }
    assert splits["valid"].files == [tmp_path / "d.png", Path("/elsewhere/g.png"), tmp_path / "h.png"]
    assert splits["test"].files == [tmp_path / "deep" / "f.png"]
    assert [split.labels.tolist() for split in splits.values()] == [[0, 1, 2, 0], [1, 1, 0], [2]]
    assert [split.lines for split in splits.values()] == [[2, 3, 4, 6], [5, 9, 10], [7]]
    assert splits["train"].labels.dtype == np.int64
    assert len(splits["train"]) == 4


def test_what_is_taken_keeps_its_lines(tmp_path: Path) -> None:
    taken = read_metadata(table(tmp_path, HEADING + GOOD), LABELS)["train"].take(np.array([2, 0]))
    assert (taken.paths, taken.lines, taken.labels.tolist()) == (["c.png", "a.png"], [4, 2], [2, 0])
    assert taken.files == [tmp_path / "c.png", tmp_path / "a.png"]


@pytest.mark.parametrize("text", ["NA", "null", "007", "1e5", "None", " leaf", "müde, grün", "葉"])
def test_text_stays_text(text: str, tmp_path: Path) -> None:
    path = table(tmp_path, f'{HEADING}"{text}","{text}",train\nb,"{text}",valid\n')
    split = read_metadata(path, {text: 0})["train"]
    assert (split.paths, split.files, split.labels.tolist()) == ([text], [tmp_path / text], [0])


UNSAFE = "path that is empty, a URL, or contains '..'"


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ("x.png,flower,train", "unknown label (label2id has leaf, root, stem): line 6 'flower'"),
        ("x.png,Leaf,train", "unknown label (label2id has leaf, root, stem): line 6 'Leaf' instead of 'leaf'"),
        ("x.png,leaf ,train", "unknown label (label2id has leaf, root, stem): line 6 'leaf ' instead of 'leaf'"),
        ("x.png,,train", "unknown label (label2id has leaf, root, stem): line 6 ''"),
        ("x.png,leaf,validation", "unknown split (expected train, valid, test): line 6 'validation'"),
        ("x.png,leaf,Train", "unknown split (expected train, valid, test): line 6 'Train'"),
        ("x.png,leaf,", "unknown split (expected train, valid, test): line 6 ''"),
        ("x.png,leaf", "expected 3 fields: line 6 has 2"),
        ("x, y.png,leaf,train", "expected 3 fields: line 6 has 4"),
        (",leaf,train", f"{UNSAFE}: line 6 ''"),
        ("  ,leaf,train", f"{UNSAFE}: line 6 '  '"),
        ("../x.png,leaf,train", f"{UNSAFE}: line 6 '../x.png'"),
        ("x/../../y.png,leaf,train", f"{UNSAFE}: line 6 'x/../../y.png'"),
        ("..\\x.png,leaf,train", f"{UNSAFE}: line 6 '..\\\\x.png'"),
        ("x\\..\\..\\y.png,leaf,train", f"{UNSAFE}: line 6 'x\\\\..\\\\..\\\\y.png'"),
        ("/photos/../../etc/passwd,leaf,train", f"{UNSAFE}: line 6 '/photos/../../etc/passwd'"),
        ("https://example.org/x.png,leaf,train", f"{UNSAFE}: line 6 'https://example.org/x.png'"),
        ("file:///etc/passwd,leaf,train", f"{UNSAFE}: line 6 'file:///etc/passwd'"),
        ("b.png,leaf,train", "one file with two labels: 'b.png' is root (line 3) and leaf (line 6)"),
        ("./b.png,leaf,train", "one file with two labels: 'b.png' is root (line 3) and leaf (line 6)"),
        ("d.png,root,train", "one file in two splits: 'd.png' is in valid (line 5) and train (line 6)"),
        (".//./d.png,root,test", "one file in two splits: 'd.png' is in valid (line 5) and test (line 6)"),
    ],
)
def test_wrong_row(row: str, cause: str, tmp_path: Path) -> None:
    assert causes_in(tmp_path, HEADING + GOOD + row + "\n" + GOOD) == [cause]


def test_absolute_path_is_recognised_as_the_relative_one(tmp_path: Path) -> None:
    (cause,) = causes_in(tmp_path, f"{HEADING}{GOOD}{tmp_path / 'd.png'},root,train\n")
    assert cause == "one file in two splits: 'd.png' is in valid (line 5) and train (line 6)"


@pytest.mark.parametrize("path", ["..a.png", "a..b/c.png", "a..png", "con:2.png", "/absolute/a.png", "A.png"])
def test_odd_path_is_fine(path: str, tmp_path: Path) -> None:
    splits = read_metadata(table(tmp_path, f"{HEADING}{path},root,train\n{GOOD}"), LABELS)
    assert splits["train"].paths == [path, "a.png", "b.png", "c.png"]


def test_zero_byte_is_not_safe() -> None:
    assert is_safe("a.png") and not is_safe("a\0.png")


def test_same_row_twice_is_fine(tmp_path: Path) -> None:
    splits = read_metadata(table(tmp_path, HEADING + GOOD + "./a.png,leaf,train\n" + GOOD), LABELS)
    assert len(splits["train"]) == 7 and len(splits["valid"]) == 2


def test_every_kind_of_wrong_row_is_told_at_once(tmp_path: Path) -> None:
    rows = ["../x.png,flower,train", "y.png,flower,val", "z.png,leaf", "a.png,stem,valid"]
    assert causes_in(tmp_path, HEADING + GOOD + "\n".join(rows)) == [
        "expected 3 fields: line 8 has 2",
        "unknown label (label2id has leaf, root, stem): line 6 'flower', line 7 'flower'",
        "unknown split (expected train, valid, test): line 7 'val'",
        f"{UNSAFE}: line 6 '../x.png'",
        "one file with two labels: 'a.png' is leaf (line 2) and stem (line 9)",
        "one file in two splits: 'a.png' is in train (line 2) and valid (line 9)",
    ]
    with pytest.raises(InputError) as caught:
        read_metadata(table(tmp_path, HEADING + GOOD + "\n".join(rows)), LABELS)
    hints = [fault.hint for fault in caught.value.faults]
    assert all(hints) and "val is valid" in hints[2]


@pytest.mark.parametrize(("num_wrong", "end"), [(20, "line 25 'flower'"), (21, "line 25 'flower' … (21 in all)")])
def test_first_twenty_lines_are_listed(num_wrong: int, end: str, tmp_path: Path) -> None:
    rows = "".join(f"{number}.png,flower,train\n" for number in range(num_wrong))
    (cause,) = causes_in(tmp_path, HEADING + GOOD + rows)
    assert cause.count("line ") == 20
    assert cause.endswith(end)


def test_a_file_of_many_rows_is_told_once(tmp_path: Path) -> None:
    (cause,) = causes_in(tmp_path, HEADING + GOOD + "a.png,root,train\na.png,stem,train\n" * 30)
    assert cause == "one file with two labels: 'a.png' is leaf (line 2) and root (line 6)"


@pytest.mark.parametrize(
    ("rows", "causes"),
    [
        ("a.png,leaf,test\n", ["no row has split 'train'", "no row has split 'valid'"]),
        ("a.png,leaf,valid\n", ["no row has split 'train'"]),
        ("a.png,leaf,train\n", ["no row has split 'valid'"]),
        ("a.png,leaf,train\nb.png,root,valid\n", ["no row of split 'train' has label 'root', 'stem'"]),
        (GOOD.replace("c.png,stem,train", "c.png,stem,test"), ["no row of split 'train' has label 'stem'"]),
    ],
)
def test_splits_and_classes_without_images(rows: str, causes: list[str], tmp_path: Path) -> None:
    assert causes_in(tmp_path, HEADING + rows) == causes


def test_what_follows_from_wrong_rows_is_not_told(tmp_path: Path) -> None:
    (cause,) = causes_in(tmp_path, HEADING + GOOD.replace("stem", "Stem"))
    assert cause == "unknown label (label2id has leaf, root, stem): line 4 'Stem' instead of 'stem'"


def test_label_whose_accent_is_made_in_another_way_is_shown(tmp_path: Path) -> None:
    path = table(tmp_path, f"{HEADING}a.png,gru\u0308n,train\nb.png,rot,valid\n")
    cause = examine(path, {"gr\xfcn": 0, "rot": 1})[2][0].cause
    assert cause.endswith(r"line 2 'gru\u0308n' instead of 'gr\xfcn'")


def test_without_labels_the_rest_is_examined(tmp_path: Path) -> None:
    rows, splits, faults = examine(table(tmp_path, HEADING + "a.png,leaf,train\nb.png,oak,valid\na.png,x,test\n"), None)
    assert [row.label for row in rows] == ["leaf", "oak", "x"] and splits == ["train", "valid", "test"]
    assert [fault.cause.partition(":")[0] for fault in faults] == ["one file with two labels", "one file in two splits"]
    assert examine(table(tmp_path, HEADING + "a.png,leaf,train\nb.png,oak,valid\n"), None)[2] == []


# Groups and folds


def test_a_group_in_two_splits_is_told(tmp_path: Path) -> None:
    rows = [
        "a.png,leaf,train,17",
        "b.png,root,train,",
        "c.png,stem,train, ",
        "d.png,root,valid, ",
        "e.png,leaf,valid,17",
    ]
    (cause,) = causes_in(tmp_path, "path,label,split,group\n" + "\n".join([*rows, "f.png,leaf,train,3"]))
    assert cause == "one group in two splits: group 17 is in train (line 2) and valid (line 6)"


FOLDS = """path,label,split,fold
a.png,leaf,train,0
b.png,root,train,1
c.png,stem,train,2
d.png,leaf,valid,2
e.png,root,valid,0
f.png,stem,valid,1
g.png,leaf,test,
"""


@pytest.mark.parametrize(
    ("fold", "train", "valid"), [(None, "abc", "def"), (0, "bcdf", "ae"), (1, "acde", "bf"), (2, "abef", "cd")]
)
def test_fold_decides(fold: int | None, train: str, valid: str, tmp_path: Path) -> None:
    without = {label: index for index, label in enumerate(("leaf", "root", "stem"))}
    splits = read_metadata(table(tmp_path, FOLDS), without, fold=fold)
    found = {name: "".join(path[0] for path in split.paths) for name, split in splits.items()}
    assert found == {"train": train, "valid": valid, "test": "g"}


def test_fold_is_ignored_where_none_is_asked_for(tmp_path: Path) -> None:
    assert len(read_metadata(table(tmp_path, FOLDS.replace(",2\n", ",x\n")), LABELS)["train"]) == 3


@pytest.mark.parametrize(
    ("old", "new", "fold", "cause"),
    [
        ("", "", 3, "no row has that fold; there are 0, 1, 2"),
        ("train,1", "train,1.0", 0, "fold that is no integer >= 0: line 3 '1.0'"),
        ("train,1", "train,-1", 0, "fold that is no integer >= 0: line 3 '-1'"),
        ("train,1", "train, ", 0, "fold that is no integer >= 0: line 3 ' '"),
        ("train,1", "train,²", 0, "fold that is no integer >= 0: line 3 '²'"),
        ("train,1", "train,", 0, "only test rows are without a fold: line 3 (split 'train', fold '')"),
        ("test,", "test,1", 0, "only test rows are without a fold: line 8 (split 'test', fold '1')"),
        (",fold", ",wrinkle", 0, "no fold, which data.fold=0 needs"),
        ("c.png,stem,train,2", "f.png,stem,train,2", 1, "'f.png' is in train (line 4) and valid (line 7)"),
        ("b.png,root,train,1", "b.png,root,train,0", 0, "no row of split 'train' has label 'root'"),
    ],
)
def test_wrong_fold(old: str, new: str, fold: int, cause: str, tmp_path: Path) -> None:
    assert old in FOLDS
    (found,) = causes_in(tmp_path, FOLDS.replace(old, new) if old else FOLDS, fold=fold)
    assert found.endswith(cause)


def test_groups_are_held_against_the_fold_and_not_the_split(tmp_path: Path) -> None:
    rows = "a,leaf,train,0,7\nb,leaf,valid,0,7\nc,leaf,train,1,8\nd,leaf,train,2,8\n"
    path = table(tmp_path, "path,label,split,fold,group\n" + rows)
    assert len(read_metadata(path, {"leaf": 0}, fold=0)["valid"]) == 2
    (fault,) = faults_of(lambda: read_metadata(path, {"leaf": 0}))
    assert fault.cause == "one group in two splits: group 7 is in train (line 2) and valid (line 3)"
    (fault,) = faults_of(lambda: read_metadata(path, {"leaf": 0}, fold=1))
    assert fault.cause == "one group in two splits: group 8 is in valid (line 4) and train (line 5)"


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


# Before a run


def test_a_table_is_looked_through_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(module, "examine", lambda *a, **k: read.append(k["fold"]) or examine(*a, **k))
    path, labels = table(tmp_path, HEADING + GOOD), tmp_path / "label2id.json"
    labels.write_text(json.dumps(LABELS))
    for _ in range(3):
        require_usable(path, labels, fold=None)
    assert read == [None]
    for _ in range(2):  # a fault is told each time
        fault = fault_of(lambda: require_usable(path, labels, fold=1))
        assert fault.cause == "no fold, which data.fold=1 needs"
    table(tmp_path, HEADING + GOOD + "e.png,loaf,train\n")
    assert "'loaf'" in fault_of(lambda: require_usable(path, labels, fold=None)).cause
    labels.write_text(json.dumps(LABELS | {"loaf": 3}))
    require_usable(path, labels, fold=None)
    labels.write_text("[]")
    assert fault_of(lambda: require_usable(path, labels, fold=None)).where == f"data.label2id={labels}"
