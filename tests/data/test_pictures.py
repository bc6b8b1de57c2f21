from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridnet.data import pictures
from hybridnet.data.copies import thumbnail
from hybridnet.data.pictures import Picture, class_folders, list_folder, list_table, read_pictures, read_table
from hybridnet.errors import Fault, InputError


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_class_is_the_folder_below_root(tmp_path: Path) -> None:
    for name in (
        "blast/Orig/1.jpg",
        "blast/2",
        "brown spot/a/b/3.txt",
        "4.png",
        "blast/.thumbs/5.jpg",
        "__MACOSX/blast/7.jpg",
        "blast/__MACOSX/8.jpg",
        "own.csv",
        r"blast/a\..\6.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    named, left_out = list_folder(tmp_path, own=[tmp_path / "own.csv"])
    assert [(n.name, n.label) for n in named] == [
        ("blast/2", "blast"),
        ("blast/Orig/1.jpg", "blast"),
        ("brown spot/a/b/3.txt", "brown spot"),
    ]
    assert [n.file for n in named] == [tmp_path / n.name for n in named]
    assert [(fault.where, fault.cause) for fault in left_out] == [
        ("4.png", "lies in root itself, not in the folder of a class"),
        ("__MACOSX/blast/7.jpg", "lies in __MACOSX, where macOS keeps what is no picture"),
        ("blast/.thumbs/5.jpg", "is hidden"),
        ("blast/__MACOSX/8.jpg", "lies in __MACOSX, where macOS keeps what is no picture"),
        (r"blast/a\..\6.jpg", "has '..' between backslashes, which no path in a table may have"),
    ]


def test_below_folders_of_splits_the_class_is_the_next_folder(tmp_path: Path) -> None:
    for name in ("TRAIN/blast/a/1.jpg", "val/blast/2.jpg", "Validation/rust/3.jpg", "test/4.jpg", "5.txt", "__M/.6"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    named, left_out = list_folder(tmp_path, own=())
    assert [(n.name, n.label, n.split) for n in named] == [
        ("TRAIN/blast/a/1.jpg", "blast", "train"),
        ("Validation/rust/3.jpg", "rust", "valid"),
        ("val/blast/2.jpg", "blast", "valid"),
    ]
    assert [fault.where for fault in left_out] == ["5.txt", "__M/.6", "test/4.jpg"]


def test_below_folders_of_splits_names_are_taken_as_in_root(tmp_path: Path) -> None:
    for name in ("training/blast/1.jpg", " Testing/gru\u0308n /2.jpg", "training/ /3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    named, left_out = list_folder(tmp_path, own=())
    assert [(n.label, n.split) for n in named] == [("gr\xfcn", "test"), ("blast", "train")]
    assert left_out == [Fault("left out", "training/ /3.jpg", "lies in a folder whose name is blank")]


def test_two_names_of_one_split_are_classes(tmp_path: Path) -> None:
    for name in ("valid/blast/1.jpg", "validation/blast/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    named, _ = list_folder(tmp_path, own=())
    assert [(n.label, n.split) for n in named] == [("valid", ""), ("validation", "")]


def test_spaces_around_a_label_and_the_form_of_accents_do_not_make_classes(tmp_path: Path) -> None:
    for name in ("gru\u0308n/1.jpg", "gr\xfcn/2.jpg", " gr\xfcn\xa0/3.jpg", " /4.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    named, left_out = list_folder(tmp_path, own=())
    assert {item.label for item in named} == {"gr\xfcn"} == class_folders(tmp_path, depth=1, own=()) - {""}
    assert len({item.name for item in named}) == 3 and all(item.file.exists() for item in named)
    assert left_out == [Fault("left out", " /4.jpg", "lies in a folder whose name is blank")]
    (tmp_path / "list.csv").write_text("path,label\na,gru\u0308n\nb, gr\xfcn \n", encoding="utf-8")
    assert {item.label for item in list_table(tmp_path / "list.csv")} == {"gr\xfcn"}


def test_a_folder_that_cannot_be_looked_into_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may look into every folder: the system's answer is made here."""
    for name in ("blast/1.jpg", "mold/deep/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    scandir = os.scandir

    def refuse(path: str = ".") -> Iterator[os.DirEntry]:
        if Path(path).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    named, left_out = list_folder(tmp_path, own=())
    assert [item.name for item in named] == ["blast/1.jpg"]
    cause = "is a folder that cannot be looked into (Permission denied)"
    assert left_out == [Fault("left out", "mold/deep/", cause)]


def test_class_folders_may_be_empty(tmp_path: Path) -> None:
    for name in ("train/blast", "val/rust/deep", "val/.git", ".cache/a", "data", os.fsdecode(b"val/m\xfcde")):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "train" / "file").touch()
    assert class_folders(tmp_path, depth=1, own=[tmp_path / "data" / "metadata.csv"]) == {"train", "val"}
    assert class_folders(tmp_path, depth=2, own=()) == {"blast", "rust", r"m\xfcde"}


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_pictures_are_read_in_order(
    where: str,
    tmp_path: Path,
    noise: Callable[..., np.ndarray],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if where == "processes":
        request.getfixturevalue("in_processes")
        monkeypatch.setattr(pictures, "open_rgb", None)  # in this process
    for number in range(5):
        Image.fromarray(noise(20, 30 + number, seed=number)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{n}.png,leaf\n" for n in range(6)))
    found = list(read_pictures(list_table(tmp_path / "list.csv")))
    assert found[2] == Fault("left out", "2.png", "is none of JPEG, PNG, WebP, BMP and TIFF, or its header is damaged")
    assert found[5] == Fault("left out", "5.png", "no such file")
    for number in (0, 1, 3, 4):
        picture = found[number]
        assert isinstance(picture, Picture)
        assert (picture.name, picture.label, picture.num_pixels) == (f"{number}.png", "leaf", 20 * (30 + number))
        assert picture.digest == hashlib.blake2b(picture.file.read_bytes(), digest_size=16).digest()
        assert np.array_equal(picture.thumbnail, thumbnail(Image.open(picture.file)))


def test_table(tmp_path: Path) -> None:
    path = table(tmp_path, '\ufefflabel,plant,path\nleaf,7,"a, b.jpg"\n\n07,,sub/c.png\nNA,1,/there/d.png\n')
    named = list_table(path)
    assert [(n.name, n.label) for n in named] == [("a, b.jpg", "leaf"), ("sub/c.png", "07"), ("/there/d.png", "NA")]
    assert [n.file for n in named] == [tmp_path / "a, b.jpg", tmp_path / "sub/c.png", Path("/there/d.png")]
    columns, lines = read_table(path, "here", ("plant",))
    assert columns["plant"] == ["7", "", "1"] and lines == [2, 4, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path;class\na;b\n", "no label; found 'path', 'class'\nhint: the first line must be: path,label"),
        ("file,label\na,b\n", "no path; found 'file', 'label'\nhint: the first line must be: path,label"),
        ("path,label\n../a,b\nc,\nhttp://x/y,z\n,b\n", r"contains '..': line 2 '../a', line 4 'http://x/y', line 5 ''"),
        ("path,label\nc,\nd, \n", "no label: line 2 'c', line 3 'd'"),
        ("path,label\na,b\nc,b\n./a,d\n", r"one file with two labels: 'a' is b \(line 2\) and d \(line 4\)"),
        ("path,label\n" + ",x\n" * 25, r"line 21 '' … \(25 in all\)"),
        ("path,label\na,b,c\n", "expected 2 fields: line 2 has 3"),
        ("", "is empty"),
        ("path,label\ngr\u00fcn,b\n".encode("latin-1"), "is not UTF-8: byte 0xfc in line 2\nhint: save it as UTF-8"),
    ],
)
def test_table_that_is_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        list_table(table(tmp_path, text))


def test_missing_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing file in here=.*none\.csv: no such file\nhint: name a CSV table"):
        read_table(tmp_path / "none.csv", "here", ())


def test_no_class_is_called_as_what_macos_adds(tmp_path: Path) -> None:
    for name in ("blast", "__MACOSX", "__MACOSX/blast", ".git"):
        (tmp_path / name).mkdir()
    assert class_folders(tmp_path, depth=1, own=()) == {"blast"}
    assert class_folders(tmp_path, depth=2, own=()) == set()
