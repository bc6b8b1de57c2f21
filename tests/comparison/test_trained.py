from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.comparison.trained import folders, read_all
from hybridnet.errors import InputError
from tests.comparison.folders import write_run
from tests.sweep.folders import SweepFolder

LABELS = [0, 1, 2, 0]


def test_what_counts_as_a_setting(tmp_path: Path) -> None:
    """Not the seed, the fold and how fast the data come; but what is computed."""
    runs = [
        write_run(tmp_path / "a", LABELS, LABELS),
        write_run(tmp_path / "b", LABELS, LABELS, seed=1, fold=2, num_parameters=7),
        write_run(tmp_path / "c", LABELS, LABELS, typed={"trainer.epochs": 4}),
    ]
    first, second, third = read_all(runs, None)
    assert first.settings == second.settings != third.settings
    assert (second.seed, second.fold, second.replicate) == ("1", "2", ("fold=2", "seed=1"))
    assert second.metrics == {"num_parameters": 7}
    assert first.choices == {"model": "plain", "data": "metadata", "trainer.epochs": "3"}
    assert third.choices["trainer.epochs"] == "4"


def test_equal_values_are_equal_settings(tmp_path: Path) -> None:
    """0 and 0.0; and a setting that the run's version did not have, with what it did."""
    typed = ({"model.dropout": 0}, {"model.dropout": 0.0, "data.augment": {"erase": 0.0}}, {"model.dropout": "0"})
    runs = [write_run(tmp_path / str(place), LABELS, LABELS, typed=own) for place, own in enumerate(typed)]
    first, second, third = read_all(runs, None)
    assert first.is_like(second) and second.is_like(first) and not first.is_like(third)
    assert first.choices["model.dropout"] == second.choices["model.dropout"] == "0"


def test_folds_have_the_same_pictures_in_another_split(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", LABELS, LABELS, fold=2)
    (run / "evaluation").mkdir()
    for split, fold in (("test", None), ("valid", "2")):
        (run / "evaluation" / split).mkdir()
        (run / "evaluation" / split / "predictions.csv").write_bytes((run / "predictions.csv").read_bytes())
        (found,) = read_all([run], split)
        assert found.fold == fold and found.replicate == ("fold=2", "seed=0")


def test_a_copy_is_the_same_training(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", LABELS, LABELS),
        write_run(tmp_path / "b", LABELS, LABELS),
        write_run(tmp_path / "c", LABELS, LABELS, seed=1),
        write_run(tmp_path / "d", LABELS, [0, 1, 2, 1]),
    ]
    first, *others = read_all(runs, None)
    assert [first.is_copy_of(other) for other in others] == [True, False, False]


def test_nothing_but_predictions_is_enough(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("path,label,prediction\na,x,x\n")
    (run,) = read_all([tmp_path], None)
    assert (run.settings, run.seed, run.fold, run.metrics) == (None, None, None, {})


def test_the_faults_of_all_runs_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError) as caught:
        read_all([tmp_path / "a", tmp_path / "b"], None)
    assert [fault.where for fault in caught.value.faults] == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_complete_jobs_of_sweeps_are_runs(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    done = [sweep.add(0.9, f"model.heads={heads}") for heads in (2, 4)]
    sweep.add(None, "model.heads=8", status="failed", error="x")
    sweep.add(0.3, "model.heads=16", status="pruned")
    other = SweepFolder(tmp_path / "other")
    other.add(0.9, "model.heads=2", identity=done[0].identity)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best_model.pt").touch()
    found, incomplete = folders(str(tmp_path / "run" / "best_model.pt"), str(sweep.folder))
    assert found == [tmp_path / "run", done[0].folder, done[1].folder]
    assert [job.status for job in incomplete] == ["failed", "pruned"]
    found, _ = folders(None, [str(sweep.folder), str(other.folder)])
    assert len(found) == 2, "a job that two sweeps have both done counts once"


def test_a_pattern_stands_for_the_runs_that_match(tmp_path: Path) -> None:
    for name in ("0_model=ca,seed=0", "1_model=ca,seed=1", "2_model=hybrid,seed=0", "[a]*", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "status.json").touch()
    (tmp_path / "model=ca.csv").touch()
    found, incomplete = folders(str(tmp_path / "*model=ca*"), None)
    assert [folder.name for folder in found] == ["0_model=ca,seed=0", "1_model=ca,seed=1"] and incomplete == []
    found, _ = folders([str(tmp_path / "[a]*"), str(tmp_path / "2_*")], None)
    assert [folder.name for folder in found] == ["[a]*", "2_model=hybrid,seed=0"], "a folder of that name comes first"
    with pytest.raises(InputError, match=r"missing run in runs=.*model=eca\*: no such folder"):
        folders(str(tmp_path / "*model=eca*"), None)


def test_wrong_folders_are_named_together(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    with pytest.raises(InputError) as caught:
        folders(["nowhere", str(sweep.folder)], [str(tmp_path)])
    whats = [fault.what for fault in caught.value.faults]
    assert whats == ["missing run", "not a run", "no sweep"]
    with pytest.raises(InputError, match="no run is named\nhint: runs="):
        folders([], None)
    with pytest.raises(InputError, match="none of its jobs is complete"):
        folders(None, str(sweep.folder))
