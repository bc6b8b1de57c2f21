from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.errors import InputError
from hybridnet.sweep.study import read_study
from tests.sweep.folders import SweepFolder

SAVED = "model:\n  heads: 4\n  size: lite\n  dropout: 0.1\n  backbone: {layers: [2, 2]}\nseed: 42\n"


def test_jobs_that_differ_in_their_seed_alone_are_one_candidate(tmp_path: Path) -> None:
    """Stds 0.02 (n = 3) and 0.01943 (n = 2): pooled 0.0198 with 3 degrees; the margin is 3.1824 · 0.0198 · 0.9129."""
    sweep = SweepFolder(tmp_path / "sweep")
    for value, heads, seed in ((0.78626, 2, 0), (0.81374, 2, 1), (0.90, 10, 0), (0.94, 10, 1), (0.92, 10, 2)):
        sweep.add(value, f"model.heads={heads}", f"seed={seed}")
    study = read_study([sweep.folder])
    assert [(axis.key, axis.name, axis.values) for axis in study.axes] == [("model.heads", "heads", ("2", "10"))]
    assert [candidate.values for candidate in study.candidates] == [("10",), ("2",)]
    assert study.winner is study.candidates[0]
    assert study.winner.result == pytest.approx((0.92, 0.02, 3))
    assert [outcome.job.number for outcome in study.winner.counted] == [3, 4, 2], "the best one first"
    assert study.candidates[1].result == pytest.approx((0.80, 0.0194313, 2), rel=1e-4)
    assert study.noise is not None and study.noise.degrees == 3
    assert study.is_within_noise(study.candidates[1]) is False
    assert study.value(study.outcomes[0], "seed") == "0"


def test_what_another_seed_might_turn_round_is_within_noise(tmp_path: Path) -> None:
    """Std 0.01414 with 3 degrees: any of three is off another by chance up to 4.8567 · 0.01414 = 0.0687."""
    sweep = SweepFolder(tmp_path / "sweep")
    for heads, mean in ((2, 0.9), (4, 0.832), (8, 0.830)):
        for seed, offset in enumerate((0.01, -0.01)):
            sweep.add(mean + offset, f"model.heads={heads}", f"seed={seed}")
    study = read_study([sweep.folder])
    assert [study.is_within_noise(candidate) for candidate in study.ranked] == [True, True, False]


