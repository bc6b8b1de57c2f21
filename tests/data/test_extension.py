"""Extending an earlier table; `tests/test_prepare.py` has what the command makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybridnet.data.extension import Earlier, Place, describe_extension, inherited, read_earlier
from hybridnet.data.pictures import Picture
from hybridnet.errors import InputError

TRAIN, VALID, TEST = (Place(split, "") for split in ("train", "valid", "test"))


def pictures(folder: Path, *names: str) -> list[Picture]:
    return [Picture(folder / name, name, "leaf", b"", 1, np.zeros(0)) for name in names]


def table(folder: Path, *rows: str, heading: str = "path,label,split,group") -> Path:
    path = folder / "old.csv"
    path.write_text("\n".join([heading, *rows]) + "\n")
    return path


def earlier(*places: Place | None, num_rows: int = 9) -> Earlier:
    return Earlier(Path("old.csv"), num_rows, places, [None] * len(places))


def test_pictures_are_known_by_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    rows = ["photos/a.png,leaf,train,3", f"{tmp_path}/photos/b.png,root,valid,", "photos/gone.png,leaf,test,5"]
    found = read_earlier(table(tmp_path, *rows), pictures(tmp_path / "link", "b.png", "new.png", "a.png"), folds=0)
    assert (found.num_rows, found.places, found.groups) == (3, [VALID, None, TRAIN], [None, None, "3"])


def test_rows_of_one_file_count_once_and_a_group_is_its_name_alone(tmp_path: Path) -> None:
    path = table(tmp_path, "a.png,leaf,train, 3 ", "./a.png,leaf,train,3", "b.png,leaf,valid, ")
    found = read_earlier(path, pictures(tmp_path, "a.png", "b.png"), folds=0)
    assert (found.num_rows, found.groups) == (2, ["3", None])


def test_more_than_ten_folds_are_known(tmp_path: Path) -> None:
    rows = [f"{fold}.png,leaf,train,{fold}" for fold in range(11)]
    path = table(tmp_path, *rows, heading="path,label,split,fold")
    found = read_earlier(path, pictures(tmp_path, "10.png", "0.png"), folds=11)
    assert found.places == [Place("train", "10"), Place("valid", "0")]


def test_folds_and_no_groups(tmp_path: Path) -> None:
    rows = ["a.png,leaf,train,1", "b.png,leaf,valid,0", "c.png,leaf,test,", "d.png,leaf,train,2"]
    path = table(tmp_path, *rows, heading="path,label,split,fold")
    found = read_earlier(path, pictures(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png"), folds=3)
    assert found.places == [Place("train", "1"), Place("valid", "0"), TEST, Place("train", "2"), None]
    assert found.groups == [None] * 5


@pytest.mark.parametrize(
    ("folds", "column", "message"),
    [
        (0, True, r"wrong value in folds=0: extend=\S*old.csv has the folds 0, 1\nhint: folds=2$"),
        (3, True, r"wrong value in folds=3: extend=\S*old.csv has the folds 0, 1\nhint: folds=2$"),
        (2, False, r"wrong value in folds=2: extend=\S*old.csv has no folds\nhint: folds=0$"),
    ],
)
def test_as_many_folds_as_before(folds: int, column: bool, message: str, tmp_path: Path) -> None:
    heading, rows = "path,label,split", ["a.png,leaf,valid", "b.png,leaf,train"]
    if column:
        heading, rows = f"{heading},fold", [f"{row},{number}" for number, row in enumerate(rows)]
    with pytest.raises(InputError, match=message):
        read_earlier(table(tmp_path, *rows, heading=heading), pictures(tmp_path, "a.png"), folds=folds)


@pytest.mark.parametrize(
    ("rows", "folds", "message"),
    [
        (["a.png,leaf,holdout,,"], 0, r"wrong rows in extend=\S*old.csv: unknown split .*line 2 'holdout'"),
        (["a.png,leaf,train,1,", "a.png,leaf,valid,2,"], 0, r"extend=\S*old.csv: one file in two splits"),
        (["a.png,leaf,train,,0", "b.png,leaf,test,,1"], 2, r"extend=\S*old.csv: only test rows are without a fold"),
        (["b.png,leaf,train,,", "c.png,leaf,train,,"], 0, "none of its 2 pictures is among the 1 of root\nhint: root"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_extended(rows: list[str], folds: int, message: str, tmp_path: Path) -> None:
    path = table(tmp_path, *rows, heading="path,label,split,group,fold")
    with pytest.raises(InputError, match=message):
        read_earlier(path, pictures(tmp_path, "a.png"), folds=folds)


def test_new_pictures_join_those_they_belong_to(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    found, torn = inherited(
        pictures(tmp_path, *names), [0, 1, 0, 2, 1, 3], earlier(TRAIN, None, None, TEST, None, None)
    )
    assert (found, torn) == ([TRAIN, None, TRAIN, TEST, None, None], {})


def test_new_pictures_between_two_places_are_left_out(tmp_path: Path) -> None:
    places = [VALID, TRAIN, None, Place("train", "3"), Place("valid", "0"), None]
    found, torn = inherited(pictures(tmp_path, *"abcdef"), [0, 0, 0, 1, 1, 1], earlier(*places))
    assert found == places
    assert {index: (fault.where, fault.cause) for index, fault in torn.items()} == {
        2: ("c", "belongs to pictures that are in train and in valid of old.csv"),
        5: ("f", "belongs to pictures that are in fold 0 and in fold 3 of old.csv"),
    }


@pytest.mark.parametrize(
    ("num_rows", "indices", "splits", "told"),
    [
        (2, [0, 2], ["train", "valid"], "2 of its 2 pictures stay where they are; none is new"),
        (
            3,
            [0, 1, 2, 3],
            ["train", "valid", "valid", "test"],
            "2 of its 3 pictures stay where they are; gone from root, or left out: 1; 2 are new: 1 valid, 1 test",
        ),
    ],
)
def test_what_became_of_it_is_told(num_rows: int, indices: list[int], splits: list[str], told: str) -> None:
    found = earlier(TRAIN, None, VALID, None, num_rows=num_rows)
    assert describe_extension(found, splits, indices) == f"extends old.csv; {told}"
