"""`python -m hybridnet.doctor`: a clean pair passes; of a bad one all faults are told, and much is shown."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridnet import config
from hybridnet.doctor import doctor
from hybridnet.errors import Fault, InputError

Photos = Callable[..., Path]
UNSAFE = "path that is empty, a URL, or contains '..'"
CLEAN = [  # lines 2 to 7
    "0.png,leaf,train",
    "1.png,root,train",
    "2.png,leaf,train",
    "3.png,root,train",
    "4.png,leaf,valid",
    "5.png,root,valid",
]


def picture(seed: int) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(np.kron(colours, np.ones((8, 8, 1), dtype=np.uint8)))


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Writes a pair and a picture for every path in it that ends in <number>.<extension>."""

    def make(
        lines: Sequence[str] = CLEAN, labels: Sequence[str] = ("leaf", "root"), heading: str = "path,label,split"
    ) -> Path:
        (tmp_path / "metadata.csv").write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")
        (tmp_path / "label2id.json").write_text(json.dumps({label: index for index, label in enumerate(labels)}))
        for path in {line.partition(",")[0] for line in lines}:
            picture(int(Path(path).stem)).save(tmp_path / path)
        return tmp_path

    return make


def examine(folder: Path, *, fold: int | None = None) -> None:
    pair = {"metadata": str(folder / "metadata.csv"), "label2id": str(folder / "label2id.json")}
    doctor(**pair, fold=fold, out=str(folder / "report"))


