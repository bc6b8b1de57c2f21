from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.sweep.candidate import comparable
from hybridnet.sweep.study import read_study
from tests.sweep.folders import SweepFolder


def test_folds_and_seeds_are_one_candidate(tmp_path: Path) -> None:
    """Fold 2 has two seeds, of which the mean counts as much as fold 10."""
    sweep = SweepFolder(tmp_path / "sweep")
    for value, fold, seed in ((0.8, 10, 0), (0.7, 2, 0), (0.94, 2, 1)):
        sweep.add(value, "model=plain", f"data.fold={fold}", f"seed={seed}")
    for fold in (2, 10):
        sweep.add(0.3, "model=ca", f"data.fold={fold}", "seed=0")
    best, other = read_study([sweep.folder]).candidates
    assert (best.values, best.folds, other.folds) == (("plain",), ("2", "10"), ("2", "10"))
    assert best.result == pytest.approx((0.81, 0.120554, 3), rel=1e-5)
    assert [(run.value, run.fold) for run in best.judged] == [(0.94, "2"), (0.8, "10"), (0.7, "2")]


def test_a_setting_without_a_fold_of_the_others_is_not_ranked(tmp_path: Path) -> None:
    """Its job on the hard fold has failed: by the others it would be the best."""
    sweep = SweepFolder(tmp_path / "sweep")
    for model, better in (("plain", 0.0), ("ca", 0.01), ("bot", 0.02), ("eca", 0.0)):
        for fold, easy in enumerate((0.9, 0.8, 0.3)):
            has_failed = (model, fold) == ("plain", 2)
            value = None if has_failed else easy + better
            sweep.add(value, f"model={model}", f"data.fold={fold}", status="failed" if has_failed else "complete")
    study = read_study([sweep.folder])
    assert [candidate.values for candidate in study.ranked] == [("bot",), ("ca",), ("eca",)]
    (plain,) = (candidate for candidate in study.candidates if candidate.result is None)
    assert ([outcome.value for outcome in plain.left_out], plain.counted) == ([0.9, 0.8], ())
    assert len(study.counted) == 9


def test_trainings_of_two_folds_are_two(tmp_path: Path) -> None:
    """Those that differ in their pruner alone are one."""
    sweep = SweepFolder(tmp_path / "sweep")
    for fold in (0, 1):
        for pruner in ("median", "none"):
            sweep.add(0.8 + fold / 10, f"pruner={pruner}", f"data.fold={fold}")
    (candidate,) = read_study([sweep.folder]).candidates
    assert candidate.result == pytest.approx((0.85, 0.0707107, 2), rel=1e-5)


def test_a_table_that_has_changed_makes_other_settings_of_the_same(tmp_path: Path) -> None:
    """Also where nothing but the pictures tells the jobs of two sweeps apart."""
    folders = []
    for number, value in enumerate((0.6, 0.9)):
        sweep = SweepFolder(tmp_path / f"{number}")
        for fold in (0, 1):
            sweep.add(value, f"data.fold={fold}", identity=f"of {fold}", pictures=f"{number}-{fold}")
        folders.append(sweep.folder)
    best, other = read_study(folders).candidates
    assert (best.edition, best.result) == (1, pytest.approx((0.9, 0, 2)))
    assert (other.edition, other.result) == (0, pytest.approx((0.6, 0, 2)))
    assert comparable([best, other]) == [best]
    assert comparable([]) == []
