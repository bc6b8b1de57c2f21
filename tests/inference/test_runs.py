"""What a run folder says of its training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hybridnet.checkpoint import load_checkpoint
from hybridnet.data.store import user_cache
from hybridnet.errors import InputError
from hybridnet.files import read_json, write_json
from hybridnet.inference.runs import RunSettings, folders_of, name_of


def test_settings_and_figures(reference: Path) -> None:
    settings = RunSettings(reference)
    assert settings.get("data.batch_size") == 6
    assert settings.get("data.num_epochs") == 3  # refers to trainer.epochs
    assert settings.get("data.nothing") is None
    assert settings.metrics() == read_json(reference / "metrics.json")
    assert RunSettings(reference / "best_model.pt").get("data.batch_size") == 6


def test_a_model_alone_knows_nothing(reference: Path, tmp_path: Path) -> None:
    shutil.copy(reference / "best_model.pt", tmp_path)
    settings = RunSettings(tmp_path / "best_model.pt")
    assert settings.get("data.batch_size") is None
    assert settings.file("data.metadata") is None
    assert settings.metrics() == {}


def test_damaged_files_are_as_good_as_none(reference: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference, tmp_path / "run"))
    (folder / ".hydra" / "config.yaml").write_text("a: [")
    (folder / "metrics.json").write_text("{")
    assert RunSettings(folder).get("data.batch_size") is None
    assert RunSettings(folder).metrics() == {}


def test_a_file_is_relative_to_where_the_training_was(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(reference, tmp_path / "run"))
    config = folder / ".hydra" / "config.yaml"
    named = RunSettings(folder).get("data.metadata")
    config.write_text(config.read_text().replace(named, "photos/metadata.csv"))
    write_json(folder / "environment.json", {"working_directory": str(tmp_path / "there")})
    assert RunSettings(folder).file("data.metadata") is None
    for place in ("there", "here"):
        (tmp_path / place / "photos").mkdir(parents=True)
        (tmp_path / place / "photos" / "metadata.csv").touch()
    monkeypatch.chdir(tmp_path / "here")
    first = tmp_path / "there" / "photos" / "metadata.csv"
    assert RunSettings(folder).file("data.metadata") == first, "here another project may have one of that name"
    first.unlink()
    assert RunSettings(folder).file("data.metadata") == Path("photos/metadata.csv")


def test_of_several_tables_the_run_s_own(reference: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference, tmp_path / "run"))
    photos = shutil.copytree(RunSettings(reference).file("data.metadata").parent, tmp_path / "photos")
    settings = folder / ".hydra" / "config.yaml"
    before = str(RunSettings(reference).file("data.metadata").parent)
    settings.write_text(settings.read_text().replace(before, "photos"))
    environment = read_json(folder / "environment.json") | {"working_directory": str(tmp_path)}
    assert environment["edition"] == "", "the table that it names"
    first, own = photos / "metadata.csv", photos / "photos_2" / "metadata.csv"
    write_json(folder / "environment.json", environment)
    assert RunSettings(folder).file("data.metadata") == first
    write_json(folder / "environment.json", environment | {"edition": "photos_2/metadata.csv"})
    assert RunSettings(folder).file("data.metadata") == first, "it was there"
    own.parent.mkdir()
    own.touch()
    assert RunSettings(folder).file("data.metadata") == own
    assert RunSettings(folder).file("data.label2id") == photos / "label2id.json"
    (folder / "environment.json").unlink()
    assert RunSettings(folder).edition is None


def test_what_the_training_has_used(reference: Path, tmp_path: Path) -> None:
    expected = load_checkpoint(reference / "last.pt")["data"]
    assert {split: RunSettings(reference).fingerprint(split) for split in ("train", "valid")} == expected
    assert RunSettings(reference).fingerprint("test") is None
    assert RunSettings(tmp_path).fingerprint("train") is None


def test_the_cache_is_the_training_s(reference: Path, tmp_path: Path) -> None:
    assert RunSettings(reference).cache_dir() == user_cache()
    folder = Path(shutil.copytree(reference, tmp_path / "run"))
    config = folder / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("cache_dir: null", "cache_dir: ~/kept"))
    assert RunSettings(folder).cache_dir() == Path.home() / "kept"


def test_runs_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert folders_of(str(tmp_path / "a")) == [tmp_path / "a"]
    assert folders_of([str(tmp_path / "a"), str(tmp_path / "b")]) == [tmp_path / "a", tmp_path / "b"]
    for nothing in (None, "", [], ["", "a"]):
        with pytest.raises(InputError, match="missing value in run: no run is named"):
            folders_of(nothing)
    with pytest.raises(InputError, match="missing run in run=nowhere: no such folder"):
        folders_of("nowhere")


def test_a_run_has_the_name_of_its_folder(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_of(reference) == name_of(reference / "best_model.pt") == "run"
    monkeypatch.chdir(reference)
    assert name_of(Path()) == name_of(Path("best_model.pt")) == "run"
