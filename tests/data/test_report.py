from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from hybridnet.data.pictures import Picture
from hybridnet.data.report import Report
from hybridnet.errors import Fault


def picture(name: str) -> Picture:
    return Picture(Path("photos", name), name, name.partition("/")[0], b"", 1, np.zeros(0))


def report(**changes: Any) -> Report:
    settings: dict[str, Any] = {
        "root": "photos",
        "pictures": [picture("cat/1.jpg"), picture("cat/2.jpg"), picture("dog/3.jpg")],
        "splits": ["train", "valid", "train"],
        "folds": ["", "", ""],
        "copies": [],
        "same_bytes": 0,
        "turned": 0,
        "groups": None,
        "user_groups": [None] * 3,
        "joined": [0, 1, 2],
        "dropped": [],
        "left_out": [],
        "unusable": {},
        "note": "",
        "unused": [],
    }
    return Report(**settings | changes)


def test_nothing_special() -> None:
    expected = """3 pictures of 2 classes in photos

class  train  valid
cat        1      1
dog        1      0
all        2      1

no picture is a copy of another

0 files left out
"""
    assert report().text(shortened=True) == report().text(shortened=False) == expected


def test_folds_have_columns() -> None:
    found = report(splits=["train", "valid", "test"], folds=["10", "2", ""]).text(shortened=True).splitlines()
    assert found[2:6] == [
        "class  train  valid  test  fold 2  fold 10",
        "cat        1      1     0       1        1",
        "dog        0      0     1       0        0",
        "all        1      1     1       1        1",
    ]


def test_copies_and_conflicts() -> None:
    groups = [[picture("cat/1.jpg"), picture("cat/2.jpg"), picture("cat/4.png")], [picture("cat/5"), picture("dog/3")]]
    lines = report(copies=groups, same_bytes=1, turned=2).text(shortened=True).splitlines()
    assert lines[lines.index("all        2      1") + 2 :] == [
        "2 groups of copies with 5 pictures; beside the first of each: 1 the same file, 2 rotated or mirrored; "
        "the largest has 3:",
        "  cat/1.jpg = cat/2.jpg = cat/4.png",
        "  cat/5 = dog/3",
        "",
        "warning: 1 group of copies with different labels, and nobody knows which is right (they stay in one split; "
        "on_duplicates=drop leaves them out):",
        "  cat/5 = dog/3",
        "",
        "0 files left out",
    ]
    text = report(copies=groups, dropped=[Fault("left out", "cat/2.jpg", "copy of cat/1.jpg")]).text(shortened=True)
    assert "beside the first of each: 3 encoded anew or resized; the largest has 3" in text
    assert "nobody knows which is right (all are left out):" in text
    assert "\n1 copy left out:\n  cat/2.jpg: copy of cat/1.jpg\n" in text


def test_copies_across_splits_of_root_are_told() -> None:
    groups = [[picture("cat/1.jpg"), picture("cat/2.jpg")], [picture("cat/1.jpg"), picture("dog/3.jpg")]]
    text = report(copies=groups, note="root's folders are splits; kept: train, valid").text(shortened=True)
    assert text.startswith(
        "3 pictures of 2 classes in photos\n\nroot's folders are splits; kept: train, valid\n\nclass"
    )
    assert "is right (on_duplicates=drop leaves them out):\n  cat/1.jpg = dog/3.jpg\n" in text
    assert (
        "\n\nwarning: 1 group of copies in more than one of the splits that are kept "
        "(training refuses those of valid in train; "
        "on_duplicates=drop keeps the largest of each group):\n  cat/1.jpg = cat/2.jpg\n\n"
    ) in text


def test_classes_without_a_usable_picture_are_told() -> None:
    text = report(unusable={"eel": 1, "mold": 1234, "rust": 0}).text(shortened=True)
    assert (
        "\n\nwarning: class 'eel' has no usable picture (1 file left out)"
        "\nwarning: class 'mold' has no usable picture (1,234 files left out)"
        "\nwarning: class 'rust' has no usable picture (no file in it)\n\n"
    ) in text
    many = report(unusable={f"{n}": 1 for n in range(23)}).text(shortened=True).splitlines()
    assert sum(line.startswith("warning: ") for line in many) == 20 and "… and 3 more, see report.txt" in many


