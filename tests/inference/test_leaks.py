"""Judged pictures that a run was trained with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridnet.data.digests import file_digest
from hybridnet.data.progress import silently
from hybridnet.errors import InputError
from hybridnet.files import csv_text
from hybridnet.inference.leaks import Leaks, find_leaks, require_unseen
from hybridnet.inference.runs import RunSettings
from hybridnet.inference.trained import TrainedModel


def leaks(run: Path, files: list[Path], trained: TrainedModel) -> Leaks:
    return find_leaks(RunSettings(run), files, trained.classes, trained.preprocessing.reduction, track=silently)


def photos_of(run: Path) -> Path:
    return Path(RunSettings(run).get("data.metadata")).parent


@pytest.fixture
def moved(reference: Path, tmp_path: Path) -> Path:
    """A run with a table and pictures of its own."""
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    before = photos_of(run)
    photos = shutil.copytree(before, tmp_path / "photos")
    settings = run / ".hydra" / "config.yaml"
    settings.write_text(settings.read_text().replace(str(before), str(photos)))
    return run


def test_copies_are_found_whatever_was_done_to_them(reference: Path, trained: TrainedModel, tmp_path: Path) -> None:
    photos = photos_of(reference)
    for name, change in (("same", np.asarray), ("turned", np.rot90), ("mirrored", np.fliplr)):
        Image.fromarray(change(np.asarray(Image.open(photos / "3.png")))).save(tmp_path / f"{name}.bmp")
    (tmp_path / "junk.png").write_text("no picture")
    files = [photos / "30.png", *(tmp_path / f"{name}.bmp" for name in ("same", "turned", "mirrored"))]
    found = leaks(reference, [*files, tmp_path / "junk.png"], trained)
    assert found == Leaks({1: "3.png", 2: "3.png", 3: "3.png"}, 24, num_validated=1)


def test_training_pictures_are_known_however_the_table_is_divided_and_labelled_now(
    moved: Path, trained: TrainedModel
) -> None:
    """Also in another order, with new ones between them, and for copies of them."""
    table = photos_of(moved) / "metadata.csv"
    header, *lines = table.read_text().replace(",train", ",test").replace(",valid", ",train").splitlines()
    Image.new("RGB", (16, 16)).save(table.parent / "new.png")
    Image.open(table.parent / "5.png").rotate(180).save(table.parent / "turned.png")
    added = ["new.png,another label,train", "turned.png,none,test"]
    table.write_text("\n".join([header, *added, *reversed(lines)]) + "\n")
    files = [table.parent / name for name in ("3.png", "30.png", "new.png", "turned.png")]
    assert leaks(moved, files, trained) == Leaks({0: "3.png", 3: "5.png"}, 24, num_validated=1)


def test_what_the_training_left_out_does_not_count(reference: Path, trained: TrainedModel, tmp_path: Path) -> None:
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    photos = photos_of(run)
    noted = (run / "pictures.csv").read_text()
    (run / "pictures.csv").write_text(noted.replace(f"train,{file_digest(photos / '3.png').hex()}\n", ""))
    assert leaks(run, [photos / "3.png", photos / "4.png"], trained) == Leaks({1: "4.png"}, 23)


def test_a_run_that_has_not_noted_its_pictures_knows_them_by_its_table(
    reference: Path, trained: TrainedModel, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    (run / "pictures.csv").unlink()
    photos = photos_of(run)
    rows = [("line", "path", "split", "cause"), (5, "3.png", "train", "is a copy"), (6, "4.png", "valid", "is bad")]
    (run / "left_out.csv").write_text(csv_text(rows))
    files = [photos / "3.png", photos / "4.png"]
    assert leaks(run, files, trained) == Leaks(None, 0, "the table has other training pictures now")
    (run / "environment.json").unlink()  # which says what the training has used
    assert leaks(run, files, trained) == Leaks({1: "4.png"}, 23)


@pytest.mark.parametrize("is_noted", [True, False])
def test_pictures_that_cannot_be_used_are_no_copies(moved: Path, trained: TrainedModel, is_noted: bool) -> None:
    """Neither those that the training had, of which one is gone and one damaged since, nor those to judge."""
    if not is_noted:
        (moved / "pictures.csv").unlink()
        (moved / "environment.json").unlink()  # with which it would be another training
    photos = photos_of(moved)
    before = Path(shutil.copytree(photos, photos.with_name("before")))
    (photos / "3.png").unlink()
    (photos / "4.png").write_text("no picture")
    (before / "junk.png").write_text("no picture")
    files = [before / "3.png", before / "gone.png", before / "junk.png", before / "5.png"]
    only = "2 of the 24 training pictures are not there, and were compared by content alone"
    expected = Leaks({0: str(files[0]), 3: "5.png"}, 22, only) if is_noted else Leaks({3: "5.png"}, 22)
    assert leaks(moved, files, trained) == expected


def test_without_the_training_pictures_the_same_files_are_found(
    reference: Path, trained: TrainedModel, tmp_path: Path
) -> None:
    photos = photos_of(reference)
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    (run / ".hydra" / "config.yaml").unlink()
    files = [photos / "30.png", photos / "3.png"]
    only = "24 of the 24 training pictures are not there, and were compared by content alone"
    assert leaks(run, files, trained) == Leaks({1: str(files[1])}, 0, only, num_validated=1)
    (run / "pictures.csv").unlink()
    assert leaks(run, files, trained) == Leaks(None, 0, "the training pictures are not there")


def test_pictures_that_the_backbone_was_trained_with_count_too(moved: Path, trained: TrainedModel) -> None:
    photos = photos_of(moved)
    Image.new("RGB", (16, 16), "red").save(photos / "new.png")
    with (moved / "pictures.csv").open("a") as stream:
        stream.write(f"backbone,{file_digest(photos / 'new.png').hex()}\nbackbone,{'0' * 32}\n")
    assert leaks(moved, [photos / "new.png"], trained) == Leaks({0: str(photos / "new.png")}, 24)
    with (photos / "metadata.csv").open("a") as stream:
        stream.write("new.png,none,valid\n")
    assert leaks(moved, [photos / "new.png"], trained) == Leaks({0: "new.png"}, 25)


def test_a_backbone_must_not_have_seen_the_validation_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pictures.csv").write_text("split,digest\ntrain,a\nvalid,b\nbackbone,c\n")
    weights = str(tmp_path / "best_model.pt")
    assert require_unseen(["b", "d"], weights, on_leak="error") == {"a", "c"}
    assert require_unseen(["a"], str(tmp_path / "elsewhere" / "x.pt"), on_leak="error") == frozenset()
    for source in (weights, str(tmp_path)):
        with pytest.raises(InputError) as caught:
            require_unseen(["a", "b", "c"], source, on_leak="error")
        assert str(caught.value) == (
            f"error: validation pictures in training in model.backbone.weights={source}: the backbone was trained with "
            "2 of the 3 validation pictures\nhint: take the run of the same split or fold, or data.on_leak=keep: the "
            "accuracy is then too good to be true"
        )
    assert caplog.messages == []
    for on_leak in ("skip", "keep"):
        caplog.clear()
        assert require_unseen(["a"], weights, on_leak=on_leak) == {"a", "c"}
        assert caplog.messages == [
            "the backbone was trained with 1 of the 1 validation picture: the accuracy is too good to be true"
        ]
