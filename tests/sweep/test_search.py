from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridnet.errors import InputError
from hybridnet.sweep.ledger import Ledger, read_sweep
from hybridnet.sweep.search import prepare, require_direction
from tests.conftest import Command, wait_until_saved

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., Command]


def test_a_search_for_the_worst_is_refused() -> None:
    require_direction({"direction": "maximize"}, monitor="valid_macro_f1")
    require_direction({"direction": "minimize"}, monitor="valid_loss")
    with pytest.raises(InputError, match=r"=maximize: the search .* the worst valid_loss\nhint: .*=minimize"):
        require_direction({"direction": "maximize"}, monitor="valid_loss")


def test_without_a_storage_every_start_begins_anew() -> None:
    overrides, said = prepare({"n_trials": 3, "storage": None}, [], monitor="valid_acc")
    assert (overrides, said) == (
        ["hydra.sweeper.n_trials=3"],
        "3 trials; without hydra.sweeper.storage they are not kept",
    )


def test_a_storage_that_cannot_be_opened_is_wrong_input(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    for storage, cause in (("text", "ArgumentError"), (f"sqlite:///{tmp_path}/not/there.db", "OperationalError")):
        sweeper = {"n_trials": 3, "storage": storage, "study_name": "search", "sampler": {"seed": 42}}
        with pytest.raises(InputError, match=f"error: unusable storage in hydra.sweeper.storage: {cause}: .*\nhint: "):
            prepare(sweeper, [], monitor="valid_acc")


def test_a_search_that_was_killed_counts_what_is_complete(
    start: Start, run: Run, tiny: list[str], tmp_path: Path
) -> None:
    optuna = pytest.importorskip("optuna")
    space = ["model.dropout=interval(0,0.5)", "seed=choice(1,2)", "optimizer.head_lr=tag(log,interval(1e-4,1e-2))"]
    command = ["-m", *tiny, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", *space, "hydra.sweep.dir=s"]
    killed = start(*command, hold=("step", 1 + 12 + 6)).wait_until_held()  # the trial takes one
    (folder,) = (tmp_path / "s").glob("1_*")
    wait_until_saved(folder)
    assert killed.send(signal.SIGKILL).wait() == -9
    first, second = Ledger(tmp_path / "s").jobs()
    assert (first.status, second.status) == ("complete", "interrupted")

    code, output, error = run(*command)
    assert (code, error) == (0, ""), output
    assert read_sweep(tmp_path / "s")["is_search"]
    assert output.startswith("4 trials: 1 complete, 1 to be repeated, 3 left\n")
    assert "job 1 (" in output and "attempt 2" in output
    assert "continuing after epoch 1" in output
    jobs = Ledger(tmp_path / "s").jobs()
    assert [job.status for job in jobs] == ["complete"] * 4
    assert [job.attempt for job in jobs] == [1, 2, 1, 1]
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/s/optuna.db")
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert [trial.value for trial in complete] == [job.value for job in jobs]

    assert run(*command)[1].startswith("4 trials: all are complete, nothing is left to do\n")
    assert run("resume=s", "hydra.sweeper.n_trials=5")[1].startswith("5 trials: 4 complete, 0 to be repeated, 1 left\n")
    assert len(Ledger(tmp_path / "s").jobs()) == 5


def test_a_search_goes_on_after_a_failure(run: Run, tiny: list[str], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    space = ["optimizer.head_lr=choice(1e+30)", "trainer.epochs=1"]
    code, _, error = run(
        *["-m", *tiny, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", *space, "hydra.sweep.dir=s"]
    )
    assert code == 1
    assert error.startswith("error: failed job in 0 (optimizer.head_lr=1e+30): loss that is not finite")
    assert [(job.status, job.attempt) for job in Ledger(tmp_path / "s").jobs()] == [("failed", 2)]


def test_a_search_of_other_choices_is_refused(tmp_path: Path) -> None:
    """Optuna would raise a ValueError at the first trial; other ends of an interval are fine."""
    optuna = pytest.importorskip("optuna")
    storage = f"sqlite:///{tmp_path}/optuna.db"
    sweeper = {"n_trials": 3, "storage": storage, "study_name": "search", "sampler": {"seed": 42}}
    study = optuna.create_study(study_name="search", storage=storage, direction="maximize")
    trial = study.ask()
    study.tell(trial, trial.suggest_categorical("model.heads", [2, 4]) + trial.suggest_float("model.dropout", 0, 0.5))
    fitting = ["model.heads=choice(2,4)", "model.dropout=interval(0.1,0.2)", "model.reduction=8,16", "seed=1"]
    overrides, said = prepare(sweeper, fitting, monitor="valid_acc")
    assert (overrides[0], said) == ("hydra.sweeper.n_trials=2", "3 trials: 1 complete, 0 to be repeated, 2 left")
    for other in ("model.heads=choice(2,4,8)", "model.heads=interval(2,4)", "model.dropout=0.1,0.2"):
        with pytest.raises(InputError, match=r"error: other search in (?s:.*) has had other choices, .*\nhint: go on"):
            prepare(sweeper, [other], monitor="valid_acc")
