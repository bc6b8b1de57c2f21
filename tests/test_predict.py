"""`python -m hybridnet.predict`: a row for every file, whatever it is."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich
import torch
from PIL import Image
from rich.console import Console

from hybridnet import config
from hybridnet import predict as command
from hybridnet.errors import InputError
from hybridnet.files import read_json
from hybridnet.inference.predictor import Answers
from hybridnet.inference.runs import RunSettings

OWN = "extra_targets=[own_parts.]"


def predict(*overrides: str) -> None:
    cfg = config.compose("predict", [OWN, *overrides])
    assert not config.find_faults(cfg)
    config.build(cfg)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder as people have them: pictures in folders, and junk beside them."""
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "deep/b.JPG", "deep/ö, x.webp"):
        pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    (tmp_path / "photos" / "empty.jpg").touch()
    cut = (tmp_path / "photos" / "deep" / "b.JPG").read_bytes()[:400]
    (tmp_path / "photos" / "cut.jpg").write_bytes(cut)
    return tmp_path / "photos"


def test_every_file_has_a_row(
    reference: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(f"run={reference}", f"images={photos}", f"out={tmp_path / 'new' / 'out.csv'}", "top_k=2")
    rows = rows_of(tmp_path / "new" / "out.csv")
    assert [Path(row["path"]).relative_to(photos).as_posix() for row in rows] == [
        "a.png", "cut.jpg", "deep/b.JPG", "deep/ö, x.webp", "empty.jpg", "notes.txt",
    ]  # fmt: skip
    assert list(rows[0]) == ["path", "label", "probability", "label_2", "probability_2", "cause"]
    good = [row for row in rows if not row["cause"]]
    assert [Path(row["path"]).name for row in good] == ["a.png", "b.JPG", "ö, x.webp"]
    for row in good:
        assert 1 >= float(row["probability"]) >= float(row["probability_2"]) >= 0
        assert row["label"] != row["label_2"]
    assert {row["cause"] for row in rows if row["path"].endswith((".txt", "empty.jpg"))} == {
        "is none of JPEG, PNG, WebP, BMP and TIFF, or its header is damaged",
        "is empty (0 bytes)",
    }
    assert all(not row["label"] and not row["probability_2"] for row in rows if row["cause"])
    printed = capsys.readouterr().out
    assert f"3 pictures in {photos}" in printed
    assert "1 × is empty (0 bytes): " in printed


def test_labels_beyond_those_that_are_listed_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "MOST_ROWS", 1)
    files = [tmp_path / f"{label}.png" for label in ("cat", "dog")]
    answers = Answers(torch.zeros(2, 2), np.arange(2), {})
    rows = [[*command.COLUMNS, "cause"], *([str(file), file.stem, "0.8", ""] for file in files)]
    command._print(rows, answers, files, tmp_path / "out.csv")
    assert "\ncat: 1 … (2 in all)\n" in capsys.readouterr().out


def test_a_name_that_is_no_text_has_a_row_too(
    command: Callable[..., Any], reference: Path, photos: Path, tmp_path: Path
) -> None:
    """From an old archive, for instance; nor is it a reason to fail that the terminal cannot show it."""
    (photos / "a.png").rename(photos / os.fsdecode(b"\xff\xfe.png"))
    result = command("-m", "hybridnet.predict", OWN, f"run={reference}", f"images={photos}", "out=o.csv")
    assert result.stderr == ""
    assert result.returncode == 0
    assert "\\xff\\xfe.png" in result.stdout
    path = next(row["path"] for row in rows_of(tmp_path / "o.csv") if row["path"].endswith("fe.png"))
    assert path == f"{photos}/\\xff\\xfe.png"