def test_classes_that_differ_in_case_only_are_told() -> None:
    found = report(pictures=[picture("Blast/1.jpg"), picture("blast/2.jpg"), picture("rust/3.jpg")])
    told = "classes that differ in upper and lower case only: 'Blast', 'blast'"
    assert f"\n\nwarning: {told}\n\n" in found.text(shortened=True) and found.warnings() == [told]


def test_a_folder_that_is_left_out_is_named_in_the_terminal() -> None:
    left_out = [Fault("left out", "cat/deep/", "is a folder that cannot be looked into (Permission denied)")]
    assert (
        report(left_out=left_out)
        .text(shortened=True)
        .endswith("1 file left out:\n  cat/deep/: is a folder that cannot be looked into (Permission denied)\n")
    )


def test_formats_that_are_not_read_are_told_in_the_terminal() -> None:
    cause = "is HEIC, which is not read; convert it to JPEG"
    left_out = [Fault("left out", name, cause) for name in ("cat/1.HEIC", "cat/2.heic", "dog/3.jpg")]
    assert (
        report(left_out=[*left_out, Fault("left out", "dog/4.heic", "is hidden")])
        .text(shortened=True)
        .endswith(f"4 files left out:\n  2 × .heic: {cause}\n  1 × .heic: no pictures\n  dog/3.jpg: {cause}\n")
    )


def test_warnings_are_lines_without_lists() -> None:
    groups = [[picture("cat/1.jpg"), picture("cat/2.jpg")], [picture("cat/1.jpg"), picture("dog/3.jpg")]]
    left_out = [Fault("left out", "cat/4.jpg", "is damaged")]
    told = report(copies=groups, left_out=left_out, unusable={"eel": 0}, note="root's folders are splits").warnings()
    assert [line.partition(" (")[0] for line in told] == [
        "1 file left out",
        "class 'eel' has no usable picture",
        "1 group of copies with different labels, and nobody knows which is right",
        "1 group of copies in more than one of the splits that are kept",
    ]
    assert told[-1].endswith(")") and report().warnings() == []


def test_user_groups() -> None:
    text = report(groups="plant", user_groups=["1", "1", None], joined=[0, 0, 1]).text(shortened=True)
    joined = "joined with the copies: 2 groups, the largest with 2"
    assert f"\ngroups=plant: 1 group with 2 pictures; without a group: 1; {joined}\n" in text


def test_the_terminal_shows_fifty_classes_and_the_file_all() -> None:
    pictures = [picture(f"{n:02}/a") for n in range(60)]
    lists = {"splits": ["train"] * 60, "folds": [""] * 60, "joined": range(60), "user_groups": [None] * 60}
    short, full = (report(pictures=pictures, **lists).text(shortened=s) for s in (True, False))
    assert re.search(r"\n49 +1\n… and 10 more, see report.txt +\nall +60\n", short)
    assert re.search(r"\n59 +1\nall +60\n", full) and "more" not in full


def test_thousands_are_told_apart() -> None:
    lists = {"folds": [""] * 1200, "joined": range(1200), "user_groups": [None] * 1200}
    text = report(pictures=[picture("cat/a")] * 1200, splits=["train"] * 1200, **lists).text(shortened=False)
    assert "\nclass  train\ncat    1,200\nall    1,200\n" in text


def test_the_terminal_shows_twenty_and_the_file_all() -> None:
    left_out = [Fault("left out", f"cat/{n:02}.jpg", "is damaged") for n in range(30)]
    left_out += [Fault("left out", f"cat/{n}.xml", "is no picture") for n in range(7)]
    left_out += [Fault("left out", "dog/x", "is no picture"), Fault("left out", ".y/ß.INI", "is hidden")]
    copies = [[picture(f"cat/{n}"), picture(f"cat/{n + 100}")] for n in range(25)]
    short, full = (report(left_out=left_out, copies=copies).text(shortened=s) for s in (True, False))
    lines = short.splitlines()
    start = lines.index("39 files left out:")
    assert lines[start + 1 : start + 4] == [
        "  1 × .ini: no pictures",
        "  7 × .xml: no pictures",
        "  1 × no extension: no pictures",
    ]
    assert lines[start + 4] == "  cat/00.jpg: is damaged" and lines[-1] == "  … and 13 more, see report.txt"
    assert len(lines) == start + 22
    assert "  cat/19 = cat/119\n  … and 5 more, see report.txt\n" in short
    assert all(f"  {fault.where}: {fault.cause}\n" in full for fault in left_out)
    assert "  cat/24 = cat/124\n" in full and "…" not in full
