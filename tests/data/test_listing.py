from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hybridnet.data.image import load_image
from hybridnet.data.listing import list_pictures
from hybridnet.errors import InputError


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with folders, and the working directory beside it."""
    for name in ("b.jpg", "a.PNG", "leaf/10.jpg", "leaf/9.jpg", "leaf/deep/c.tif", "leaf/notes.xml", "x[1].jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    for name in (".DS_Store", ".cache/d.jpg", "leaf/.e.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "empty" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def names(images: str | Sequence[str]) -> list[str]:
    return [str(path) for path in list_pictures(images)]


EVERYTHING = ["a.PNG", "b.jpg", "leaf/10.jpg", "leaf/9.jpg", "leaf/deep/c.tif", "leaf/notes.xml", "x[1].jpg"]


def test_a_file_is_itself(photos: Path) -> None:
    assert names("photos/b.jpg") == ["photos/b.jpg"]
    assert list_pictures(str(photos / "b.jpg")) == [photos / "b.jpg"]


def test_a_folder_is_all_that_lies_in_it_sorted_without_hidden_files() -> None:
    assert names("photos") == [f"photos/{name}" for name in EVERYTHING]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", ["b.jpg", "x[1].jpg"]),
        ("photos/**/*.jpg", ["b.jpg", "leaf/10.jpg", "leaf/9.jpg", "x[1].jpg"]),
        ("photos/leaf/?.jpg", ["leaf/9.jpg"]),
        ("photos/[ab].*", ["a.PNG", "b.jpg"]),
        ("photos/l*", ["leaf/10.jpg", "leaf/9.jpg", "leaf/deep/c.tif", "leaf/notes.xml"]),
        ("photos/**", EVERYTHING),
        ("photos/x[1].jpg", ["x[1].jpg"]),  # there is such a file: no pattern
    ],
)
def test_a_pattern_is_what_matches_and_lies_in_matching_folders(pattern: str, expected: list[str]) -> None:
    assert names(pattern) == [f"photos/{name}" for name in expected]


def test_an_absolute_pattern(photos: Path) -> None:
    assert list_pictures(f"{photos}/leaf/*.jpg") == [photos / "leaf/10.jpg", photos / "leaf/9.jpg"]


def test_several_keep_their_order_and_no_file_comes_twice(photos: Path) -> None:
    several = ["photos/leaf/9.jpg", "photos/leaf/*.jpg", str(photos / "b.jpg"), "photos/./b.jpg", "photos/a.PNG"]
    assert names(several) == ["photos/leaf/9.jpg", "photos/leaf/10.jpg", str(photos / "b.jpg"), "photos/a.PNG"]


def test_a_hidden_file_or_folder_may_be_named() -> None:
    assert names("photos/.DS_Store") == ["photos/.DS_Store"]
    assert names("photos/.cache") == ["photos/.cache/d.jpg"]


def test_a_link_back_to_a_folder_above_is_followed_once(photos: Path) -> None:
    (photos / "leaf" / "up").symlink_to("..")
    (photos / "leaf" / "zz.jpg").symlink_to("nowhere")  # told when it is read
    assert names("photos") == [f"photos/{name}" for name in (*EVERYTHING[:-1], "leaf/zz.jpg", "x[1].jpg")]


def test_a_folder_that_cannot_be_looked_into_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may look into every folder: the system's answer is made here."""
    scandir = os.scandir

    def refuse(path: str = ".") -> Iterator[os.DirEntry]:
        if Path(path).name in ("deep", ".cache"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    expected = ["leaf/deep" if name == "leaf/deep/c.tif" else name for name in EVERYTHING]
    assert names("photos") == [f"photos/{name}" for name in expected]
    with pytest.raises(
        InputError, match=r"photos/leaf/deep: is a folder that cannot be looked into \(Permission denied"
    ):
        load_image("photos/leaf/deep")


@pytest.mark.parametrize(
    ("images", "cause"),
    [
        (None, "error: missing value in images: no picture is named"),
        ([], "error: missing value in images: no picture is named"),
        ("", "error: missing value in images: no picture is named"),
        ("photo", "error: missing pictures in images=photo: no such file or folder"),
        ("photos/*.bmp", "error: missing pictures in images=photos/*.bmp: no file matches the pattern"),
        ("empty", "error: missing pictures in images=empty: there is no file in the folder"),
    ],
)
def test_nothing_there_is_told_with_what_may_be_named(images: str | None, cause: str) -> None:
    with pytest.raises(InputError) as error:
        list_pictures(images)
    first, hint = str(error.value).splitlines()
    assert first == cause
    assert hint.startswith("hint: name a file, a folder or a pattern: images=leaf.jpg")


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(InputError) as error:
        list_pictures(["photos/b.jpg", "one", "photos", "two/*.jpg"])
    assert [fault.where for fault in error.value.faults] == ["images=one", "images=two/*.jpg"]
