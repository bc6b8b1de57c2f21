"""Dividing pictures; `tests/test_prepare.py` has what the command makes of it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hybridnet.data.division import Division
from hybridnet.data.preparation import divide_pictures
from hybridnet.errors import InputError

DIVISION = Division(valid=0.25, test=0.0, folds=0, groups=None, copies="similar", on_duplicates="keep", seed=42)


@pytest.fixture
def photos(tmp_path: Path, noise: Any) -> Path:
    for number in range(8):
        file = tmp_path / "photos" / ("leaf" if number % 2 else "root") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(20, 30, seed=number)).save(file)
    return tmp_path / "photos"


def silent(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    return items


@pytest.mark.parametrize(
    ("groups", "extend", "message"),
    [
        ("(", None, "not a regular expression"),
        ("nowhere.csv:plant", None, "nowhere.csv"),
        (None, Path("nowhere.csv"), "nowhere.csv"),
    ],
)
def test_wrong_options_are_told_before_any_picture_is_read(
    photos: Path, groups: str | None, extend: Path | None, message: str
) -> None:
    def track(*_: Any) -> Iterable[Any]:
        pytest.fail("they may be many")

    with pytest.raises(InputError, match=message):
        divide_pictures(photos, DIVISION._replace(groups=groups), folder=photos, own=(), track=track, extend=extend)


def test_table_and_report(photos: Path) -> None:
    table, report = divide_pictures(photos, DIVISION, folder=photos.parent, own=(), track=silent)
    assert table.columns == ("path", "label", "split", "group")
    assert table.label2id == {"leaf": 0, "root": 1}
    assert sorted((label, split) for _, label, split, _ in table.rows) == [
        *[("leaf", "train")] * 3, ("leaf", "valid"), *[("root", "train")] * 3, ("root", "valid"),
    ]  # fmt: skip
    assert [row[0] for row in table.rows][:2] == ["photos/leaf/1.png", "photos/leaf/3.png"]
    assert report.text(shortened=True).startswith(f"8 pictures of 2 classes in {photos}")


def test_folds_are_the_last_column(photos: Path, tmp_path: Path) -> None:
    table, _ = divide_pictures(photos, DIVISION._replace(folds=4), folder=tmp_path / "else", own=(), track=silent)
    assert table.columns[-1] == "fold"
    assert all((split == "valid") == (fold == "0") for _, _, split, _, fold in table.rows)
    assert all(Path(row[0]).is_absolute() for row in table.rows)


def test_what_an_earlier_table_keeps_out_does_not_take_its_copies_with_it(photos: Path) -> None:
    """The new copy of another label belongs to two splits: what is left of the copies has one label, and one stays."""
    for copy in ("leaf/9.png", "root/8.png"):
        shutil.copy(photos / "leaf" / "1.png", photos / copy)
    earlier = photos.parent / "old.csv"
    earlier.write_text("path,label,split\nphotos/leaf/1.png,leaf,train\nphotos/leaf/9.png,leaf,valid\n")
    division = DIVISION._replace(on_duplicates="drop")
    table, report = divide_pictures(photos, division, folder=photos.parent, own=(), track=silent, extend=earlier)
    assert "photos/leaf/1.png" in {row[0] for row in table.rows}
    assert {fault.where: fault.cause for fault in report.dropped} == {
        "leaf/9.png": "copy of leaf/1.png",
        "root/8.png": f"belongs to pictures that are in train and in valid of {earlier}",
    }


def test_what_is_dropped_is_told_in_the_order_of_the_files(photos: Path) -> None:
    for number, copy in ((3, 8), (1, 9)):
        shutil.copy(photos / "leaf" / f"{number}.png", photos / "leaf" / f"{copy}.png")
    division = DIVISION._replace(on_duplicates="drop")
    _, report = divide_pictures(photos, division, folder=photos.parent, own=(), track=silent)
    assert [fault.where for fault in report.dropped] == ["leaf/8.png", "leaf/9.png"]


@pytest.mark.parametrize(("columns", "unused"), [("date", []), ("split", ["split"]), ("fold,split", ["split", "fold"])])
def test_a_division_of_root_that_is_not_kept_is_told(columns: str, unused: list[str], photos: Path) -> None:
    """As a held-out test split would be trained on, and nobody would know."""
    table, num = photos.parent / "all.csv", columns.count(",") + 1
    rows = [
        f"photos/{name},{name[:4]}{',test' * num}\n"
        for name in sorted(str(p.relative_to(photos)) for p in photos.rglob("*.png"))
    ]
    table.write_text(f"path,label,{columns}\n" + "".join(rows))
    _, report = divide_pictures(table, DIVISION, folder=photos.parent, own=(), track=silent)
    assert report.unused == unused
    warning = f"all is divided anew, whatever root says of {' and '.join(unused)} (extend={table} keeps that division)"
    assert (f"warning: {warning}\n" in report.text(shortened=True)) == bool(unused)


def test_a_table_of_one_class_is_no_folder_too_high(photos: Path) -> None:
    table = photos.parent / "all.csv"
    table.write_text("path,label\nphotos/leaf/1.png,plant\nphotos/root/2.png,plant\n")
    with pytest.raises(InputError, match="hint: the table needs rows of another label"):
        divide_pictures(table, DIVISION, folder=photos.parent, own=(), track=silent)


def test_what_has_its_fold_counts_in_the_share_of_what_is_not_for_testing(photos: Path, noise: Any) -> None:
    """Four pictures of each class, one for testing; of eight it must be two."""
    division, table = DIVISION._replace(folds=2, test=0.25), photos.parent / "old.csv"
    rows = divide_pictures(photos, division, folder=photos.parent, own=(), track=silent)[0].rows
    table.write_text("path,label,split,group,fold\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    for number in range(8, 16):
        Image.fromarray(noise(20, 30, seed=number)).save(photos / ("leaf" if number % 2 else "root") / f"{number}.png")
    found, _ = divide_pictures(photos, division, folder=photos.parent, own=(), track=silent, extend=table)
    assert Counter(row[1] for row in found.rows if row[2] == "test") == {"leaf": 2, "root": 2}
