from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybridnet.errors import InputError
from hybridnet.files import write_text
from hybridnet.inference.pictures import named_pictures, random_pictures, validation_pictures
from hybridnet.inference.runs import RunSettings

CLASSES = ["horizontal", "none", "vertical"]


def settings_of(folder: Path, table: Path) -> RunSettings:
    (folder / ".hydra").mkdir(parents=True)
    write_text(folder / ".hydra" / "config.yaml", f"data: {{metadata: {table}, fold: null}}\n")
    return RunSettings(folder)


def test_those_of_the_run_have_labels_in_the_order_of_the_logits(stripes: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "run", stripes / "metadata.csv")
    found = validation_pictures(settings, CLASSES[::-1], limit=None)
    assert found.items == [stripes / f"{number}.png" for number in range(24, 33)]
    assert found.labels.tolist() == [2, 1, 0] * 3
    assert found.calibration == [stripes / f"{number}.png" for number in range(24)]
    assert found.words == f"9 validation pictures of {stripes / 'metadata.csv'}"
    few = validation_pictures(settings, CLASSES, limit=3)
    assert sorted(few.labels.tolist()) == [0, 1, 2] and few.words.startswith("3 ")


def test_those_that_are_gone_are_left_out(stripes: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "run", stripes / "metadata.csv")
    (stripes / "25.png").unlink()
    found = validation_pictures(settings, CLASSES, limit=None)
    assert len(found.items) == len(found.labels) == 8 and stripes / "25.png" not in found.items
    for number in range(24):
        (stripes / f"{number}.png").unlink()
    found = validation_pictures(settings, CLASSES, limit=None)
    assert found.calibration == found.items and found.calibration_words == "of them"
    for number in range(24, 33):
        (stripes / f"{number}.png").unlink(missing_ok=True)
    with pytest.raises(InputError, match="none of its 9 validation pictures is where the table says"):
        validation_pictures(settings, CLASSES, limit=None)
    (stripes / "metadata.csv").unlink()
    with pytest.raises(InputError, match=r"missing file in .*: the table that it was trained with .* is not there"):
        validation_pictures(settings, CLASSES, limit=None)


def test_files_folders_and_globs(stripes: Path) -> None:
    (stripes / "deeper").mkdir()
    (stripes / "0.png").rename(stripes / "deeper" / "photo")
    (stripes / ".hidden.png").write_bytes((stripes / "1.png").read_bytes())
    found = named_pictures(str(stripes), limit=None)
    assert len(found.items) == 33 and stripes / "deeper" / "photo" in found.items and found.labels is None
    assert found.words == f"33 pictures of images={stripes} (2 files left out: no picture)"
    assert found.calibration == found.items
    assert named_pictures(str(stripes / "2?.png"), limit=None).items == [stripes / f"2{n}.png" for n in range(10)]
    assert named_pictures([str(stripes / "1.png"), str(stripes / "**" / "photo")], limit=None).items == [
        *(stripes / "1.png", stripes / "deeper" / "photo")
    ]
    few = named_pictures(str(stripes / "2?.png"), limit=3)
    assert [file.name for file in few.items] == ["20.png", "24.png", "29.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "missing pictures in images=.*: no such file or folder"),
        ("*.json", "no picture in images=.*: none of 1 files is a picture"),
    ],
)
def test_no_picture_is_said_so(name: str, message: str, stripes: Path) -> None:
    with pytest.raises(InputError, match=message):
        named_pictures(str(stripes / name), limit=None)


def test_random_pictures_are_the_same_every_time() -> None:
    one, two = random_pictures((24, 40), 3), random_pictures((24, 40), 3)
    assert len(one.items) == 3 and one.items[0].shape == (24, 40, 3) and one.items[0].dtype == np.uint8
    assert all(np.array_equal(a, b) for a, b in zip(one.items, two.items, strict=True))
    assert not np.array_equal(one.items[0], one.items[1]) and one.words == "3 random pictures"
