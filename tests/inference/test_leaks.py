"""Judged pictures that a run was trained with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from hybridnet.data.progress import silently
from hybridnet.files import csv_text
from hybridnet.inference.leaks import Leaks, find_leaks
from hybridnet.inference.runs import RunSettings
from hybridnet.inference.trained import TrainedModel


def leaks(run: Path, files: list[Path], trained: TrainedModel) -> Leaks:
    return find_leaks(RunSettings(run), files, trained.classes, trained.preprocessing.reduction, track=silently)


def test_copies_are_found_whatever_was_done_to_them(reference: Path, trained: TrainedModel, tmp_path: Path) -> None:
    photos = Path(RunSettings(reference).get("data.metadata")).parent
    for name, change in (("same", np.asarray), ("turned", np.rot90), ("mirrored", np.fliplr)):
        Image.fromarray(change(np.asarray(Image.open(photos / "3.png")))).save(tmp_path / f"{name}.bmp")
    (tmp_path / "junk.png").write_text("no picture")
    files = [photos / "30.png", *(tmp_path / f"{name}.bmp" for name in ("same", "turned", "mirrored"))]
    found = leaks(reference, [*files, tmp_path / "junk.png"], trained)
    assert found == Leaks({1: "3.png", 2: "3.png", 3: "3.png"}, 24)


def test_what_the_training_left_out_does_not_count(reference: Path, trained: TrainedModel, tmp_path: Path) -> None:
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    photos = Path(RunSettings(run).get("data.metadata")).parent
    rows = [("line", "path", "split", "cause"), (5, "3.png", "train", "is a copy"), (6, "4.png", "valid", "is bad")]
    (run / "left_out.csv").write_text(csv_text(rows))
    files = [photos / "3.png", photos / "4.png"]
    assert leaks(run, files, trained) == Leaks({}, 0, "the table has other training pictures now")
    (run / "environment.json").unlink()  # which says what the training has used
    assert leaks(run, files, trained) == Leaks({1: "4.png"}, 23)


def test_pictures_that_cannot_be_used_are_no_copies(reference: Path, trained: TrainedModel, tmp_path: Path) -> None:
    """Neither those that the training had, of which one is gone and one damaged since, nor those to judge."""
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    before = Path(RunSettings(run).get("data.metadata")).parent
    photos = Path(shutil.copytree(before, tmp_path / "photos"))
    settings = run / ".hydra" / "config.yaml"
    settings.write_text(settings.read_text().replace(str(before), str(photos)))
    (run / "environment.json").unlink()  # with which it would be another training
    (photos / "3.png").unlink()
    (photos / "4.png").write_text("no picture")
    (tmp_path / "junk.png").write_text("no picture")
    files = [before / "3.png", tmp_path / "gone.png", tmp_path / "junk.png", before / "5.png"]
    assert leaks(run, files, trained) == Leaks({3: "5.png"}, 22)


def test_without_the_training_pictures_nothing_is_compared(
    reference: Path, trained: TrainedModel, tmp_path: Path
) -> None:
    photos = Path(RunSettings(reference).get("data.metadata")).parent
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    (run / ".hydra" / "config.yaml").unlink()
    assert leaks(run, [photos / "3.png"], trained) == Leaks({}, 0, "the training pictures are not there")
