"""`data=folder`: a folder of class folders without any table."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridnet import config
from hybridnet.data.metadata import MetadataImages
from hybridnet.errors import InputError


def pixels(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 30, 3)).astype(np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number in range(20):
        file = root / ("leaf" if number % 2 else "root") / f"deeper{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels(number).save(file)
    (root / "notes.txt").write_text("no picture")
    return root


def folder(photos: Path, *overrides: str, edition: str | None = None) -> MetadataImages:
    made = photos.parent / "made"
    pair = [f"data.metadata={made / 'metadata.csv'}", f"data.label2id={made / 'label2id.json'}", f"data.root={photos}"]
    data = config.build(config.compose("train", ["data=folder", "data.image_size=16", *pair, *overrides]).data)
    data.setup(edition=edition)
    return data


def test_pictures_are_divided(photos: Path) -> None:
    data = folder(photos)
    assert data.classes == ["leaf", "root"]
    assert (np.bincount(data.train.labels).tolist(), np.bincount(data.valid.labels).tolist()) == ([8, 8], [2, 2])
    assert all(file.is_relative_to(photos) for file in data.train.files)
    assert (photos.parent / "made" / "report.txt").read_text().startswith("20 pictures of 2 classes")


def test_copies_stay_together(photos: Path) -> None:
    for number in range(20):
        turned = pixels(number).transpose(Image.Transpose.ROTATE_180)
        turned.save(photos / ("leaf" if number % 2 else "root") / f"{number}_turned.png")
    data = folder(photos)
    assert (len(data.train), len(data.valid)) == (32, 8)
    trained = {file.stem.partition("_")[0] for file in data.train.files}
    assert not trained & {file.stem.partition("_")[0] for file in data.valid.files}


@pytest.mark.parametrize(("copies", "told"), [("similar", "20 groups of copies"), ("same", "no picture is a copy")])
def test_the_user_says_what_counts_as_a_copy(photos: Path, copies: str, told: str) -> None:
    for file in photos.rglob("*.png"):
        Image.open(file).transpose(Image.Transpose.ROTATE_180).save(file.with_suffix(".bmp"))
    folder(photos, f"data.copies={copies}", "data.on_leak=keep")
    assert told in (photos.parent / "made" / "report.txt").read_text()


def test_division_does_not_depend_on_the_seed_of_the_run(photos: Path) -> None:
    first = folder(photos, "seed=1").valid.paths
    (photos.parent / "made").rename(photos.parent / "other")
    assert folder(photos, "seed=2").valid.paths == first
    (photos.parent / "made").rename(photos.parent / "another")
    assert folder(photos, "data.split_seed=3").valid.paths != first


def test_new_picture_is_noticed(photos: Path) -> None:
    assert len(folder(photos).train) == 16
    for number in range(20, 30):
        pixels(number).save(photos / "leaf" / f"{number}.png")
    assert len(folder(photos).train) == 24


@pytest.mark.parametrize("what", ["time", "size", "name"])
def test_picture_that_has_changed_is_noticed(what: str, photos: Path) -> None:
    file, record = photos / "leaf" / "deeper1" / "1.png", photos.parent / "made" / "source.json"
    folder(photos)
    before, status = json.loads(record.read_text()), file.stat()
    if what == "size":
        file.write_bytes(file.read_bytes() + b"more")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + (what == "time")))
    if what == "name":
        file.rename(file.with_suffix(".bmp"))
    made = folder(photos).metadata.parent
    assert (made == record.parent) == (what != "name"), "of the same paths the table is the same"
    after = json.loads((made / "source.json").read_text())
    assert after.pop("files") != before.pop("files") and after == before


def test_other_settings_or_another_root_are_divided_anew(photos: Path) -> None:
    first = folder(photos).valid.paths
    assert folder(photos, "data.split_seed=3").valid.paths != first
    copy = shutil.copytree(photos, photos.parent / "copy")
    assert all(file.is_relative_to(copy) for file in folder(copy, "data.split_seed=3").valid.files)


def splits(data: MetadataImages) -> dict[str, str]:
    return {path: name for name, split in (("train", data.train), ("valid", data.valid)) for path in split.paths}


def test_other_options_or_another_root_get_a_table_of_their_own(photos: Path) -> None:
    made, copy = photos.parent / "made", shutil.copytree(photos, photos.parent / "copy")
    first = (folder(photos), (made / "metadata.csv").read_bytes())
    assert folder(photos, "data.valid=0.3").metadata == made / "photos_2" / "metadata.csv"
    assert folder(copy).metadata == made / "copy_3" / "metadata.csv"
    assert folder(photos).metadata == first[0].metadata == made / "metadata.csv"
    assert (made / "metadata.csv").read_bytes() == first[1]
    assert folder(photos, "data.valid=0.3").metadata == made / "photos_2" / "metadata.csv"


def test_earlier_pictures_stay_in_their_splits(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first = folder(photos)
    for number in range(20, 32):
        pixels(number).save(photos / "leaf" / f"{number}.png")
    (gone := Path(first.train.paths[0])).unlink()
    second = folder(photos)
    before, now = splits(first), splits(second)
    assert now.items() >= {path: split for path, split in before.items() if path != str(gone)}.items()
    assert len(now) == 31 and len(second.valid) > len(first.valid)
    table = photos.parent / "made" / "photos_2" / "metadata.csv"
    assert second.metadata == table and first.metadata.is_file()
    assert f"12 new pictures, 1 gone; the 19 others stay in their splits: {table}" in caplog.messages
    assert "extends" in table.with_name("report.txt").read_text()
    assert folder(photos).metadata == table and caplog.text.count("making another table") == 1, "it is made once"


def test_what_is_no_picture_makes_no_further_table(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folder(photos)
    (photos / "leaf" / "notes.txt").write_text("more")
    assert folder(photos).metadata == photos.parent / "made" / "metadata.csv"
    assert (
        "1 file left out" in "".join(caplog.messages)
        and "leaf/notes.txt" in (photos.parent / "made" / "report.txt").read_text()
    )
    assert not list((photos.parent / "made").glob("photos_*"))


def test_other_pictures_altogether_are_divided_anew(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder(photos)
    for file in photos.rglob("*.png"):
        file.rename(file.with_stem(f"{file.stem}b"))
    assert len(folder(photos).train) == 16
    assert "cannot be extended, so all pictures are divided anew (none of its 20 pictures is among" in caplog.text


def test_a_run_that_is_continued_keeps_its_table(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = folder(photos)
    pixels(20).save(photos / "leaf" / "20.png")
    later = folder(photos)
    assert (first.fingerprint() != later.fingerprint()) and later.metadata != first.metadata
    assert (first.edition, later.edition) == ("", "photos_2/metadata.csv")
    caplog.set_level("INFO")
    data = folder(photos, edition=first.edition)
    assert data.metadata == first.metadata and data.fingerprint() == first.fingerprint()
    line = f"the run goes on with the table that it began with: {first.metadata}"
    assert caplog.messages.count(line) == 1
    assert folder(photos, edition=later.edition).metadata == later.metadata
    assert folder(photos, edition="another/metadata.csv").metadata == later.metadata
    assert caplog.messages.count(line) == 1


def test_report_has_every_file_that_is_left_out(photos: Path) -> None:
    for number in range(25):
        (photos / "leaf" / f"bad{number}.png").touch()
    folder(photos)
    assert (photos.parent / "made" / "report.txt").read_text().count("  leaf/bad") == 25


def test_folds_of_a_sweep(photos: Path) -> None:
    parts = [folder(photos, "data.folds=4", f"data.fold={fold}").valid.paths for fold in range(4)]
    assert sorted(path for part in parts for path in part) == sorted(map(str, photos.rglob("*.png")))


@pytest.fixture
def download(tmp_path: Path) -> Path:
    for number in range(30, 34):
        for split in ("train", "val"):
            file = tmp_path / "download" / split / ("leaf" if number % 2 else "root") / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels(number + 10 * len(split)).save(file)
    return tmp_path / "download"


def test_folders_of_splits_are_kept(download: Path) -> None:
    data = folder(download)
    assert data.classes == ["leaf", "root"]
    names = [[file.parts[-3] for file in split.files] for split in (data.train, data.valid)]
    assert names == [["train"] * 4, ["val"] * 4]


def test_a_table_in_which_splits_were_classes_is_made_anew(download: Path) -> None:
    folder(download)
    record = download.parent / "made" / "source.json"
    content = hashlib.blake2b(digest_size=16)
    for file in sorted(download.rglob("*.png")):
        status = file.stat()
        name = file.relative_to(download).as_posix()
        content.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    state = json.loads(record.read_text())
    assert state["files"] != content.hexdigest()
    record.write_text(json.dumps(state | {"files": content.hexdigest()}))
    folder(download)
    assert json.loads(record.read_text()) == state


def test_what_is_left_out_or_contradictory_is_told(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "root" / "again.png").write_bytes((photos / "leaf" / "deeper1" / "1.png").read_bytes())
    (photos / "leaf" / "nowhere.png").symlink_to("gone.png")
    (photos / "mold").mkdir()
    (photos / "mold" / "1.heic").write_bytes(b"no picture")
    data = folder(photos)
    report = photos.parent / "made" / "report.txt"
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told[:2] == [
        f"3 files left out; see {report}",
        f"class 'mold' has no usable picture (1 file left out); see {report}",
    ]
    assert told[2].startswith("1 group of copies with different labels, and nobody knows which is right (")
    assert told[2].endswith(f"on_duplicates=drop leaves them out); see {report}")
    assert told[3].startswith("1 picture has copies with another label") and len(told) == 4  # of every training
    assert data.classes == ["leaf", "root"] and "  leaf/nowhere.png: no such file\n" in report.read_text()


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing folder in data\.root=.*nowhere: no such folder"):
        folder(tmp_path / "nowhere")


def test_empty_split_is_refused_before_anything_is_read(photos: Path) -> None:
    with pytest.raises(InputError, match="folds=1"):
        folder(photos / "nowhere", "data.folds=1")