def faults_of(folder: Path, *, fold: int | None = None) -> tuple[Fault, ...]:
    with pytest.raises(InputError) as error:
        examine(folder, fold=fold)
    return error.value.faults


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_clean_pair_passes(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos()
    examine(folder)
    lines = words(capsys.readouterr().out)
    assert ["6", "rows,", "2", "classes"] in lines
    assert ["class", "train", "valid", "all", "share"] in lines
    assert ["leaf", "2", "1", "3", "50.0%"] in lines
    assert ["all", "4", "2", "6", "100.0%"] in lines
    assert ["decoded", "6"] in lines and ["unusable", "0"] in lines
    assert lines[-1] == ["no", "faults"]
    assert not [line for line in lines if line[0] == "note:"]
    report = (folder / "report" / "report.txt").read_text(encoding="utf-8")
    assert words(report) == lines
    assert all(line == line.rstrip() for line in report.splitlines())


def test_sizes_formats_and_modes_are_told(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos([line.replace("5.png", "5.jpg").replace("2.png", "2.bmp") for line in CLEAN])
    picture(0).resize((30, 20)).save(folder / "0.png")
    picture(1).convert("L").resize((500, 4)).save(folder / "1.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(5).save(folder / "5.jpg", exif=exif)
    examine(folder)
    text = " ".join(capsys.readouterr().out.split())
    assert "width×height smallest 30×20, median 64×48, largest 48×64" in text
    assert "format PNG 4 (66.7%), BMP 1 (16.7%), JPEG 1 (16.7%)" in text
    assert "mode RGB 5 (83.3%), L 1 (16.7%)" in text


def test_samples_show_a_row_of_each_class(photos: Photos) -> None:
    lines = [f"{number}.png,{'leaf' if number < 20 else 'root'},train" for number in range(23)]
    folder = photos([*lines, "23.png,root,valid", "22.png,root,train"])
    for number in range(24):
        colours = np.array(picture(number)) // 4
        colours[..., 0 if number < 20 else 2] = 255
        Image.fromarray(colours).save(folder / f"{number}.png")
    examine(folder)
    with Image.open(folder / "report" / "samples.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    is_red = (pixels[..., 0] > 250) & (pixels[..., 1:] < 80).all(axis=2)
    is_blue = (pixels[..., 2] > 250) & (pixels[..., :2] < 80).all(axis=2)
    assert np.flatnonzero(is_red.any(axis=1)).max() < np.flatnonzero(is_blue.any(axis=1)).min()
    widths = [mask.any(axis=0).sum() for mask in (is_red, is_blue)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.1), "eight pictures of the one, all four of the other, once"


def test_samples_are_from_the_whole_table(photos: Photos) -> None:
    folder = photos([f"{number}.png,leaf,{'valid' if number else 'train'}" for number in range(20)], ["leaf"])
    Image.new("RGB", (8, 8), (0, 0, 255)).save(folder / "19.png")
    examine(folder)
    with Image.open(folder / "report" / "samples.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels == (0, 0, 255)).all(axis=2).sum() > 50


# What is wrong with a picture


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (Path.unlink, "no such file"),
        (lambda path: os.truncate(path, 0), "is empty (0 bytes)"),
        (lambda path: os.truncate(path, 120), "truncated"),
        (lambda path: os.truncate(path, 20), "Truncated"),
        (lambda path: path.write_text("no picture"), "is none of JPEG"),
        (lambda path: picture(9).save(path, format="GIF"), "is GIF, which is not read"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is not a regular file"),
        (lambda path: Image.new("1", (30_000, 3_000)).save(path), "has more than 89,478,485 pixels"),
    ],
)
def test_bad_picture(damage: Callable, cause: str, photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos()
    damage(folder / "3.png")
    (fault,) = faults_of(folder)
    assert (fault.what, fault.where) == ("unusable images", f"data.metadata={folder / 'metadata.csv'}")
    count, line = fault.cause.splitlines()
    assert count == "1 of them"
    assert line.startswith("  line 5 '3.png': ") and cause in line
    assert "data.on_bad_image=skip" in fault.hint
    lines = words(capsys.readouterr().out)
    assert ["decoded", "5"] in lines and ["unusable", "1"] in lines and lines[-1] == ["1", "fault"]
    assert f"error: {fault.what} in" in (folder / "report" / "report.txt").read_text(encoding="utf-8")
    assert (folder / "report" / "samples.png").is_file()


def test_without_any_picture_there_is_still_a_report(photos: Photos) -> None:
    folder = photos()
    for path in folder.glob("*.png"):
        path.unlink()
    (fault,) = faults_of(folder)
    assert fault.cause.startswith("6 of them\n  line 2 '0.png': no such file\n")
    assert fault.hint == f"relative paths are relative to the table's folder, {folder}"
    assert [path.name for path in (folder / "report").iterdir()] == ["report.txt"]


# The same picture in several places


def test_same_picture_in_two_splits(photos: Photos) -> None:
    folder = photos([*CLEAN, "6.png,root,test"])
    picture(0).transpose(Image.Transpose.ROTATE_90).save(folder / "4.png")
    picture(3).save(folder / "6.png", format="JPEG", quality=90)
    (fault,) = faults_of(folder)
    assert fault.what == "copies"
    assert fault.cause.splitlines() == [
        "2 pictures in more than one split",
        "  line 2 '0.png' (train) = line 6 '4.png' (valid)",
        "  line 5 '3.png' (train) = line 8 '6.png' (test)",
    ]
    assert "python -m hybridnet.prepare" in fault.hint


def test_many_copies_are_counted(photos: Photos) -> None:
    folder = photos([*CLEAN, *(f"{number}.png,leaf,{'train' if number % 2 else 'valid'}" for number in range(6, 52))])
    for number in range(6, 52):
        picture(number // 2).save(folder / f"{number}.png")
    for number in range(6):
        picture(100 if number < 5 else 101).resize((40 + number, 40)).save(folder / f"{number}.png")
    leak, labels = faults_of(folder)
    count, *lines = leak.cause.splitlines()
    assert count == "24 pictures in more than one split"
    assert lines[0] == "  line 2 '0.png' (train) = line 6 '4.png' (valid) … (5 copies in all)"
    assert len(lines) == 21 and lines[-1] == "  … and 4 more"
    assert labels.cause.splitlines()[1:] == [
        "  line 2 '0.png' (leaf) = line 3 '1.png' (root) = line 5 '3.png' (root) … (5 copies in all)"
    ]


def test_copies_are_counted_where_one_of_them_is_not_shown(photos: Photos) -> None:
    folder = photos()
    for number in (1, 2, 3):
        picture(0).resize((32, 24 + number)).save(folder / f"{number}.png")
    (fault,) = faults_of(folder)
    assert fault.cause.endswith("(leaf) = line 3 '1.png' (root) = line 5 '3.png' (root) … (4 copies in all)")


def test_same_picture_with_two_labels(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos()
    picture(0).resize((32, 24)).save(folder / "1.png")
    (fault,) = faults_of(folder)
    assert fault.cause.splitlines() == [
        "1 picture with more than one label",
        "  line 2 '0.png' (leaf) = line 3 '1.png' (root)",
    ]
    assert "note: " not in capsys.readouterr().out


def test_fold_decides_what_leaks(photos: Photos) -> None:
    lines = [f"{number}.png,{label},train,{number // 2}" for number, label in enumerate(["leaf", "root"] * 3)]
    folder = photos(lines, heading="path,label,split,fold")
    picture(2).save(folder / "4.png")
    examine(folder, fold=0)
    (fault,) = faults_of(folder, fold=2)
    assert fault.cause.endswith("\n  line 4 '2.png' (train) = line 6 '4.png' (valid)")


# Table, labels and pictures at once


def test_all_faults_are_told_at_once(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos([*CLEAN, "6.png,flower,train", "0.png,leaf,valid", "7.png,leaf,dev"])
    (folder / "2.png").unlink()
    picture(1).save(folder / "5.png")
    (folder / "label2id.json").write_text('{"leaf": 0, "root": 2}')
    found = faults_of(folder)
    assert [(fault.what, fault.cause.splitlines()[0]) for fault in found] == [
        ("wrong content", "the class indices must be 0 … 1 without gaps or doubles: 1 missing, 'root' has 2"),
        ("wrong rows", "unknown label (label2id has leaf, root): line 8 'flower'"),
        ("wrong rows", "unknown split (expected train, valid, test): line 10 'dev'"),
        ("wrong rows", "one file in two splits: '0.png' is in train (line 2) and valid (line 9)"),
        ("unusable images", "1 of them"),
        ("copies", "1 picture in more than one split"),
    ]
    lines = words(capsys.readouterr().out)
    assert lines[-1] == ["6", "faults"]
    assert ["flower", "1", "0", "1", "11.1%"] in lines
    assert not [line for line in lines if line[0] == "note:"], "an unknown label is a mistake and not a rare class"
    report = (folder / "report" / "report.txt").read_text(encoding="utf-8")
    assert all(str(fault) in report for fault in found)
    assert (folder / "report" / "samples.png").is_file()


@pytest.mark.parametrize(
    ("labels", "rows", "causes"),
    [
        (
            '{"leaf": 0, "root": 1}',
            ["x.png,Leaf,train"],
            ["unknown label (label2id has leaf, root): line 8 'Leaf' instead of 'leaf'"],
        ),
        ('{"leaf": 0, "root": 1}', ["x.png,leaf"], ["expected 3 fields: line 8 has 2"]),
        ('{"leaf": 0, "root": 1, "stem": 2}', [], ["no row of split 'train' has label 'stem'"]),
        ('{"leaf": 0, "leaf": 0, "root": 1}', [], ["labels that are there more than once: 'leaf'"]),
        ('["leaf", "root"]', [], ["expected an object, got list"]),
        ('{"0": "leaf", "1": "root"}', [], ["is from class index to label, the wrong way round"]),
        ('{"leaf": 0, "root": 1}', ["../0.png,leaf,train"], [f"{UNSAFE}: line 8 '../0.png'"]),
    ],
)
def test_wrong_pair_with_good_pictures(labels: str, rows: list[str], causes: list[str], photos: Photos) -> None:
    folder = photos()
    with (folder / "metadata.csv").open("a") as stream:
        stream.write("\n".join(rows))
    (folder / "label2id.json").write_text(labels)
    missing = [fault for fault in faults_of(folder) if fault.what == "unusable images"]
    assert [fault.cause for fault in faults_of(folder) if fault not in missing] == causes
    assert all(fault.cause == "1 of them\n  line 8 'x.png': no such file" for fault in missing)
    assert (folder / "report" / "samples.png").is_file()


def test_neither_table_nor_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [(fault.what, fault.where.partition("=")[0]) for fault in faults_of(tmp_path)] == [
        ("missing file", "data.label2id"),
        ("missing file", "data.metadata"),
    ]
    assert capsys.readouterr().out.splitlines()[-1] == "2 faults"
    assert "error: missing file in data.label2id=" in (tmp_path / "report" / "report.txt").read_text()


def test_report_needs_a_folder(photos: Photos) -> None:
    folder = photos()
    (folder / "report").touch()
    (fault,) = faults_of(folder)
    assert (fault.what, fault.where) == ("unusable folder", f"out={folder / 'report'}")


def test_report_that_cannot_be_written_is_printed(
    photos: Photos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = photos([*CLEAN, "6.png,flower,train"])
    monkeypatch.setattr("hybridnet.doctor.write_text", full)
    wrong, place = faults_of(folder)
    assert wrong.what == "wrong rows"
    assert place[:3] == ("unusable folder", f"out={folder / 'report'}", "No space left on device")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 fault" and not [line for line in lines if line.startswith("wrote")]
    (folder / "report").rmdir()
    (folder / "report").touch()
    assert [fault.what for fault in faults_of(folder)] == ["wrong rows", "unusable folder"]
    assert capsys.readouterr().out.splitlines() == lines


# What may not be meant


def notes_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    examine(folder)
    return [line.removeprefix("note: ") for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]


def test_class_without_training_picture_is_not_called_rare(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    (fault,) = faults_of(photos(labels=["leaf", "root", "stem"]))
    assert fault.what == "class without images"
    assert "unbalanced" not in capsys.readouterr().out


def test_one_class_only_is_told(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    notes = notes_of(photos(["0.png,leaf,train", "1.png,leaf,valid"], ["leaf"]), capsys)
    assert notes == ["one class only ('leaf'): there is nothing to tell apart"]


def test_class_without_validation_picture(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    assert notes_of(photos(CLEAN[:-1]), capsys) == ["no validation picture of 'root'"]


@pytest.mark.parametrize(
    "rows",
    [
        [row.replace("valid", "val") for row in CLEAN],
        [row.replace("train", "Train").replace("valid", "Valid") for row in CLEAN],
        CLEAN[:4],
        [row.replace("leaf", "Leaf").replace("root", "Root") for row in CLEAN],
    ],
)
def test_misspelt_or_missing_split_or_label_has_no_note_beside_it(
    rows: list[str], photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faults_of(photos(rows, ["leaf", "root"]))
    assert "note: " not in capsys.readouterr().out


@pytest.mark.parametrize(("num_more", "expected"), [(8, []), (9, ["21 of 'leaf', 2 of 'root'"])])
def test_imbalance(num_more: int, expected: list[str], photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos([*CLEAN, *(f"{number}.png,leaf,train" for number in range(6, 16 + num_more))])
    notes = notes_of(folder, capsys)
    assert [note.partition("unbalanced: ")[2].partition(";")[0] for note in notes] == expected


def test_rows_and_copies_in_one_split(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos([*CLEAN, "0.png,leaf,train"])
    picture(0).save(folder / "2.png", compress_level=1)
    assert notes_of(folder, capsys) == [
        "1 row with the file of an earlier row: line 8 = line 2",
        "1 picture with copies in the same split: line 2 = line 4",
    ]
    report = words((folder / "report" / "report.txt").read_text(encoding="utf-8"))
    assert [line for line in (["6", "files"], ["decoded", "6"], ["unusable", "0"]) if line not in report] == []


def test_five_of_many_rows_with_the_same_file_are_named(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    (note,) = notes_of(photos([*CLEAN, *["0.png,leaf,train"] * 6]), capsys)
    assert note.startswith("6 rows with the file of an earlier row: line 8 = line 2, ")
    assert note.endswith("line 12 = line 2 … (6 in all)")


def test_four_lines_of_a_picture_in_one_split_are_named(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos([*CLEAN, *(f"{number}.png,leaf,train" for number in (6, 7, 8))])
    for number in (2, 6, 7, 8):
        picture(0).save(folder / f"{number}.png", compress_level=number % 6)
    assert notes_of(folder, capsys) == [
        "1 picture with copies in the same split: line 2 = line 4 = line 8 = line 9",
    ]


def test_extension_that_misleads(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos()
    picture(1).save(folder / "1.png", format="WEBP", lossless=True)
    (note,) = notes_of(folder, capsys)
    assert note.endswith("which decides: line 3 '1.png' is WEBP")


def test_many_classes_with_odd_names(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["$5", "$6", "[red]", "葉", "x" * 200, *map(str, range(55))]
    rows = [f"{number}.png,{name},train" for number, name in enumerate(names)]
    folder = photos([*rows, "99.png,[red],valid"], names)
    notes = notes_of(folder, capsys)
    assert notes[-1] == "samples.png shows the first 20 of 60 classes"
    assert notes[0].startswith("no validation picture of '$5', '$6', '葉', ") and notes[0].endswith("(59 in all)")
    report = words((folder / "report" / "report.txt").read_text(encoding="utf-8"))
    assert ["[red]", "1", "1", "2", "3.3%"] in report
    assert ["…", "and", "10", "more"] in report


@pytest.mark.parametrize(("num_classes", "is_told", "num_more"), [(20, False, 0), (21, True, 0), (51, True, 1)])
def test_classes_that_are_not_shown_are_told(
    num_classes: int, is_told: bool, num_more: int, photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"class{number}" for number in range(num_classes)]
    folder = photos([*(f"{n}.png,{name},train" for n, name in enumerate(names)), "99.png,class0,valid"], names)
    told = f"samples.png shows the first 20 of {num_classes} classes"
    assert (told in notes_of(folder, capsys)) == is_told
    report = words((folder / "report" / "report.txt").read_text(encoding="utf-8"))
    assert [line[2] for line in report if line[:2] == ["…", "and"]] == [str(num_more)] * bool(num_more)
    assert ["all", str(num_classes), "1", str(num_classes + 1), "100.0%"] in report


# As a command


def test_yaml_passes_the_keys_of_training_on() -> None:
    cfg = config.compose("doctor", ["data.metadata=a.csv", "data.label2id=b.json", "data.fold=3", "out=c"])
    assert config.find_faults(cfg) == {}
    assert {key: cfg[key] for key in ("metadata", "label2id", "fold", "out")} == {
        "metadata": "a.csv",
        "label2id": "b.json",
        "fold": 3,
        "out": "c",
    }


@pytest.mark.parametrize(
    ("override", "where"),
    [("data.fold=-1", "data.fold=-1"), ("data.metadata=3", "data.metadata=3"), ("+data.x=1", "data.x")],
)
def test_wrong_settings_are_refused(override: str, where: str) -> None:
    (fault,) = config.find_faults(config.compose("doctor", [override])).values()
    assert fault.where == where


def test_misspelt_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown key in data\.metdata[^?]*did you mean data\.metadata\?"):
        config.compose("doctor", ["data.metdata=x"])


def test_exit_codes(photos: Photos, command: Callable) -> None:
    photos()
    pair = ["data.metadata=metadata.csv", "data.label2id=label2id.json"]
    result = command("-m", "hybridnet.doctor", "data=metadata", *pair)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-2:] == [
        "wrote outputs/doctor/report.txt, outputs/doctor/samples.png",
        "no faults",
    ]
    (Path(photos()) / "3.png").unlink()
    result = command("-m", "hybridnet.doctor", *pair, "out=here")
    assert result.returncode == 2
    assert result.stdout.splitlines()[-1] == "1 fault"
    assert result.stderr.splitlines()[:2] == [
        "error: unusable images in data.metadata=metadata.csv: 1 of them",
        "  line 5 '3.png': no such file",
    ]