def test_without_a_second_seed_it_cannot_be_told(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads in (2, 4):
        sweep.add(heads / 10, f"model.heads={heads}")
    study = read_study([sweep.folder])
    assert study.noise is None
    assert [study.is_within_noise(candidate) for candidate in study.ranked] == [None, None]


def test_of_a_loss_the_lower_one_is_better(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep", monitor="valid_loss")
    for value, heads in ((0.5, 2), (0.3, 4), (0.4, 8)):
        sweep.add(value, f"model.heads={heads}")
    assert [candidate.values for candidate in read_study([sweep.folder]).ranked] == [("4",), ("8",), ("2",)]


def test_only_complete_jobs_enter_a_mean(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.add(0.8, "model.heads=2", "seed=0")
    sweep.add(0.99, "model.heads=2", "seed=1", status="pruned")
    sweep.add(0.99, "model.heads=4", "seed=0", status="pruned")
    sweep.add(None, "model.heads=8", "seed=0", status="failed", curve=[0.99])
    for status in ("pending", "running", "stopped"):
        sweep.add(None, "model.heads=8", f"seed={status}", status=status)
    study = read_study([sweep.folder])
    assert [(candidate.values, candidate.result) for candidate in study.candidates] == [
        (("2",), (0.8, None, 1)),
        (("4",), None),
        (("8",), None),
    ]
    assert [outcome.job.number for outcome in study.counted] == [0]
    assert [outcome.job.status for outcome in study.having("interrupted")] == ["interrupted"]


def test_pruned_jobs_count_where_there_is_nothing_else(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.add(0.7, "model.heads=2", status="pruned")
    sweep.add(0.8, "model.heads=4", status="pruned")
    sweep.add(None, "model.heads=8", status="failed")
    study = read_study([sweep.folder])
    assert study.winner is not None and study.winner.values == ("4",)
    assert len(study.ranked) == 2


def test_a_key_that_was_not_typed_is_read_from_the_run(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.add(0.8, "model.heads=2", saved=SAVED)
    sweep.add(0.9, "model.dropout=0.10", "model.heads=4")
    sweep.add(None, "model.dropout=0.3", status="pending")
    study = read_study([sweep.folder])
    assert [(axis.key, axis.values) for axis in study.axes] == [
        ("model.heads", ("2", "4", "default")),
        ("model.dropout", ("0.1", "0.3")),
    ]


def test_the_seed_of_a_job_that_failed_early_is_read_from_its_configuration(tmp_path: Path) -> None:
    """It has no environment yet; a seed of its own in the report would be a lie."""
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.add(0.8, "model.heads=2")
    sweep.add(None, "model.heads=4", status="failed", saved="seed: 42\nmodel: {heads: 4}\n")
    study = read_study([sweep.folder])
    assert [study.value(outcome, "seed") for outcome in study.outcomes] == ["42", "42"]


def test_a_choice_of_a_group_that_was_not_typed_is_read_too(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    job = sweep.add(0.8, saved=SAVED)
    choices = "hydra: {runtime: {choices: {model: hybrid, model/backbone: resnet18}}}\n"
    (job.folder / ".hydra" / "hydra.yaml").write_text(choices)
    sweep.add(0.9, "model=ca", "model/backbone=resnet34")
    study = read_study([sweep.folder])
    assert [(axis.key, axis.name, set(axis.values)) for axis in study.axes] == [
        ("model", "model", {"hybrid", "ca"}),
        ("model/backbone", "backbone", {"resnet18", "resnet34"}),
    ]


def test_keys_with_the_same_last_part_keep_their_names(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.add(0.8, "a.x=1", "b.x=1", "hydra.sweep.dir=a")
    sweep.add(0.9, "a.x=2", "b.x=2", "hydra.sweep.dir=b")
    assert [axis.name for axis in read_study([sweep.folder]).axes] == ["a.x", "b.x"]


def test_many_numbers_are_a_range(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for number in range(9):
        sweep.add(
            0.8, f"optimizer.head_lr={10 ** -(1 + number / 3)}", f"data.root=r{number}", f"model.heads={7 - number % 8}"
        )
    sweep.add(0.8)
    assert read_study([sweep.folder]).axes[2].values == (*map(str, range(8)), "default")
    assert [axis.is_continuous for axis in read_study([sweep.folder]).axes] == [True, False, False]


def test_several_sweeps_are_one_study(tmp_path: Path) -> None:
    """A job that both have done counts once: the same seed again says nothing about the noise."""
    first, second = SweepFolder(tmp_path / "a"), SweepFolder(tmp_path / "b")
    first.add(0.8, "model.heads=2", "seed=0", identity="same")
    first.add(0.7, "model.heads=4", "seed=0")
    second.add(0.8, "model.heads=2", "seed=0", identity="same")
    second.add(0.9, "model.heads=2", "seed=1")
    study = read_study([first.folder, second.folder, first.folder])
    assert [outcome.label for outcome in study.outcomes] == ["A0", "A1", "B0", "B1"]
    assert study.winner is not None and study.winner.result == pytest.approx((0.85, 0.0707107, 2), rel=1e-5)
    assert [outcome.label for outcome in study.counted] == ["A0", "A1", "B1"]


def test_trainings_that_differ_in_their_pruner_alone_count_once(tmp_path: Path) -> None:
    """Where it has ended neither of them, both are the same training; a swept pruner tells the jobs apart."""
    sweep = SweepFolder(tmp_path / "sweep")
    for seed, value in ((1, 0.8), (2, 0.9)):
        for pruner in ("median", "none"):
            sweep.add(value, f"pruner={pruner}", f"seed={seed}")
    sweep.add(0.7, "pruner=median", "seed=3", status="pruned")
    sweep.add(1.0, "pruner=none", "seed=3")
    study = read_study([sweep.folder])
    assert study.winner is not None and study.winner.result == pytest.approx((0.9, 0.1, 3))
    assert [outcome.job.number for outcome in study.counted] == [0, 2, 5]


def test_sweeps_that_watch_different_metrics_are_refused(tmp_path: Path) -> None:
    folders = [SweepFolder(tmp_path / monitor, monitor=monitor).folder for monitor in ("valid_acc", "valid_loss")]
    with pytest.raises(
        InputError, match=r"cannot be compared in monitor: valid_acc in .*valid_loss in .*\nhint: report"
    ):
        read_study(folders)


@pytest.mark.parametrize("num_jobs", [0, 1])
def test_there_may_be_nothing_to_compare(tmp_path: Path, num_jobs: int) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for _ in range(num_jobs):
        sweep.add(0.8)
    study = read_study([sweep.folder])
    assert (len(study.axes), len(study.ranked), study.noise) == (0, num_jobs, None)
    assert study.winner is None or study.described(study.winner) == ""


def test_folds_are_no_setting(tmp_path: Path) -> None:
    """Two settings 0.02 apart; residuals of 0.005 with 2 degrees: 4.3027 · 0.00707 · sqrt(2/3) = 0.0248."""
    sweep = SweepFolder(tmp_path / "sweep")
    for model, less in (("plain", (0, 0, 0)), ("ca", (0.01, 0.03, 0.02))):
        for fold, easy in enumerate((0.9, 0.6, 0.3)):
            sweep.add(easy - less[fold], f"model={model}", f"data.fold={fold}")
    study = read_study([sweep.folder])
    assert [axis.key for axis in study.axes] == ["model"]
    assert (study.replication, study.folds) == (("data.fold", "seed"), ("0", "1", "2"))
    assert study.value(study.outcomes[1], "data.fold") == "1"
    assert study.design.is_by_fold and [study.is_within_noise(candidate) for candidate in study.ranked] == [True, True]


def test_a_fold_that_all_jobs_have_is_as_any_other_setting(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads in (2, 4):
        sweep.add(heads / 10, "data.fold=2", f"model.heads={heads}")
    study = read_study([sweep.folder])
    assert (study.replication, study.folds) == (("seed",), ())


def test_the_folds_are_not_a_difference_between_settings(tmp_path: Path) -> None:
    """0.1 apart in every fold, which the folds' own spread of 0.3 would hide; what a fold has alone is in no mean."""
    sweep = SweepFolder(tmp_path / "sweep")
    for model, off in (("plain", 0.0), ("ca", 0.1)):
        for fold, easy in enumerate((0.9, 0.6, 0.3)):
            sweep.add(easy - off + fold * off / 50, f"model={model}", f"data.fold={fold}")
    study = read_study([sweep.folder])
    assert study.is_within_noise(study.ranked[1]) is False
    sweep.add(0.2, "model=ca", "data.fold=3")
    after = read_study([sweep.folder])
    assert (after.noise, after.is_within_noise(after.ranked[1])) == (study.noise, False)
    assert [[outcome.value for outcome in candidate.left_out] for candidate in after.ranked] == [[], [0.2]]


def test_what_was_judged_on_other_pictures_is_not_compared(tmp_path: Path) -> None:
    """Nor is it counted among the comparisons, or its seeds in the noise."""
    sweep = SweepFolder(tmp_path / "sweep")
    for heads, mean, pictures in ((2, 0.9, "all"), (4, 0.5, "few"), (8, 0.85, "all")):
        for seed, offset in enumerate((0.01, -0.01) if pictures == "all" else (0.3, -0.3)):
            sweep.add(mean + offset, f"model.heads={heads}", f"seed={seed}", pictures=pictures)
    study = read_study([sweep.folder])
    assert [study.is_comparable(candidate) for candidate in study.ranked] == [True, True, False]
    assert [study.is_within_noise(candidate) for candidate in study.ranked] == [True, True, None]
    assert study.noise == pytest.approx((0.0141421, 2, 2), rel=1e-5)
    sweep.add(0.8, "model.heads=16")
    compared = [candidate.values for candidate in read_study([sweep.folder]).comparable]
    assert compared == [("2",), ("8",), ("16",)], "a run without a digest may have been judged on any"