def test_probabilities_are_those_of_the_training_s_end(reference: Path, tmp_path: Path) -> None:
    folder = Path(RunSettings(reference).get("data.metadata")).parent
    known = rows_of(reference / "predictions.csv")
    files = ",".join(str(folder / row["path"]) for row in known)
    predict(f"run={reference}", f"images=[{files}]", f"out={tmp_path / 'out.csv'}", "data.batch_size=6")
    for row, before in zip(rows_of(tmp_path / "out.csv"), known, strict=True):
        assert row["label"] == before["prediction"]
        assert row["probability"] == before[f"probability_{row['label']}"]


def test_names_may_be_relative_and_absolute(
    reference: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    predict(f"run={reference}", f"images=[photos/a.png,{photos / 'deep' / 'b.JPG'}]")
    assert [row["path"] for row in rows_of(tmp_path / "predictions.csv")] == [
        "photos/a.png",
        str(photos / "deep/b.JPG"),
    ]
    printed = capsys.readouterr().out
    assert printed.startswith("2 pictures in photos\n") and " deep/b.JPG " in printed
    predict(f"run={reference}", "images=photos/a.png")
    assert capsys.readouterr().out.startswith("1 picture in photos\n")


@pytest.mark.usefixtures("two_drives")
def test_pictures_on_two_drives_are_shown_with_their_whole_paths(
    reference: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(width=400)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    pictures = [photos / "a.png", photos / "deep" / "b.JPG"]
    predict(f"run={reference}", f"images=[{pictures[0]},{pictures[1]}]", f"out={tmp_path / 'out.csv'}")
    printed = capsys.readouterr().out
    assert printed.startswith("2 pictures\n") and all(f" {picture} " in printed for picture in pictures)


def test_no_usable_picture_is_a_wrong_input(reference: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of 1 file\n  '.*notes\.txt': is none of JPEG"):
        predict(f"run={reference}", f"images={photos / 'notes.txt'}", f"out={tmp_path / 'out.csv'}")
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(InputError, match="missing value in images"):
        predict(f"run={reference}")


def test_only_its_own_tables_are_replaced(reference: Path, photos: Path, tmp_path: Path) -> None:
    precious = tmp_path / "metadata.csv"
    precious.write_text("path,label,split\n")
    with pytest.raises(InputError, match=r"file would be replaced in out=.*metadata\.csv"):
        predict(f"run={reference}", f"images={photos}", f"out={precious}")
    assert precious.read_text() == "path,label,split\n"
    for out, cause in ((tmp_path, "is a folder"), (precious / "out.csv", "File exists|Not a directory")):
        with pytest.raises(InputError, match=rf"({cause})\nhint: choose another place with out=<file>"):
            predict(f"run={reference}", f"images={photos}", f"out={out}")
    for pattern, num in (("a.png", 1), ("**/*", 6)):
        predict(f"run={reference}", f"images={photos}/{pattern}", f"out={tmp_path / 'out.csv'}")
        assert len(rows_of(tmp_path / "out.csv")) == num


def test_more_classes_than_there_are(reference: Path, photos: Path, tmp_path: Path) -> None:
    predict(f"run={reference}", f"images={photos / 'a.png'}", f"out={tmp_path / 'out.csv'}", "top_k=9")
    (row,) = rows_of(tmp_path / "out.csv")
    assert {row["label"], row["label_2"], row["label_3"]} == {"horizontal", "none", "vertical"}
    total = sum(float(row[name]) for name in ("probability", "probability_2", "probability_3"))
    assert total == pytest.approx(1, abs=3e-6)


def test_the_command_line_from_a_model_alone(command: object, reference: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(reference / "best_model.pt", tmp_path / "model.pt")
    ended = command("-m", "hybridnet.predict", "run=model.pt", "images=photos", OWN)
    assert ended.returncode == 0, ended.stderr
    assert len(rows_of(tmp_path / "predictions.csv")) == 6
    assert "wrote predictions.csv" in ended.stdout
    ended = command("-m", "hybridnet.predict", "run=model.pt", "image=photos", OWN)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "did you mean images?" in ended.stderr
    assert read_json(reference / "status.json")["status"] == "complete"
