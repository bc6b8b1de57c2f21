from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hybridnet.comparison.groups import Group, baseline_of, grouped
from hybridnet.comparison.trained import read_all
from hybridnet.errors import InputError
from tests.comparison.folders import write_run

LABELS = [0, 1, 2, 0]


def _grouped(runs: list[Path]) -> list[Group]:
    return grouped(read_all(runs, None))[0]


def _run(folder: Path, model: str = "plain", seed: int = 0, **typed: object) -> Path:
    number = len(list(folder.iterdir()))
    settings = {key.replace("__", "."): value for key, value in typed.items()}
    told = [0, 1, 2, seed % 3]
    return write_run(folder / f"run{number}", LABELS, told, model=model, seed=seed, typed=settings)


def test_seeds_are_one_group(tmp_path: Path) -> None:
    runs = [_run(tmp_path, model, seed) for seed in (10, 0, 2) for model in ("hybrid", "plain")]
    groups = _grouped(runs)
    assert [group.name for group in groups] == ["hybrid", "plain"]
    assert [run.seed for run in groups[0].runs] == ["0", "2", "10"] and groups[0].num_runs == 3
    assert baseline_of(groups, None) == 1


def test_runs_are_in_the_order_of_their_folds_and_seeds_whatever_the_pictures(tmp_path: Path) -> None:
    """On a test split all folds have the same pictures."""
    places = [(10, 0), (2, 1), (2, 0), (0, 10), (0, 9)]
    runs = [write_run(tmp_path / f"{fold}-{seed}", LABELS, LABELS, fold=fold, seed=seed) for fold, seed in places]
    runs.append(write_run(tmp_path / "other", LABELS, LABELS, model="hybrid"))
    for run in runs:
        (run / "evaluation" / "test").mkdir(parents=True)
        (run / "predictions.csv").rename(run / "evaluation" / "test" / "predictions.csv")
    (group, _), _ = grouped(read_all(runs, "test"))
    assert [run.folder.name for run in group.runs] == ["0-9", "0-10", "2-0", "2-1", "10-0"]


def test_names_tell_what_differs(tmp_path: Path) -> None:
    runs = [
        _run(tmp_path, "plain"),
        _run(tmp_path, "hybrid", model__size="full", model__heads=8),
        _run(tmp_path, "hybrid", model__size="lite", model__heads=8),
        _run(tmp_path, "hybrid", model__size="lite", model__heads=8, trainer__epochs=9),
    ]
    names = [group.name for group in _grouped(runs)]
    assert names == [
        *("plain, epochs=3", "hybrid, size=full, epochs=3"),
        *("hybrid, size=lite, epochs=3", "hybrid, size=lite, epochs=9"),
    ]
    assert [group.name for group in _grouped(runs[:2])] == ["plain", "hybrid"], "heads has no other value"
    assert [group.name for group in _grouped(runs[1:3])] == ["size=full", "size=lite"]


def test_an_ablation_names_what_is_changed(tmp_path: Path) -> None:
    usual = {"model__heads": 4, "model__size": "full", "model__dropout": 0.1, "trainer__epochs": 3}
    changes = [{"model__heads": 8}, {}, {"model__size": "lite"}, {"model__dropout": 0, "trainer__epochs": 9}]
    groups = _grouped([_run(tmp_path, "hybrid", **usual | change) for change in changes])
    assert [group.name for group in groups] == ["heads=8", "hybrid", "size=lite", "dropout=0, epochs=9"]
    assert baseline_of(groups, None) == 1, "the others change it"
    models = [{}, {"model": "plain"}, {"trainer__epochs": 9}, {"trainer__patience": 9}]
    usual = {"model": "hybrid", "trainer__epochs": 3, "trainer__patience": 0}
    groups = _grouped([_run(tmp_path, **usual | change) for change in models])
    assert [group.name for group in groups] == ["hybrid", "plain", "epochs=9", "patience=9"]
    assert baseline_of(groups, None) == 1


def test_a_grid_is_no_ablation(tmp_path: Path) -> None:
    pairs = [{"model__heads": heads, "model__size": size} for heads in (2, 4) for size in ("lite", "full")]
    names = [group.name for group in _grouped([_run(tmp_path, "hybrid", **pair) for pair in pairs])]
    assert names == ["heads=2, size=lite", "heads=2, size=full", "heads=4, size=lite", "heads=4, size=full"]


def test_the_order_of_the_blocks_tells_apart(tmp_path: Path) -> None:
    runs = [_run(tmp_path, "hybrid"), _run(tmp_path, "hybrid")]
    for run, names in zip(runs, (("ca", "bot"), ("bot", "ca")), strict=True):
        file = run / ".hydra" / "config.yaml"
        cfg = OmegaConf.load(file)
        cfg.model.blocks = {name: {"_target_": f"hybridnet.model.{name}.Block"} for name in names}
        OmegaConf.save(cfg, file)
    assert [group.name for group in _grouped(runs)] == ["blocks=[ca,bot]", "blocks=[bot,ca]"]


def test_what_nobody_typed_tells_apart_if_nothing_else_does(tmp_path: Path) -> None:
    """Such as a default that has changed between two versions."""
    runs = [_run(tmp_path), _run(tmp_path, trainer__epochs=9)]
    (runs[1] / ".hydra" / "overrides.yaml").write_text("- seed=0\n")
    assert [group.name for group in _grouped(runs)] == ["epochs=3", "epochs=9"]


