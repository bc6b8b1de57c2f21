from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from hybridnet import config
from hybridnet.errors import InputError
from hybridnet.files import write_json, write_text
from hybridnet.sweep import preset
from hybridnet.sweep.outcome import Outcome, read_outcome
from hybridnet.sweep.statistics import Spread
from hybridnet.sweep.study import read_study
from tests.sweep.folders import SweepFolder


def _outcome(folder: Path, *overrides: str, saved: str | None = None) -> Outcome:
    sweep = SweepFolder(folder / "sweep")
    sweep.add(0.9, *overrides, always=[], saved=saved)
    return read_outcome(sweep.jobs()[0], label="0", monitor="valid_acc")


def test_overrides_become_choices_and_nested_values(tmp_path: Path) -> None:
    typed = ["model.reduction=2", "seed=1", "model=ca", "model/backbone=resnet34", "data.image_size=[40,48]"]
    typed += ["+model.backbone.zero_init=true", "data.metadata='a, \"b\".csv'", "optimizer.head_lr=1e-5"]
    typed += ["monitor=valid_loss"]
    text = preset.body(_outcome(tmp_path, *typed, "hydra.sweep.dir=a", "resume=auto"), config_dirs=[])
    assert yaml.safe_load(text) == {
        "defaults": ["_self_", {"override /model": "ca"}, {"override /model/backbone": "resnet34"}],
        "model": {"reduction": 2, "backbone": {"zero_init": True}},
        "seed": 1,
        "data": {"image_size": [40, 48], "metadata": 'a, "b".csv'},
        "optimizer": {"head_lr": 1e-5},
        "monitor": "valid_loss",
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.heads=2", "trainer.epochs=1", "seed=3"],
        ["model=ca", "model.reduction=16", "optimizer=sgd", "+optimizer.x=1"],
        ["experiment=quick", "model=bot", "model.heads=2", "trainer.epochs=4"],
        ["experiment=optimal", "model.pretrained=false"],
        [
            "data=metadata",
            "data/augment=none",
            "data.augment.scale=[0.5,1]",
            "data.metadata='1e5'",
            "monitor=valid_loss",
        ],
        ["optimizer.base_lr=${optimizer.head_lr}", "data.label2id='it\\'s'", "++trainer.epochs=2"],
        ["+new={a: 1, b: [1, 2]}", "trainer={epochs: 3, patience: 1}"],
        [],
    ],
)
def test_an_experiment_composes_to_what_the_job_had(tmp_path: Path, overrides: list[str]) -> None:
    wanted = config.compose("train", overrides)
    text = preset.body(_outcome(tmp_path, *overrides, saved=OmegaConf.to_yaml(wanted)), config_dirs=[])
    (tmp_path / "experiment").mkdir()
    write_text(tmp_path / "experiment" / "mine.yaml", preset.PACKAGE + text)
    found = config.compose("train", ["experiment=mine"], config_dirs=[str(tmp_path)])
    assert config.as_written(found) == config.as_written(wanted)


def test_a_group_that_is_added_is_added(tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "a.yaml").write_text("x: 1\n")
    text = preset.body(_outcome(tmp_path, "+extra=a", "extra.x=2", "model=ca"), config_dirs=[str(tmp_path)])
    assert yaml.safe_load(text) == {
        "defaults": [{"/extra": "a"}, "_self_", {"override /model": "ca"}],
        "extra": {"x": 2},
    }


def test_defaults_that_have_changed_since_are_written_out(tmp_path: Path) -> None:
    overrides = ["model.heads=2", "resume=auto"]
    before = config.with_values(config.compose("train", overrides), {"trainer.patience": 77, "model.dropout": 0.7})
    files = OmegaConf.to_yaml(before)
    text = preset.body(_outcome(tmp_path, *overrides, saved=files), config_dirs=[])
    assert yaml.safe_load(text) == {"model": {"heads": 2, "dropout": 0.7}, "trainer": {"patience": 77}}


def test_a_value_of_none_is_written_out_too(tmp_path: Path) -> None:
    saved = OmegaConf.to_yaml(config.compose("train", [])) + "own: null\n"
    text = preset.body(_outcome(tmp_path, saved=saved), config_dirs=[])
    assert yaml.safe_load(text) == {"own": None}


