"""The pictures that a model is judged on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hybridnet.data.table import VALID_SEED, choose
from hybridnet.errors import InputError
from hybridnet.inference.labelled import is_of_training, read_labelled
from hybridnet.inference.runs import RunSettings

CLASSES = ["horizontal", "none", "vertical"]


def lines_of(settings: RunSettings, *, split: str = "valid", metadata: Path | None = None) -> list[int]:
    name = None if metadata is None else str(metadata)
    return read_labelled(settings, CLASSES, split=split, metadata=name, fold=None)[1].lines


def changed(reference: Path, tmp_path: Path, *pairs: tuple[str, str]) -> RunSettings:
    """Of a copy of the run with other lines in its configuration."""
    folder = Path(shutil.copytree(reference, tmp_path / "run"))
    config = folder / ".hydra" / "config.yaml"
    text = config.read_text()
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after)
    config.write_text(text)
    return RunSettings(folder)


def test_the_run_s_own_table_is_the_default(reference: Path) -> None:
    settings = RunSettings(reference)
    path, split = read_labelled(settings, CLASSES, split="valid", metadata=None, fold=None)
    assert str(path) == settings.get("data.metadata")
    assert split.lines == list(range(26, 35))
    assert [CLASSES[label] for label in split.labels] == CLASSES * 3
    assert lines_of(settings, split="train") == list(range(2, 26))


def test_the_run_s_limit_chooses_the_same_pictures(reference: Path, tmp_path: Path) -> None:
    settings = changed(reference, tmp_path, ("valid_limit: null", "valid_limit: 6"))
    chosen = lines_of(settings)
    assert len(chosen) == 6
    assert len(lines_of(settings, split="train")) == 24
    assert len(lines_of(settings, metadata=Path(settings.get("data.metadata")))) == 9  # a table that is named is whole


def test_the_seed_chooses_among_the_training_pictures_only(reference: Path, tmp_path: Path) -> None:
    limits = [("train_limit: null", "train_limit: 12"), ("valid_limit: null", "valid_limit: 6")]
    runs = [changed(reference, tmp_path / text, *limits, ("\nseed: 42\n", f"\nseed: {text}\n")) for text in "12"]
    _, whole = read_labelled(RunSettings(reference), CLASSES, split="valid", metadata=None, fold=None)
    assert [lines_of(run) for run in runs] == [choose(whole, 6, seed=VALID_SEED).lines] * 2
    first, second = (lines_of(run, split="train") for run in runs)
    assert len(first) == len(second) == 12 and first != second


def test_a_picture_that_is_gone_is_not_of_the_training(reference: Path, tmp_path: Path) -> None:
    source = Path(RunSettings(reference).get("data.metadata"))
    table = Path(shutil.copytree(source.parent, tmp_path / "photos")) / source.name
    settings = changed(reference, tmp_path, (str(source), str(table)))

    def is_known(split: str) -> bool | None:
        _, rows = read_labelled(settings, CLASSES, split=split, metadata=None, fold=None)
        return is_of_training(settings, rows, split, CLASSES, table=table)

    assert is_known("valid") is True
    (table.parent / "24.png").unlink()
    assert is_known("valid") is False and is_known("train") is True
    (settings.folder / "environment.json").unlink()
    assert is_known("train") is None


def test_the_class_index_is_the_model_s(reference: Path, stripes: Path) -> None:
    _, split = read_labelled(RunSettings(reference), CLASSES[::-1], split="valid", metadata=None, fold=None)
    assert split.labels.tolist() == [2, 1, 0] * 3


def test_another_table_needs_the_one_split_only(reference: Path, stripes: Path) -> None:
    (stripes / "other.csv").write_text("path,label,split,group\n1.png,none,test,a\n2.png,none,test,\n")
    settings = RunSettings(reference)
    _, split = read_labelled(settings, CLASSES, split="test", metadata=str(stripes / "other.csv"), fold=None)
    assert split.lines == [2, 3]
    assert split.groups == ["a", ""]
    with pytest.raises(InputError, match=r"no row has split 'valid'\nhint: .*split=test"):
        lines_of(settings, metadata=stripes / "other.csv")


def test_a_file_that_is_listed_twice_is_told(reference: Path, stripes: Path, caplog: pytest.LogCaptureFixture) -> None:
    (stripes / "twice.csv").write_text("path,label,split\n1.png,none,test\n2.png,none,test\n2.png,none,test\n")
    settings = RunSettings(reference)
    _, split = read_labelled(settings, CLASSES, split="test", metadata=str(stripes / "twice.csv"), fold=None)
    assert len(split) == 3
    assert caplog.messages == ["1 test row with the file of an earlier row, which counts as often: line 4 = line 3"]


def test_folds_are_the_run_s(reference: Path, stripes: Path, tmp_path: Path) -> None:
    rows = [f"{number}.png,{CLASSES[number % 3]},train,{number % 2}" for number in range(12)]
    (stripes / "folds.csv").write_text("\n".join(["path,label,split,fold", *rows]) + "\n")
    named = RunSettings(reference).get("data.metadata")
    settings = changed(reference, tmp_path, (named, str(stripes / "folds.csv")), ("fold: null", "fold: 1"))
    assert lines_of(settings) == [3, 5, 7, 9, 11, 13]


def test_a_table_that_is_gone_is_told(reference: Path, tmp_path: Path) -> None:
    named = RunSettings(reference).get("data.metadata")
    settings = changed(reference, tmp_path, (named, "gone/metadata.csv"))
    with pytest.raises(InputError) as caught:
        lines_of(settings)
    assert str(caught.value) == (
        f"error: missing file in {settings.folder}: the table that it was trained with (gone/metadata.csv) is not "
        "there\nhint: name one with data.metadata=<metadata.csv>"
    )
    with pytest.raises(InputError, match="it does not say its table"):
        lines_of(RunSettings(tmp_path))
    with pytest.raises(InputError, match="missing file in data.metadata=nowhere.csv"):
        lines_of(settings, metadata=Path("nowhere.csv"))
    with pytest.raises(InputError, match="unknown label"):
        read_labelled(RunSettings(reference), ["a", "b"], split="valid", metadata=None, fold=None)
