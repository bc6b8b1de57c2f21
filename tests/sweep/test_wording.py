from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hybridnet.sweep import wording
from hybridnet.sweep.study import Study, read_study
from tests.sweep.folders import SweepFolder


def test_what_was_swept_and_how_it_stands(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for number, status in enumerate(["complete", "failed", "pending", "complete", "running"]):
        value = 0.9 if status == "complete" else None
        sweep.add(value, f"model.heads={2 + number % 2}", f"seed={number}", status=status)
    study = read_study([sweep.folder])
    assert wording.counts(study) == "5 jobs: 2 complete, 1 failed, 1 interrupted, 1 pending"
    assert wording.swept(study) == "model.heads=2,3, seed=0,1,2,3,4"
    assert wording.counts(read_study([SweepFolder(tmp_path / "empty").folder])) == "0 jobs"


def test_of_many_values_some_are_named(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for number in range(14):
        sweep.add(0.9, f"data.root={number}a", f"seed={number}")
    said = wording.swept(read_study([sweep.folder]))
    assert said == ("data.root=0a,1a,2a,3a,4a,5a,6a,7a,8a,9a,10a,11a,… (14 values), seed=0,1,2,3,4,5,6,7,8,9,10,11,…")


def test_the_command_trains_the_best_job_again(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep", config_dir="/my conf")
    typed = ["data=metadata", "data.metadata='a b.csv'", "hydra.sweep.dir=x", "resume=auto", "+x.y=$HOME"]
    sweep.add(0.8, "seed=0", always=typed)
    sweep.add(0.9, "seed=1", always=typed)
    sweep.add(0.99, "seed=2", always=typed, status="pruned")
    assert wording.reproduce(read_study([sweep.folder])) == (
        "python train.py --config-dir '/my conf' data=metadata "
        "'data.metadata='\"'\"'a b.csv'\"'\"'' '+x.y=$HOME' seed=1"
    )
    assert wording.reproduce(read_study([SweepFolder(tmp_path / "empty").folder])) is None


def test_the_command_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [SweepFolder(Path(name)).folder for name in ("a", "b c")]
    assert wording.again(read_study(folders[:1])) == "python -m hybridnet.report sweep=a"
    assert wording.again(read_study(folders)) == "python -m hybridnet.report 'sweep=[a,b c]' out=<folder>"


def _notes(folder: Path, *jobs: tuple[float | None, int, int, str]) -> str:
    sweep = SweepFolder(folder / "sweep")
    for value, heads, seed, status in jobs:
        sweep.add(value, f"model.heads={heads}", f"seed={seed}", status=status)
    return " ".join(wording.notes(read_study([sweep.folder])))


def test_notes_tell_what_is_within_noise(tmp_path: Path) -> None:
    jobs = [(0.9 + seed / 100, 2, seed, "complete") for seed in (0, 1)] + [
        (0.4, 4, 0, "complete"),
        (0.9, 8, 0, "complete"),
    ]
    text = _notes(tmp_path, *jobs, (0.1, 16, 0, "pruned"))
    assert "a standard deviation of 0.0071 (pooled, 1 degree of freedom)" in text
    assert "1 of the other 2 settings is within the seeds' noise of the best" in text
    assert "(Student's t, 95 %, corrected for 3 comparisons)" in text
    assert "The best of 3 settings is likely to be a lucky one too" in text
    assert f"promote sweep={tmp_path}/sweep name=<name> seeds=5 shows by how much" in text
    assert "1 pruned job ended early and is in no mean. Runs that differ" in text
    assert "Means are over 1 to 2 jobs" in text


def test_notes_tell_how_to_learn_what_is_noise(tmp_path: Path) -> None:
    text = _notes(tmp_path, (0.9, 2, 0, "complete"), (0.7, 4, 0, "complete"))
    assert text.startswith("Which differences are more than chance cannot be told") and "seed=0,1,2" in text
    assert "lucky" not in text


@pytest.mark.parametrize(
    ("used", "advised"), [([0, 0], "0,1,2"), ([42, 42], "42,0,1"), ([2, 2], "2,0,1"), ([1, 0], "1,0,2")]
)
def test_seeds_that_are_trained_already_are_among_those_that_are_advised(
    tmp_path: Path, used: list[int], advised: str
) -> None:
    text = _notes(tmp_path, (0.9, 2, used[0], "complete"), (0.7, 4, used[1], "complete"))
    assert f"no settings were trained with two seeds. seed={advised} in the same command tells it." in text


def test_a_search_is_not_advised_to_search_the_seed_too(tmp_path: Path) -> None:
    """`seed=0,1,2` in its command would be one more choice of each trial, not three runs of it."""
    sweep = SweepFolder(tmp_path / "sweep", is_search=True)
    for value, lr, seed in ((0.9, "1e-4", 1), (0.7, "2e-4", 2)):
        sweep.add(value, f"optimizer.base_lr={lr}", f"seed={seed}")
    text = " ".join(wording.notes(read_study([sweep.folder])))
    assert "two seeds. The best ones tell it in a grid, python train.py -m <their values> seed=0,1,2." in text


def test_a_best_setting_that_is_not_alone_is_said_so(tmp_path: Path) -> None:
    jobs = [(0.9, 2, 0, "complete"), (0.9, 4, 0, "complete"), (0.9, 8, 0, "complete"), (0.8, 16, 0, "complete")]
    said = "the same valid_acc as the one that is called the best: it is the first of them, no better one."
    assert f"2 other settings have {said}" in _notes(tmp_path / "three", *jobs)
    assert f"1 other setting has {said}" in _notes(tmp_path / "two", *jobs[1:])
    assert said not in _notes(tmp_path / "one", *jobs[2:])
    sums = [(0.1, 2, 0, "complete"), (0.7, 2, 1, "complete"), (0.3, 4, 0, "complete"), (0.5, 4, 1, "complete")]
    assert said in _notes(tmp_path / "means", *sums)


def test_a_mean_without_the_seeds_that_were_pruned_is_said_to_be_too_good(tmp_path: Path) -> None:
    jobs = [(0.9, 2, 0, "complete"), (0.1, 2, 1, "pruned"), (0.8, 4, 0, "complete"), (0.8, 4, 1, "complete")]
    said = "1 of the 2 settings is ranked without its pruned jobs, which did worse: such a mean is too good."
    assert f"1 pruned job ended early and is in no mean. {said}" in _notes(tmp_path / "one", *jobs)
    text = _notes(tmp_path / "both", *jobs[:3], (0.2, 4, 1, "pruned"))
    assert "2 of the 2 settings are ranked without their pruned jobs, which did worse" in text


def test_seeds_that_agree_do_not_show_how_far_they_lie_apart(tmp_path: Path) -> None:
    jobs = [(value, heads, seed, "complete") for value, heads in ((0.9, 2), (0.7, 4)) for seed in (0, 1)]
    text = _notes(tmp_path, *jobs)
    assert "cannot be told: all seeds of a setting agree by chance. More seeds tell it." in text


def test_notes_of_two_settings(tmp_path: Path) -> None:
    jobs = [(0.9 + seed / 100, 2, seed, "complete") for seed in (0, 1)]
    text = _notes(tmp_path, *jobs, (0.1, 4, 0, "complete"))
    assert "The other setting is not within the seeds' noise of the best (Student's t, 95 %)." in text


@pytest.mark.parametrize(
    ("status", "value", "text"),
    [
        ("failed", None, "No job is complete: there is nothing to compare."),
        ("pruned", 0.5, "No job is complete. What is ranked are pruned jobs, which ended early."),
        ("complete", 0.5, ""),
    ],
)
def test_notes_of_one_job(tmp_path: Path, status: str, value: float | None, text: str) -> None:
    assert _notes(tmp_path, (value, 2, 0, status)) == text


def _folds(folder: Path, *, folds: Sequence[int] = (0, 1, 2), seeds: Sequence[int] = (42,), left: int = 0) -> Study:
    """Two models over folds and seeds, without the last jobs."""
    sweep = SweepFolder(folder / "sweep")
    jobs = [(model, fold, seed) for model in ("plain", "ca") for fold in folds for seed in seeds]
    for model, fold, seed in jobs[: len(jobs) - left]:
        value = 0.9 - fold / 10 - (model == "ca") * (0.01 + fold / 1000) + seed / 10000
        sweep.add(value, f"model={model}", f"data.fold={fold}", *([f"seed={seed}"] if len(seeds) > 1 else []))
    return read_study([sweep.folder])


def test_folds_are_said_to_be_averaged(tmp_path: Path) -> None:
    study = _folds(tmp_path)
    assert wording.swept(study) == "model=plain,ca, data.fold=0,1,2"
    assert wording.averaged(study, study.ranked[0]) == "3 folds"
    text = " ".join(wording.notes(study))
    assert text.startswith("Each mean is over 3 folds. All settings have the same folds. Beside what a fold makes of ")
    assert "all of them alike, runs that differ in their fold alone have a standard deviation of 0.0007" in text
    assert "(pooled, 2 degrees of freedom). The other setting is not within the folds' noise of the best" in text


def test_folds_and_seeds_are_said_to_be_averaged(tmp_path: Path) -> None:
    study = _folds(tmp_path, folds=(0, 1, 2, 3, 4), seeds=(0, 1, 2))
    assert wording.averaged(study, study.ranked[0]) == "15 runs: 5 folds, 3 seeds"
    text = " ".join(wording.notes(study))
    assert text.startswith("Each mean is over 15 runs: 5 folds, 3 seeds. All settings have the same folds.")
    assert "the means over the seeds of a fold have a standard deviation of" in text
    seeds = _folds(tmp_path / "seeds", folds=(0,), seeds=(0, 1, 2))
    assert wording.averaged(seeds, seeds.ranked[0]) == "3 seeds"


def test_folds_that_are_not_the_same_are_said_so(tmp_path: Path) -> None:
    """Compared are the two that both have: 0.9 and 0.8 against 0.89 and 0.789, residuals 0.00025 with one degree."""
    text = " ".join(wording.notes(_folds(tmp_path, left=1)))
    assert text.startswith(
        "Settings are compared on the folds that they have in common: 1 other result (data.fold=2) is in no mean. "
        "Each mean is over 2 folds. All settings have the same folds."
    )
    assert "a standard deviation of 0.0005 (pooled, 1 degree of freedom)" in text.replace("5.00e-04", "0.0005")


def test_settings_without_a_fold_of_the_others_are_said_to_be_unranked(tmp_path: Path) -> None:
    study = _folds(tmp_path, left=2)
    assert next(wording.notes(study)) == (
        "1 setting is not ranked, as results are missing on folds that the others have: model=ca (data.fold=1,2). "
        "Going on with the sweep makes them."
    )


def test_differences_that_all_folds_agree_on_do_not_tell_what_is_noise(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads in (2, 4):
        for fold in (0, 1):
            sweep.add((heads + fold) / 10, f"model.heads={heads}", f"data.fold={fold}")
    text = " ".join(wording.notes(read_study([sweep.folder])))
    assert "cannot be told: all settings are equally far apart on every fold. More folds tell it." in text


def test_one_setting_over_folds_has_a_mean(tmp_path: Path) -> None:
    study = _folds(tmp_path, left=3)
    assert [*wording.notes(study)] == ["The mean is over 3 folds."]
    assert wording.verdict(study, study.ranked[0]) == "best"


def test_the_command_trains_all_folds_again(tmp_path: Path) -> None:
    study = _folds(tmp_path, folds=(10, 2), seeds=(1, 3))
    overrides = "model.size=lite trainer.epochs=3 model=plain seed=3 data.fold=2,10"
    assert wording.reproduce(study) == f"python train.py -m {overrides}"
    assert wording.what_again(study) == "The best settings, on all 2 folds,"


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ("xy", "The other setting was measured on other pictures than the best (another table, data.valid_limit or "),
        ("xxy", "1 of the other 2 settings was measured on other pictures than the best (another table"),
        ("xyyy", "3 of the other 3 settings were measured on other pictures than the best (another table"),
    ],
)
def test_other_pictures_are_said_so(tmp_path: Path, pictures: str, said: str) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for number, digest in enumerate(pictures):
        for seed in (0, 1):
            sweep.add(0.9 - number / 10 + seed / 100, f"model.x={number}", f"seed={seed}", pictures=digest)
    study = read_study([sweep.folder])
    text = " ".join(wording.notes(study))
    assert said in text
    assert ("The other setting on these pictures is not within" in text) == (pictures == "xxy")
    verdicts = [wording.verdict(study, candidate) for candidate in study.ranked]
    assert verdicts == ["best", *("worse" if digest == "x" else "other pictures" for digest in pictures[1:])]
