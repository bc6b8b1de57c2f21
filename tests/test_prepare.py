"""`python -m hybridnet.prepare`: from folders of photos to metadata.csv and label2id.json."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hybridnet.data.table import check_files, read_label2id, read_metadata
from hybridnet.errors import InputError
from hybridnet.prepare import prepare, split_by_class

Photos = Callable[..., Path]


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Writes a folder of class folders with so many pictures each, or with pictures of the given names."""

    def make(name: str = "photos", **classes: int | list[str]) -> Path:
        root = tmp_path / name
        for label, pictures in classes.items():
            names = [f"{n:02d}.png" for n in range(pictures)] if isinstance(pictures, int) else pictures
            for number, file in enumerate(names):
                add_picture(root / label / file, number)
        return root

    return make


def add_picture(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".bmp": "BMP", ".webp": "WEBP"}
    pixels = np.full((6, 8, 3), number, dtype=np.uint8)
    Image.fromarray(pixels).save(path, format=kind.get(path.suffix.lower(), "PNG"))


def call(root: Path | str, out: Path | str, **settings: Any) -> Path:
    defaults = {"valid": 0.2, "test": 0.0, "seed": 42, "overwrite": False}
    prepare(root=str(root), out=str(out), **defaults | settings)
    return Path(out)


def rows_of(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        heading, *rows = csv.reader(stream)
    assert heading == ["path", "label", "split"]
    return [tuple(row) for row in rows]


def shares(folder: Path) -> dict[tuple[str, str], int]:
    return dict(Counter((label, split) for _, label, split in rows_of(folder)))


def contents(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "metadata.csv").read_bytes(), (folder / "label2id.json").read_bytes()


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
    check_files(splits.values(), where="here")
    found = {str(file.relative_to(tmp_path / "photos")) for split in splits.values() for file in split.files}
    assert found == {f"Müde, alt/{name}" for name in names} | {"deep/a/b/c/1.png", "deep/a/2.PNG", "deep/3.png"}
    for split in splits.values():
        folders = [file.relative_to(tmp_path / "photos").parts[0] for file in split.files]
        assert [labels[folder] for folder in folders] == split.labels.tolist()


def test_paths_are_relative_where_the_pictures_lie_below_the_table(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=3, dog=3)
    below = [f"photos/{label}/{n:02d}.png" for label in ("cat", "dog") for n in range(3)]
    assert [path for path, _, _ in rows_of(call(root, tmp_path))] == below
    assert [path for path, _, _ in rows_of(call(root, root))] == [path.removeprefix("photos/") for path in below]
    elsewhere = [path for path, _, _ in rows_of(call(root, tmp_path / "data"))]
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
    assert listed[0].startswith(f"{root / 'cat' / 'cut.png'}: ") and "truncated" in listed[0]
    assert listed[1].startswith(f"{root / 'dog' / 'empty.jpg'}: is none of JPEG")
    assert listed[2] == f"{root / 'on_top.png'}: lies in root itself, not in the folder of a class"
    assert listed[3:] == ["1 × .ini: no pictures", "2 × .xml: no pictures", "2 × no extension: no pictures"]


def test_many_damaged_pictures_are_counted(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=5)
    for number in range(23):
        (root / "cat" / f"bad{number:02d}.jpg").touch()
    call(root, tmp_path / "data")
    lines = capsys.readouterr().out.splitlines()
    assert "23 files left out:" in lines and "  … and 3 more pictures" in lines
    assert sum("bad" in line for line in lines) == 20


def test_report(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(photos(cat=20, dog=10), tmp_path, test=0.1)
    lines = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines]
    assert "30 pictures" in [line.strip() for line in lines]
    assert ["class", "train", "valid", "test"] in words
    assert ["cat", "14", "4", "2"] in words and ["dog", "7", "2", "1"] in words
    pair = f"data.metadata={tmp_path / 'metadata.csv'} data.label2id={tmp_path / 'label2id.json'}"
    assert f"  python train.py data=metadata {pair}" in lines


def test_same_seed_same_bytes(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=20, dog=10)
    first = contents(call(root, tmp_path / "a"))
    assert contents(call(root, tmp_path / "b")) == first
    other = contents(call(root, tmp_path / "c", seed=43))
    assert other[0] != first[0] and other[1] == first[1]
    assert shares(tmp_path / "c") == shares(tmp_path / "a")


def test_split_is_drawn_at_random() -> None:
    """Each picture comes into validation as often as any other."""
    labels = ["cat"] * 20 + ["dog"] * 10
    drawn = np.array([[s == "valid" for s in split_by_class(labels, valid=0.2, test=0.0, seed=n)] for n in range(400)])
    assert np.abs(drawn.mean(axis=0) - 0.2).max() < 0.08  # 4 σ
    assert len({row.tobytes() for row in drawn}) > 390


@pytest.mark.parametrize(
    ("count", "valid", "test", "expected"),
    [
        (2, 0.1, 0.0, (1, 1, 0)),
        (3, 0.1, 0.1, (1, 1, 1)),
        (10, 0.25, 0.0, (8, 2, 0)),
        (100, 0.15, 0.15, (70, 15, 15)),
        (7, 0.2, 0.2, (5, 1, 1)),
    ],
)
def test_shares_by_hand(count: int, valid: float, test: float, expected: tuple[int, int, int]) -> None:
    found = Counter(split_by_class(["cat"] * count, valid=valid, test=test, seed=0))
    assert (found["train"], found["valid"], found["test"]) == expected


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
            "choose another out=<folder>, or overwrite=true",
        )
    ]
    assert contents(out) == first
    call(root, out, seed=43, overwrite=True)
    assert contents(out)[0] != first[0]


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
        (no_folder, {}, r"missing folder in root=.*photos: no such folder"),
        (no_pictures, {}, r"no pictures in root=.*photos: 1 files, none usable\nhint: root must have one folder"),
        (pictures_on_top, {}, r"no pictures in root=.*photos: 3 files, none usable\nhint: root must have one folder"),
        (lambda p: p(cat=5, dog=1), {}, "too few pictures in class 'dog': 1 pictures are too few for two splits"),
        (lambda p: p(cat=5, dog=2), {"test": 0.1}, "class 'dog': 2 pictures are too few for three splits"),
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
        ({"seed": -1, "overwrite": "yes"}, "seed: must be >= 0, got -1; overwrite: expected true or false, got 'yes'"),
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
    expected = contents(call(tmp_path / "photos", tmp_path / "again"))
    assert contents(tmp_path / "data") == expected


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["out=data"], ["error: missing value in root: must be given", "hint: root=<value>"]),
        (
            ["root=photos", "out=data", "vlid=0.3"],
            ["error: unknown key in vlid: the configuration has no 'vlid'", "hint: did you mean valid?"],
        ),
        (["root=photos", "out=data", "valid=2"], ["error: wrong value in valid=2: must be >= 0 and < 1, got 2"]),
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


def test_class_folder_may_be_a_link(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=5)
    (root / "dog").symlink_to(photos("store", dogs=5) / "dogs", target_is_directory=True)
    assert set(json.loads((call(root, tmp_path / "data") / "label2id.json").read_text())) == {"cat", "dog"}


def test_links_in_a_circle_end(photos: Photos, tmp_path: Path) -> None:
    root = photos(cat=5)
    (root / "cat" / "up").symlink_to(root, target_is_directory=True)
    assert shares(call(root, tmp_path / "data")) == {("cat", "train"): 4, ("cat", "valid"): 1}


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_name_that_is_not_utf8_is_listed(photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(cat=5)
    picture = (root / "cat" / "00.png").read_bytes()
    Path(os.fsdecode(os.fsencode(root / "cat") + b"/\xfc.png")).write_bytes(picture)
    assert sum(shares(call(root, tmp_path / "data")).values()) == 5
    assert "its name is not UTF-8" in capsys.readouterr().out


def test_empty_root_is_refused(photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(cat=5)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="root"):
        call("", tmp_path / "data")


def test_out_that_is_a_file_is_told(photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(InputError, match="data"):
        call(photos(cat=5), tmp_path / "data")