def test_a_setting_that_there_is_no_longer_is_refused(tmp_path: Path) -> None:
    saved = OmegaConf.to_yaml(config.compose("train", [])).replace("  patience:", "  gone: 3\n  patience:")
    with pytest.raises(InputError, match=r"cannot be promoted in .*: no experiment can set trainer.gone as the"):
        preset.body(_outcome(tmp_path, saved=saved), config_dirs=[])


def test_a_part_that_is_no_longer_made_like_that_is_refused(tmp_path: Path) -> None:
    overrides = ["model.heads=2"]
    saved = OmegaConf.to_yaml(config.compose("train", overrides)).replace("rotation: 0.0", "rotation: {a: [{b: 1}]}")
    with pytest.raises(
        InputError, match=r"cannot be promoted in .*0_heads=2: no experiment can set data.augment.rotation"
    ):
        preset.body(_outcome(tmp_path, *overrides, saved=saved), config_dirs=[])


def test_keys_can_be_left_out(tmp_path: Path) -> None:
    """Also what the job's own configuration has of them."""
    typed = ["data=metadata", "++data.fold=2", "data.metadata=a.csv", "seed=1"]
    saved = OmegaConf.to_yaml(config.compose("train", typed))
    text = preset.body(_outcome(tmp_path, *typed, saved=saved), config_dirs=[], without=["data.fold", "seed"])
    wanted = {"defaults": ["_self_", {"override /data": "metadata"}], "data": {"metadata": "a.csv"}}
    assert yaml.safe_load(text) == wanted


def test_what_is_removed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="error: no value in ~data.mean: it removes a key"):
        preset.body(_outcome(tmp_path, "~data.mean"), config_dirs=[])


def test_a_header_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = SweepFolder(Path("sweep"))
    for heads, value in ((2, 0.9), (4, 0.8)):
        for seed in (0, 1):
            job = sweep.add(value + seed / 100, f"model.heads={heads}", f"seed={seed}", train_seconds=90.0)
            write_json(job.folder / "status.json", {"status": "complete", "ended": "2026-11-25T13:15:42+00:00"})
    study = read_study([sweep.folder])
    text = preset.header(study, "python train.py experiment=rice", Spread(0.85, 0.01, 5), [2, 3, 4, 5, 6])
    assert text.splitlines()[:8] == [
        "# The best settings of a sweep.",
        "# Command:  python train.py experiment=rice",
        "# Sweep:    sweep",
        "#           job 1, 2026-11-25",
        "# Settings: heads=2",
        "# Hardware: a test's machine, bf16; commit abc1234",
        "# Time:     1.5 min of training",
        "# Result:   valid_acc 0.9050 ± 0.0071 (n = 2), the best of 2 settings (4 jobs: 4 complete)",
    ]
    assert "#           this job: 0.9100\n" in text
    assert "not within the seeds' noise" in " ".join(text.replace("#", "").split())
    fresh = "# Fresh:    valid_acc 0.8500 ± 0.0100 (n = 5) on seeds that the sweep has not seen: 2, 3, 4, 5, 6\n"
    assert text.endswith(fresh)
    assert all(line.startswith("#") and len(line) <= 110 for line in text.splitlines())


@pytest.mark.parametrize("status", ["{", "[]", "{}"])
def test_a_record_that_does_not_say_when_it_ended_is_no_matter(status: str, tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    write_text(sweep.add(0.9).folder / "status.json", status)
    header = preset.header(read_study([sweep.folder]), "python train.py", None, [])
    assert "#           job 0\n# Settings: those of all jobs\n" in header


def test_a_header_has_the_reports_notes_without_their_commands(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads in (2, 4, 8):
        sweep.add(heads / 10, f"model.heads={heads}")
    header = preset.header(read_study([sweep.folder]), "python train.py", None, [])
    assert "somewhat worse on fresh seeds\n" in header and "python -m" not in header


def test_comments_make_no_difference() -> None:
    assert preset.is_same("# a\nb: 1\n", "# c\n# d\nb: 1\n") and not preset.is_same("b: 1\n", "b: 2\n")