def test_models_whose_code_alone_differs_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    """A class has no short name; the model keeps its own."""
    runs = [_run(tmp_path), *(_run(tmp_path, "hybrid", model__optional___target_=code) for code in ("a.B", "c.D"))]
    for run in runs[1:]:
        (run / ".hydra" / "overrides.yaml").write_text("- model=hybrid\n")
    assert [group.name for group in _grouped(runs)] == ["plain", "hybrid, run1", "hybrid, run2"]


def test_runs_of_a_version_without_a_setting_are_named_by_their_sweep(tmp_path: Path) -> None:
    """They lack what the others have; one run alone has its own name."""
    before, after = tmp_path / "before", tmp_path / "after"
    for sweep in (before, after):
        sweep.mkdir()
    old = [_run(before, seed=seed) for seed in (0, 1)]
    new = [_run(after, seed=seed, trainer__erase=0.5) for seed in (0, 1)]
    for run in new:
        (run / ".hydra" / "overrides.yaml").write_text("- seed=0\n")
    assert [group.name for group in _grouped([*old, *new])] == ["before", "erase=0.5"]
    assert [group.name for group in _grouped([old[0], *new])] == ["run0", "erase=0.5"]


def test_runs_of_a_version_that_did_not_erase_are_those_that_do_not(tmp_path: Path) -> None:
    old = [_run(tmp_path, seed=seed) for seed in (0, 1)]
    new = [_run(tmp_path, seed=2, data__augment={"erase": 0.0, "erase_area": [0.02, 0.33]})]
    others = [_run(tmp_path, data__augment={"erase": erase, "erase_area": [0.02, 0.33]}) for erase in (0.25, 0.5)]
    for run, erase in zip(others, (0.25, 0.5), strict=True):
        (run / ".hydra" / "overrides.yaml").write_text(f"- data.augment.erase={erase}\n")
    groups = _grouped([*old, *new, *others])
    assert [(group.name, group.num_runs) for group in groups] == [("erase=0", 3), ("erase=0.25", 1), ("erase=0.5", 1)]
    for run in others:
        (run / ".hydra" / "overrides.yaml").write_text("- seed=0\n")
    assert [group.name for group in _grouped([*old, *others])] == ["erase=0", "erase=0.25", "erase=0.5"]


def test_runs_of_one_group_are_compared_one_by_one(tmp_path: Path) -> None:
    runs = [_run(tmp_path, seed=seed) for seed in (0, 1)]
    assert [group.name for group in _grouped(runs)] == ["seed=0", "seed=1"]
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(runs[0], copy)
    assert [group.name for group in _grouped([runs[0], copy])] == ["run0", "copy"]
    assert [group.name for group in _grouped([runs[0], runs[0]])] == ["run0", "run0 (2)"]
    same = tmp_path / "elsewhere" / "run0"
    shutil.copytree(runs[0], same)
    assert [group.name for group in _grouped([runs[0], same])] == [str(runs[0]), str(same)]


def test_folds_of_one_group_stay_one_group(tmp_path: Path) -> None:
    """They have no pictures in common: there is nothing to compare them by."""
    places = [(0, 1), (0, 0), (1, 0)]
    runs = [write_run(tmp_path / f"{fold}-{seed}", LABELS, LABELS, fold=fold, seed=seed) for fold, seed in places]
    (group,) = _grouped(runs)
    assert group.name == "plain" and [run.folder.name for run in group.runs] == ["0-0", "0-1", "1-0"]
    assert [group.name for group in _grouped(runs[:2])] == ["seed=1", "seed=0"]
    with pytest.raises(InputError, match="there is only one run"):
        _grouped(runs[2:])


def test_a_copy_within_a_group_counts_once(tmp_path: Path) -> None:
    runs = [_run(tmp_path), _run(tmp_path), _run(tmp_path, "hybrid")]
    groups, notes = grouped(read_all(runs, None))
    assert [group.num_runs for group in groups] == [1, 1]
    assert notes == [f"{runs[1]} is a copy of {runs[0]} and counts once."]


def test_runs_without_settings_have_their_folders_names(tmp_path: Path) -> None:
    runs = [_run(tmp_path), _run(tmp_path)]
    for run in runs:
        shutil.rmtree(run / ".hydra")
    assert [group.name for group in _grouped(runs)] == ["run0", "run1"]


def test_the_baseline(tmp_path: Path) -> None:
    runs = [_run(tmp_path, "hybrid"), _run(tmp_path, "ca"), _run(tmp_path, "plain", trainer__epochs=9)]
    groups = _grouped(runs)
    assert baseline_of(groups, None) == 2 and baseline_of(groups[:2], None) == 0
    assert baseline_of(groups, "ca, epochs=3") == 1 == baseline_of(groups, str(runs[1]))
    with pytest.raises(
        InputError, match=r"baseline=ca, epoch=3: .*\nhint: did you mean baseline=ca, epochs=3\? choose"
    ):
        baseline_of(groups, "ca, epoch=3")


def test_one_run_has_nobody_to_be_compared_with(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is only one run"):
        _grouped([_run(tmp_path)])
