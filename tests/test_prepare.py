"""`python -m hybridnet.prepare`: from folders of photos to metadata.csv and label2id.json."""

from __future__ import annotations

import csv
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridnet.data.labels import read_label2id
from hybridnet.data.table import read_metadata
from hybridnet.errors import InputError
from hybridnet.prepare import prepare

Photos = Callable[..., Path]


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Writes a folder of class folders with so many pictures each, or with pictures of the given names."""

    def make(name: str = "photos", **classes: int | list[str]) -> Path:
        root = tmp_path / name
        for label, pictures in classes.items():
            names = [f"{n:02d}.png" for n in range(pictures)] if isinstance(pictures, int) else pictures
            for file in names:
                add_picture(root / label / file)
        return root

    return make


def add_picture(path: Path, pixels: np.ndarray | None = None) -> None:
    """A picture of its own for every name and folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".bmp": "BMP", ".webp": "WEBP"}
    if pixels is None:
        pixels = noise(zlib.crc32("/".join(path.parts[-2:]).encode()))
    Image.fromarray(pixels).save(path, format=kind.get(path.suffix.lower(), "PNG"))


def noise(seed: int, height: int = 6, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def call(root: Path | str, out: Path | str, **settings: Any) -> Path:
    defaults = {
        "valid": 0.2,
        "test": 0.0,
        "folds": 0,
        "groups": None,
        "copies": "similar",
        "on_duplicates": "keep",
        "seed": 42,
        "extend": None,
        "overwrite": False,
    }
    prepare(root=str(root), out=str(out), **defaults | settings)
    return Path(out)


def rows_of(folder: Path) -> list[tuple[str, ...]]:
    """Path, label, split, group and, with folds, fold."""
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        heading, *rows = csv.reader(stream)
    assert heading in (["path", "label", "split", "group"], ["path", "label", "split", "group", "fold"])
    return [tuple(row) for row in rows]


def column(folder: Path, number: int) -> dict[str, str]:
    """Of each picture, by its path below the class folders' parent."""
    return {"/".join(Path(row[0]).parts[-2:]): row[number] for row in rows_of(folder)}


def shares(folder: Path) -> dict[tuple[str, str], int]:
    return dict(Counter((label, split) for _, label, split, *_ in rows_of(folder)))


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("metadata.csv", "label2id.json", "report.txt")]


def test_every_class_is_split_alike(photos: Photos, tmp_path: Path) -> None:
    out = call(photos(cat=20, dog=10, eel=4), tmp_path / "data")
    assert shares(out) == {
        ("cat", "train"): 16,
        ("cat", "valid"): 4,
        ("dog", "train"): 8,
        ("dog", "valid"): 2,
        ("eel", "train"): 3,
        ("eel", "valid"): 1,
    }
    assert json.loads((out / "label2id.json").read_text()) == {"cat": 0, "dog": 1, "eel": 2}


def test_test_split(photos: Photos, tmp_path: Path) -> None:
    out = call(photos(cat=20, dog=10), tmp_path / "data", valid=0.2, test=0.3)
    assert shares(out) == {
        ("cat", "train"): 10,
        ("cat", "valid"): 4,
        ("cat", "test"): 6,
        ("dog", "train"): 5,
        ("dog", "valid"): 2,
        ("dog", "test"): 3,
    }


def test_result_can_be_read(photos: Photos, tmp_path: Path) -> None:
    names = [
        "a, b.JPG",
        'a "quoted".png',
        "grün.Jpeg",
        "葉.webp",
        "with space.TIF",
        "plain.bmp",
        "no_extension",
        "x.png.txt",
    ]
    out = call(photos(**{"Müde, alt": names, "deep": ["a/b/c/1.png", "a/2.PNG", "3.png"]}), tmp_path / "data")
    labels = read_label2id(out / "label2id.json")
    assert labels == {"Müde, alt": 0, "deep": 1}
    splits = read_metadata(out / "metadata.csv", labels)
    found = {str(file.relative_to(tmp_path / "photos")) for split in splits.values() for file in split.files}
    assert found == {f"Müde, alt/{name}" for name in names} | {"deep/a/b/c/1.png", "deep/a/2.PNG", "deep/3.png"}
    for split in splits.values():
        folders = [file.relative_to(tmp_path / "photos").parts[0] for file in split.files]
        assert [labels[folder] for folder in folders] == split.labels.tolist()


def test_paths_are_relative_where_the_pictures_lie_below_the_table(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=3, dog=3)
    below = [f"photos/{label}/{n:02d}.png" for label in ("cat", "dog") for n in range(3)]
    assert [path for path, *_ in rows_of(call(root, tmp_path))] == below
    assert [path for path, *_ in rows_of(call(root, root))] == [path.removeprefix("photos/") for path in below]
    elsewhere = [path for path, *_ in rows_of(call(root, tmp_path / "data"))]
    assert elsewhere == [str(tmp_path.resolve() / path) for path in below]


def test_own_files_are_no_junk(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=3, dog=3)
    call(root, root)
    first = contents(root)
    call(root, root)
    assert contents(root) == first
    assert "0 files left out" in capsys.readouterr().out.splitlines()


def test_junk_is_listed_and_left_out(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=5, dog=5)
    for name in ("cat/1.xml", "dog/2.XML", "desktop.ini", "dog/README", "cat/.DS_Store"):
        (root / name).write_text("no picture")
    add_picture(root / "on_top.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)).save(root / "cat" / "cut.png")
    os.truncate(root / "cat" / "cut.png", 3000)
    (root / "dog" / "empty.jpg").touch()
    out = call(root, tmp_path / "data")
    assert sum(shares(out).values()) == 10
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    start = lines.index("8 files left out:")
    listed = lines[start + 1 : start + 7]
    assert listed[:3] == ["1 × .ini: no pictures", "2 × .xml: no pictures", "2 × no extension: no pictures"]
    assert listed[3].startswith("cat/cut.png: ") and "truncated" in listed[3]
    assert listed[4].startswith("dog/empty.jpg: is empty")
    assert listed[5] == "on_top.png: lies in root itself, not in the folder of a class"
    text = (out / "report.txt").read_text()
    for line in ("dog/2.XML: is none of JPEG", "cat/.DS_Store: is hidden", "desktop.ini: lies in root itself"):
        assert f"\n  {line}" in text


def test_many_damaged_pictures_are_counted(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=5, dog=5)
    for number in range(23):
        (root / "cat" / f"bad{number:02d}.jpg").touch()
    call(root, tmp_path / "data")
    lines = capsys.readouterr().out.splitlines()
    assert "23 files left out:" in lines and "  … and 3 more, see report.txt" in lines
    assert sum("bad" in line for line in lines) == 20


def test_report(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=20, dog=10)
    call(root, tmp_path, test=0.1)
    output = capsys.readouterr().out
    lines = output.splitlines()
    words = [line.split() for line in lines]
    assert f"30 pictures of 2 classes in {root}" in lines
    assert ["class", "train", "valid", "test"] in words
    assert ["cat", "14", "4", "2"] in words and ["dog", "7", "2", "1"] in words
    assert "no picture is a copy of another" in lines
    pair = f"data.metadata={tmp_path / 'metadata.csv'} data.label2id={tmp_path / 'label2id.json'}"
    assert f"  python train.py data=metadata {pair}" in lines
    assert (tmp_path / "report.txt").read_text() in output


def test_same_seed_same_bytes(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=20, dog=10)
    first = contents(call(root, tmp_path / "a"))
    assert contents(call(root, tmp_path / "b")) == first
    other = contents(call(root, tmp_path / "c", seed=43))
    assert other[0] != first[0] and other[1:] == first[1:]
    assert shares(tmp_path / "c") == shares(tmp_path / "a")


def test_other_content_is_not_replaced(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=20, dog=10)
    out = call(root, tmp_path / "data")
    first = contents(out)
    call(root, out)  # the same content may be written again
    with pytest.raises(InputError) as error:
        call(root, out, seed=43)
    assert [tuple(fault) for fault in error.value.faults] == [
        (
            "file would be replaced",
            str(out / "metadata.csv"),
            "it is there with another content",
            "choose another out=<folder>, or overwrite=true; "
            f"with extend={out / 'metadata.csv'} its pictures stay in their splits",
        )
    ]
    assert contents(out) == first
    call(root, out, seed=43, overwrite=True)
    assert contents(out)[0] != first[0]


@pytest.mark.parametrize("out", ["photos", "photos/tables"])
def test_own_files_below_root_are_no_news(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """However they are named: the same command may be given again."""
    photos(cat=10, dog=10)
    monkeypatch.chdir(tmp_path)
    first = contents(call("photos", out))
    assert contents(call("photos", tmp_path / out)) == first
    table, labels, report = contents(call(tmp_path / "photos", out, overwrite=True))
    assert [table, labels] == first[:2] and b"0 files left out" in report


def test_nothing_is_written_where_one_file_would_be_replaced(photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "label2id.json").write_text("{}")
    with pytest.raises(InputError, match=r"label2id\.json: it is there with another content"):
        call(photos(cat=3, dog=3), tmp_path)
    assert not (tmp_path / "metadata.csv").exists()


def no_folder(photos: Photos) -> Path:
    return photos("elsewhere", cat=2).with_name("photos")


def no_pictures(photos: Photos) -> Path:
    root = photos(cat=0)
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "1.xml").write_text("<a/>")
    return root


def pictures_on_top(photos: Photos) -> Path:
    return photos(**{".": 3})


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (no_folder, {}, r"missing folder in root=.*photos: no such folder or table"),
        (
            no_pictures,
            {},
            r"no pictures in root=.*photos: 1 files, none usable\n  1 × is none of .*\nhint: root must have one folder",
        ),
        (
            pictures_on_top,
            {},
            r"no pictures in root=.*photos: 3 files, none usable\n  3 × lies in root itself.*\nhint: root must",
        ),
        (lambda p: p(cat=5, dog=1), {}, "too few pictures in class 'dog': 1 group of pictures is too few for 2 splits"),
        (lambda p: p(cat=5, dog=2), {"test": 0.1}, "class 'dog': 2 groups of pictures are too few for 3 splits"),
        (lambda p: p(cat=5, dog=4), {"folds": 5}, r"class 'dog': 4 groups .* for 5 folds \(0, 1, 2, 3, 4\)"),
        (
            lambda p: p(cat=5),
            {"folds": 1},
            "wrong value in folds=1: one fold leaves nothing to train on\nhint: folds=5",
        ),
        (lambda p: p(cat=5), {"valid": 0.0}, "in valid, test: valid=0.0 and test=0.0 must leave .*valid must be > 0"),
        (lambda p: p(cat=5), {"valid": 0.5, "test": 0.5}, "valid=0.5 and test=0.5 must leave something for training"),
    ],
)
def test_what_is_refused(
    make: Callable, settings: dict[str, float], message: str, photos: Photos, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        call(make(photos), tmp_path / "data", **settings)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"valid": 1.0}, "valid: must be >= 0 and < 1, got 1.0"),
        ({"copies": "no"}, "copies: expected similar or same, got 'no'"),
        ({"on_duplicates": "ask"}, "on_duplicates: expected keep or drop, got 'ask'"),
        (
            {"seed": -1, "overwrite": "yes"},
            "seed: must be >= 0 and <= .*, got -1; overwrite: expected true or false, got 'yes'",
        ),
    ],
)
def test_wrong_setting_is_refused(settings: dict[str, Any], message: str, photos: Photos, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        call(photos(cat=5), tmp_path / "data", **settings)


def test_command(photos: Photos, tmp_path: Path, command: Callable) -> None:
    """With the defaults of conf/prepare.yaml and paths relative to the current folder."""
    photos(cat=10, dog=5)
    result = command("-m", "hybridnet.prepare", "root=photos", "out=data")
    assert (result.returncode, result.stderr) == (0, "")
    assert "python train.py data=metadata data.metadata=data/metadata.csv" in result.stdout
    result = command("-m", "hybridnet.prepare", "root=photos", "out='my data'")
    assert "python train.py data=metadata 'data.metadata=my data/metadata.csv'" in result.stdout
    expected = contents(call(tmp_path / "photos", tmp_path / "again"))
    assert contents(tmp_path / "data")[:2] == expected[:2]


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["out=data"], ["error: missing value in root: must be given", "hint: root=<value>"]),
        (
            ["root=photos", "out="],
            ["error: missing value in out=: no folder is named", "hint: out=. is the working directory"],
        ),
        (
            ["root=photos", "out=data", "vlid=0.3"],
            ["error: unknown key in vlid: the configuration has no 'vlid'", "hint: did you mean valid?"],
        ),
        (
            ["root=photos", "out=data", "valid=2"],
            ["error: wrong value in valid=2: must be >= 0 and < 1, got 2", "hint: for instance valid=0.2"],
        ),
        (
            ["root=photos", "out=data", "test=0.9"],
            [
                "error: wrong value in valid, test: "
                "valid=0.2 and test=0.9 must leave something for training, and valid must be > 0",
                "hint: for instance valid=0.2 test=0.1",
            ],
        ),
    ],
)
def test_command_with_wrong_arguments(
    arguments: list[str], lines: list[str], photos: Photos, tmp_path: Path, command: Callable
) -> None:
    photos(cat=5)
    result = command("-m", "hybridnet.prepare", *arguments)
    assert result.returncode == 2
    assert result.stderr.splitlines() == lines
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("out", ["file", "file/deeper"])
def test_a_place_that_is_none_is_told_before_a_picture_is_read(
    out: str, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    root = photos(cat=5)
    monkeypatch.setattr("hybridnet.data.preparation.read_pictures", lambda *_: pytest.fail("read a picture"))
    with pytest.raises(InputError, match=rf"unusable folder in out={tmp_path}/{out}: Not a directory\nhint: choose"):
        call(root, tmp_path / out)


def test_class_folder_may_be_a_link(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=5)
    (root / "dog").symlink_to(photos("store", dogs=5) / "dogs", target_is_directory=True)
    assert set(json.loads((call(root, tmp_path / "data") / "label2id.json").read_text())) == {"cat", "dog"}


def test_links_to_one_file_are_copies_and_can_be_read(photos: Photos, tmp_path: Path) -> None:
    """Two class folders may share a picture by links: their paths differ, as a table has one label for a path."""
    root = photos(cat=3, dog=3)
    (tmp_path / "pool").mkdir()
    (root / "cat" / "00.png").rename(tmp_path / "pool" / "0.png")
    for label in ("cat", "dog"):
        (root / label / "link.png").symlink_to(tmp_path / "pool" / "0.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "photos")
    out = call(tmp_path / "way", tmp_path / "data")
    assert {row[0] for row in rows_of(out)} >= {f"{root.resolve()}/{label}/link.png" for label in ("cat", "dog")}
    read_metadata(out / "metadata.csv", {"cat": 0, "dog": 1})
    assert len({row[3] for row in rows_of(out) if row[0].endswith("link.png")}) == 1


def test_links_in_a_circle_end(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=5, dog=5)
    (root / "cat" / "up").symlink_to(root, target_is_directory=True)
    found = shares(call(root, tmp_path / "data"))
    assert found == {(label, split): n for label in ("cat", "dog") for split, n in (("train", 4), ("valid", 1))}


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_name_that_is_not_utf8_is_listed(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=5, dog=5)
    picture = (root / "cat" / "00.png").read_bytes()
    Path(os.fsdecode(os.fsencode(root / "cat") + b"/\xfc.png")).write_bytes(picture)
    assert sum(shares(call(root, tmp_path / "data")).values()) == 10
    assert "its name is not UTF-8" in capsys.readouterr().out


def test_empty_root_is_refused(photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(cat=5)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="root"):
        call("", tmp_path / "data")


def test_out_that_is_a_file_is_told(photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(InputError, match="data"):
        call(photos(cat=5, dog=5), tmp_path / "data")


def add_copies(root: Path) -> None:
    """Of cat/00.png the same file, a larger one that is rotated, and one that is encoded anew."""
    pixels = np.asarray(Image.open(root / "cat" / "00.png"))
    (root / "cat" / "orig").mkdir()
    (root / "cat" / "orig" / "same.png").write_bytes((root / "cat" / "00.png").read_bytes())
    add_picture(root / "cat" / "rotated" / "large.PNG", np.rot90(pixels, 3).repeat(16, 0).repeat(16, 1))
    add_picture(root / "cat" / "anew.bmp", pixels)


def test_copies_stay_in_one_split(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=10, dog=10)
    add_copies(root)
    (root / "cat" / "turned").write_bytes((root / "cat" / "rotated" / "large.PNG").read_bytes())
    for seed in range(8):
        out = call(root, tmp_path / f"{seed}", seed=seed)
        splits, groups = column(out, 2), column(out, 3)
        copies = ["cat/00.png", "orig/same.png", "rotated/large.PNG", "cat/anew.bmp", "cat/turned"]
        assert len({splits[name] for name in copies}) == 1
        assert {groups[name] for name in copies} == {"0"}
        assert list(dict.fromkeys(groups.values())) == [str(number) for number in range(20)]
    assert (
        "1 group of copies with 5 pictures; beside the first of each: 2 the same file, 1 encoded anew or resized, "
        "1 rotated or mirrored; the largest has 5:\n"
        "  cat/00.png = cat/anew.bmp = cat/orig/same.png = cat/rotated/large.PNG = cat/turned\n"
    ) in capsys.readouterr().out


def test_drop_keeps_the_largest_copy(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=10, dog=10)
    add_copies(root)
    (root / "dog" / "copy.png").write_bytes((root / "dog" / "03.png").read_bytes())
    out = call(root, tmp_path / "data", on_duplicates="drop")
    names = {"/".join(Path(row[0]).parts[-2:]) for row in rows_of(out)}
    assert len(names) == 20 and {"rotated/large.PNG", "dog/03.png"} < names
    assert not names & {"cat/00.png", "orig/same.png", "cat/anew.bmp", "dog/copy.png"}
    assert [row[3] for row in rows_of(out)] == [str(number) for number in range(20)]
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("4 copies left out:")
    assert lines[start + 1 : start + 5] == [
        "  cat/00.png: copy of cat/rotated/large.PNG",
        "  cat/anew.bmp: copy of cat/rotated/large.PNG",
        "  cat/orig/same.png: copy of cat/rotated/large.PNG",
        "  dog/copy.png: copy of dog/03.png",
    ]


def test_copies_with_different_labels(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=6, dog=6)
    (root / "dog" / "odd.png").write_bytes((root / "cat" / "05.png").read_bytes())
    out = call(root, tmp_path / "keep")
    assert column(out, 2)["cat/05.png"] == column(out, 2)["dog/odd.png"]
    lines = capsys.readouterr().out.splitlines()
    warning = next(line for line in lines if line.startswith("warning: 1 group of copies with different labels"))
    assert lines[lines.index(warning) + 1] == "  cat/05.png = dog/odd.png"
    names = column(call(root, tmp_path / "drop", on_duplicates="drop"), 1)
    assert len(names) == 11 and not names.keys() & {"cat/05.png", "dog/odd.png"}
    lines = capsys.readouterr().out.splitlines()
    assert "  cat/05.png: copies of one picture are labelled cat, dog" in lines
    assert "  dog/odd.png: copies of one picture are labelled cat, dog" in lines


def test_class_that_dropping_empties_is_told(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=6, dog=6)
    for number in range(2):
        (root / "eel").mkdir(exist_ok=True)
        (root / "eel" / f"{number}.png").write_bytes((root / "cat" / f"{number:02d}.png").read_bytes())
    with pytest.raises(InputError, match="too few pictures in class 'eel': on_duplicates=drop leaves out all of its"):
        call(root, tmp_path / "data", on_duplicates="drop")


def test_pictures_that_just_look_alike_are_not_copies_where_that_is_said(photos: Photos, tmp_path: Path) -> None:
    """Parts before one camera: what tells them apart is smaller than the cells that are compared."""
    root = photos(cat=2, dog=2)
    part = np.kron(np.random.default_rng(0).integers(0, 200, (8, 8, 3)), np.ones((16, 16, 1)))
    for label, numbers in (("cat", range(2, 8)), ("dog", range(8, 14))):
        for number in numbers:
            pixels = part + np.random.default_rng(number).integers(0, 9, part.shape)
            Image.fromarray(pixels.astype(np.uint8)).save(root / label / f"{number:02d}.png")
    (root / "dog" / "same.png").write_bytes((root / "dog" / "08.png").read_bytes())
    assert len(set(column(call(root, tmp_path / "similar"), 3).values())) == 2 + 2 + 1
    groups = column(call(root, tmp_path / "data", copies="same"), 3)
    assert len(set(groups.values())) == 2 + 2 + 12 and groups["dog/same.png"] == groups["dog/08.png"]


def test_copies_count_once(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=6, dog=1)
    for number in range(5):
        (root / "dog" / f"copy{number}.png").write_bytes((root / "dog" / "00.png").read_bytes())
    with pytest.raises(
        InputError, match="'dog': 1 group of pictures is too few for 2 splits .*; copies of one picture"
    ):
        call(root, tmp_path / "data")


def test_folds(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=26, dog=13)
    add_copies(root)
    out = call(root, tmp_path / "data", folds=5, test=0.2, valid=0.0)
    rows = rows_of(out)
    assert {(split, fold) for _, _, split, _, fold in rows} == {
        ("test", ""),
        ("valid", "0"),
        *(("train", str(fold)) for fold in range(1, 5)),
    }
    counts = Counter((label, fold) for _, label, _, _, fold in rows)
    assert [counts["cat", fold] for fold in ("", "0", "1", "2", "3", "4")] == pytest.approx([6, 5, 5, 5, 5, 5], abs=1.5)
    assert sorted(counts["dog", fold] for fold in ("", "0", "1", "2", "3", "4")) == [2, 2, 2, 2, 2, 3]
    places = column(out, 4)
    assert len({places[name] for name in ("cat/00.png", "orig/same.png", "rotated/large.PNG", "cat/anew.bmp")}) == 1
    label2id = read_label2id(out / "label2id.json")
    assert {name: len(split) for name, split in read_metadata(out / "metadata.csv", label2id).items()} == Counter(
        row[2] for row in rows
    )


def test_folds_without_test_split(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=10, dog=5)
    rows = rows_of(call(root, tmp_path / "data", folds=5))
    assert Counter(row[4] for row in rows) == {str(fold): 3 for fold in range(5)}
    assert rows_of(call(root, tmp_path / "other", folds=5, seed=43)) != rows


def test_groups_by_expression(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"plant{number % 5}_{number}.png" for number in range(20)]
    root = photos(cat=[*names, "alone.png"], dog=[name.replace("plant", "tree") for name in names])
    (root / "cat" / "tree9.png").write_bytes((root / "cat" / "plant1_1.png").read_bytes())
    out = call(root, tmp_path / "data", groups=r"(?:plant|tree)(\d)")
    line = r"groups=(?:plant|tree)(\d): 6 groups with 41 pictures; without a group: 1; joined with the copies: "
    line += "6 groups, the largest with 9"
    assert line in capsys.readouterr().out.splitlines()
    groups = column(out, 3)
    assert len(set(groups.values())) == 6  # the copy joins 1 and 9
    assert groups["cat/plant1_6.png"] == groups["dog/tree1_11.png"] == groups["cat/tree9.png"]
    out = call(root, tmp_path / "again", groups=r"[a-z]+\d")
    groups, splits = column(out, 3), column(out, 2)
    assert len(set(groups.values())) == 11
    assert groups["cat/tree9.png"] == groups["cat/plant1_6.png"] != groups["cat/plant2_2.png"]  # joined by the copy
    assert len({(groups[name], splits[name]) for name in groups}) == 11


def test_table_with_column_of_groups(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(**{"all": 24})
    lines = [f"photos/all/{n:02d}.png,{'cat' if n < 12 else 'dog'},{n // 3},?" for n in range(24)]
    (tmp_path / "list.csv").write_text("path,label,leaf,note\n" + "\n".join(lines) + "\nphotos/none.png,cat,,\n")
    out = call(tmp_path / "list.csv", tmp_path, groups="leaf")
    rows = rows_of(out)
    assert [row[:2] for row in rows] == [tuple(line.split(",")[:2]) for line in lines]
    assert [row[3] for row in rows] == [str(n // 3) for n in range(24)]
    assert len({row[2:4] for row in rows}) == 8
    assert shares(out) == {("cat", "train"): 9, ("cat", "valid"): 3, ("dog", "train"): 9, ("dog", "valid"): 3}
    assert "  photos/none.png: no such file" in capsys.readouterr().out.splitlines()
    (root / "plants.csv").write_text("path,plant\n" + "".join(f"all/{n:02d}.png,{n // 6}\n" for n in range(24)))
    other = call(tmp_path / "list.csv", tmp_path / "other", groups=f"{root / 'plants.csv'}:plant")
    assert [row[3] for row in rows_of(other)] == [str(n // 6) for n in range(24)]


def test_table_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.png,cat\n")
    with pytest.raises(
        InputError,
        match=r"1 files, none usable\n  1 × no such file\nhint: paths in the table are relative to its folder",
    ):
        call(tmp_path / "list.csv", tmp_path / "data")


def test_command_with_groups_and_folds(photos: Photos, tmp_path: Path, command: Callable) -> None:
    """The expression as the yaml says it is typed."""
    photos(cat=[f"plant{n // 2}_{n}.png" for n in range(6)], dog=[f"plant{n // 2}_{n}.png" for n in range(6, 12)])
    settings = ["folds=3", 'groups="plant(\\d+)"', "on_duplicates=drop"]
    result = command("-m", "hybridnet.prepare", "root=photos", "out=data", *settings)
    assert (result.returncode, result.stderr) == (0, "")
    assert "groups=plant(\\d+): 6 groups with 12 pictures; without a group: 0; joined" in result.stdout
    assert [row[3] for row in rows_of(tmp_path / "data")] == [str(n // 2) for n in range(12)]
    assert len({row[3:] for row in rows_of(tmp_path / "data")}) == 6


def test_one_class_only_is_refused_with_the_folder_that_may_be_meant(photos: Photos, tmp_path: Path) -> None:
    root = photos("high", **{"photos/cat": 3, "photos/dog": 3})
    told = re.escape(f"in root={root}: one class only ('photos'): there is nothing to tell apart")
    with pytest.raises(InputError, match=told + re.escape(f"\nhint: is root one level too high? root={root}/photos")):
        call(root, tmp_path / "data")
    with pytest.raises(InputError, match=r"one class only \('cat'\).*\nhint: root must have one folder for each class"):
        call(photos("single", cat=["a/1.png", "a/2.png"]), tmp_path / "data")
    (tmp_path / "list.csv").write_text("path,label\nhigh/photos/cat/00.png,cat\n")
    with pytest.raises(InputError, match=r"one class only \('cat'\).*\nhint: the table needs rows of another label"):
        call(tmp_path / "list.csv", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_classes_without_a_usable_picture_are_told(
    photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photos(cat=3, dog=3)
    for name in ("mold/1.heic", "mold/deep/2.heic", "mold/.3.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"no picture")
    (root / "rust").mkdir()
    told = [
        "class 'mold' has no usable picture (3 files left out)",
        "class 'rust' has no usable picture (no file in it)",
    ]
    for _ in range(2):  # the second time out is there, and no class
        call(root, root / "data")
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if line.startswith("warning: ")] == [f"warning: {line}" for line in told]
    (root / "dog").rename(tmp_path / "dog")
    with pytest.raises(InputError, match=re.escape(f"nothing to tell apart, {told[0]}")):
        call(root, root / "data")


def test_labels_of_a_table_without_a_usable_picture_are_told(
    photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(cat=2, dog=2)
    names = [*(f"photos/{label}/{n:02d}.png,{label}" for label in ("cat", "dog") for n in range(2)), "1.jpg,mold"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *names]))
    call(tmp_path / "list.csv", tmp_path)
    assert "warning: class 'mold' has no usable picture (1 file left out)" in capsys.readouterr().out.splitlines()


# Root is divided already


def divided(photos: Photos, *, copies: bool = False, **splits: int) -> Path:
    """Folders of splits, with so many pictures of two classes in each: other ones, or the same in each split."""
    root = photos()
    for split, count in splits.items():
        for label in ("cat", "dog"):
            for number in range(count):
                seed = zlib.crc32(f"{label}{number}{'' if copies else split}".encode())
                add_picture(root / split / label / f"{number:02d}.png", noise(seed))
    return root


def test_classes_of_splits_without_a_usable_picture_are_told(
    photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = divided(photos, train=3, val=2)
    for name in ("readme.txt", "train/m\xfcde/1.heic", "val/mu\u0308de/2.heic", "val/mold"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"no picture")
    call(root, tmp_path / "data")
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert told == ["warning: class 'm\xfcde' has no usable picture (2 files left out)"]


def test_folders_of_splits_are_kept(photos: Photos, tmp_path: Path) -> None:
    root = divided(photos, Train=6, validation=3, test=2)
    (root / "test" / "unknown.png").write_bytes((root / "test" / "cat" / "00.png").read_bytes())
    out = call(root, tmp_path / "data")
    own = {"Train": "train", "validation": "valid", "test": "test"}
    assert len(rows_of(out)) == 22
    for path, label, split, *_ in rows_of(out):
        folder, name, _ = Path(path).relative_to(root).parts
        assert (label, split) == (name, own[folder])
    lines = (out / "report.txt").read_text().splitlines()
    assert lines[0] == f"22 pictures of 2 classes in {root}"
    assert lines[2] == "root's folders are splits; kept: train, valid, test"
    assert lines[-1] == "  test/unknown.png: lies in the folder 'test' itself, not in the folder of a class"


@pytest.mark.parametrize(
    ("splits", "settings", "note", "counts"),
    [
        (["train", "test"], {}, "kept: test; drawn from train: valid", {"train": 16, "valid": 4, "test": 20}),
        (["train", "val"], {}, "kept: train, valid", {"train": 20, "valid": 20}),
        (["train", "val"], {"test": 0.2}, "kept: valid; drawn from train: test", {"train": 16, "valid": 20, "test": 4}),
        (
            ["train", "val", "test"],
            {"folds": 5},
            "kept: test; divided into folds: train, valid",
            {"train": 32, "valid": 8, "test": 20},
        ),
        (
            ["train", "val"],
            {"folds": 3, "test": 0.25},
            "drawn from train, valid: test; divided into folds: train, valid",
            {"train": 20, "valid": 10, "test": 10},
        ),
    ],
)
def test_what_folders_of_splits_lack_is_drawn(
    splits: list[str], settings: dict[str, Any], note: str, counts: dict[str, int], photos: Photos, tmp_path: Path
) -> None:
    root = divided(photos, **dict.fromkeys(splits, 10))
    rows = rows_of(call(root, tmp_path / "data", **settings))
    assert Counter(row[2] for row in rows) == counts
    assert f"root's folders are splits; {note}" in (tmp_path / "data" / "report.txt").read_text().splitlines()
    for path, _, split, *_ in rows:
        if Path(path).relative_to(root).parts[0] == "test":
            assert split == "test"


def test_copies_across_splits_of_root_are_listed_and_can_be_read(photos: Photos, tmp_path: Path) -> None:
    root = divided(photos, copies=True, train=6, valid=3)
    out = call(root, tmp_path / "keep")
    lines = (out / "report.txt").read_text().splitlines()
    start = lines.index(
        "warning: 6 groups of copies in more than one of the splits that are kept "
        "(training refuses those of valid in train; "
        "on_duplicates=drop keeps the largest of each group):"
    )
    assert lines[start + 1] == "  train/cat/00.png = valid/cat/00.png"
    splits = read_metadata(out / "metadata.csv", {"cat": 0, "dog": 1})  # no group is in two splits
    assert (len(splits["train"]), len(splits["valid"])) == (12, 6)
    out = call(root, tmp_path / "drop", on_duplicates="drop")
    assert len(rows_of(out)) == 12 and "root's splits (" not in (out / "report.txt").read_text()


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (
            lambda p: p(**{"train/cat": 3, "test/cat": 3, "docs": 1}),
            {},
            r"mixed folders in root=.*: folders of splits \(test, train\) lie beside others: docs\nhint: move",
        ),
        (
            lambda p: p(**{"val/cat": 3, "test/cat": 3}),
            {},
            r"splits \(test, val\), and none is called train\nhint: root=",
        ),
        (
            lambda p: divided(p, train=3, test=3),
            {"test": 0.1},
            "wrong value in test=0.1: root has a folder of the test",
        ),
        (
            lambda p: p(**{"train/cat": 3, "val/cat": 3, "val/eel": 3}),
            {},
            "too few pictures in class 'eel': root's folders have none of its pictures for training",
        ),
        (
            lambda p: divided(p, train=3, val=3),
            {"groups": r"\d\d"},
            "groups in two splits in groups=.*: groups divided by root's folders: '00' in train, valid, '01' in train",
        ),
    ],
)
def test_division_of_root_that_cannot_be_kept(
    make: Callable, settings: dict[str, Any], message: str, photos: Photos, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        call(make(photos), tmp_path / "data", **settings)


def test_a_class_may_be_called_train(photos: Photos, tmp_path: Path) -> None:
    assert set(column(call(photos(bus=3, train=3), tmp_path / "data"), 1).values()) == {"bus", "train"}


def test_an_earlier_table_is_extended(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=20, dog=10)
    before = column(call(root, tmp_path / "old", test=0.2), 2)
    photos(cat=[f"new{n}.png" for n in range(10)], eel=5)
    capsys.readouterr()
    out = call(root, tmp_path / "new", test=0.2, extend=str(tmp_path / "old" / "metadata.csv"), seed=7)
    after = column(out, 2)
    assert {name: after[name] for name in before} == before
    assert Counter(split for name, split in after.items() if "new" in name) == {"train": 6, "valid": 2, "test": 2}
    assert Counter(split for name, split in after.items() if "eel" in name) == {"train": 3, "valid": 1, "test": 1}
    note = "30 of its 30 pictures stay where they are; 15 are new: 9 train, 3 valid, 3 test"
    assert f"\nextends {tmp_path}/old/metadata.csv; {note}\n" in capsys.readouterr().out
    assert column(call(root, tmp_path / "redrawn", test=0.2, seed=7), 2) != after


def test_a_table_may_extend_itself(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=8, dog=8)
    old = column(call(root, tmp_path, folds=4), 4)
    photos(cat=["x.png", "y.png"])
    call(root, tmp_path, folds=4, extend=str(tmp_path / "metadata.csv"), overwrite=True)
    new = column(tmp_path, 4)
    assert {name: new[name] for name in old} == old and new["cat/x.png"] != new["cat/y.png"]
    assert all((split == "valid") == (new[name] == "0") for name, split in column(tmp_path, 2).items())


def test_new_copies_join_the_earlier_ones(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=6, dog=6)
    old = column(call(root, tmp_path / "old"), 2)
    train, valid = (next(name for name, split in old.items() if split == wanted) for wanted in ("train", "valid"))
    for name in (train, valid):
        add_picture(root / f"{name}_turned.png", np.rot90(np.array(Image.open(root / name))))
    earlier = str(tmp_path / "old" / "metadata.csv")
    new = column(call(root, tmp_path / "new", extend=earlier), 2)
    assert new[f"{train}_turned.png"] == "train" and new[f"{valid}_turned.png"] == "valid"

    # With drop the earlier one stays, though the new one is larger.
    large = Image.open(root / valid).resize((80, 60), Image.Resampling.NEAREST)
    add_picture(root / "cat" / "large.png", np.array(large))
    assert set(column(call(root, tmp_path / "dropped", extend=earlier, on_duplicates="drop"), 2)) == set(old)

    # A hand-made table that has one picture on both sides: a third copy has no place.
    text = (tmp_path / "old" / "metadata.csv").read_text().splitlines()
    both = [f"{root}/{valid},{valid[:3]},valid,100", f"{root}/{valid}_turned.png,{valid[:3]},train,101"]
    (tmp_path / "hand.csv").write_text("\n".join([*(line for line in text if valid not in line), *both]) + "\n")
    capsys.readouterr()
    out = call(root, tmp_path / "torn", extend=str(tmp_path / "hand.csv"))
    assert "cat/large.png" not in column(out, 2)
    told = capsys.readouterr().out
    cause = f"cat/large.png: belongs to pictures that are in train and in valid of {tmp_path}/hand.csv"
    assert f"1 copy left out:\n  {cause}\n" in told
    assert "1 group of copies in more than one of the splits that are kept" in told
    read_metadata(out / "metadata.csv", read_label2id(out / "label2id.json"))


def test_groups_of_the_user_and_an_earlier_table(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=["plant1_a.png", "plant2_a.png", "plant3_a.png", "plant4_a.png"], dog=4)
    old = column(call(root, tmp_path / "old", groups=r"plant\d"), 2)
    photos(cat=[f"plant{plant}_b.png" for plant in range(1, 5)])
    earlier = str(tmp_path / "old" / "metadata.csv")
    new = column(call(root, tmp_path / "new", groups=r"plant\d", extend=earlier), 2)
    assert all(
        new[f"cat/plant{n}_b.png"] == new[f"cat/plant{n}_a.png"] == old[f"cat/plant{n}_a.png"] for n in range(1, 5)
    )
    later = str(tmp_path / "new" / "metadata.csv")
    assert column(call(root, tmp_path / "again", extend=later), 3) == column(tmp_path / "new", 3)  # its groups stay
    with pytest.raises(InputError, match=rf"groups divided by extend={later}: 'plant' in train, valid"):
        call(root, tmp_path / "wrong", groups="plant", extend=later)


def test_what_cannot_be_extended(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=6, dog=6)
    with pytest.raises(InputError, match=r"missing file in extend=old.csv: no such file"):
        call(root, tmp_path / "new", extend="old.csv")
    call(root, tmp_path / "old")
    for name in ("train", "val"):
        photos("divided", **{f"{name}/cat": 4, f"{name}/dog": 4})
    with pytest.raises(InputError, match=r"extend=\S+: root's folders are splits already, which are kept"):
        call(tmp_path / "divided", tmp_path / "new", extend=str(tmp_path / "old" / "metadata.csv"))
