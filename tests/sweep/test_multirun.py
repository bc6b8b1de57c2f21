"""Sweeps as a user types them."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra.core.plugins import Plugins
from hydra.types import HydraContext

from hybridnet.config import JobLoader, Multirun
from hybridnet.errors import InputError
from hybridnet.files import read_json
from hybridnet.sweep import multirun, study, wording
from hybridnet.sweep.launcher import LedgerLauncher
from hybridnet.sweep.ledger import Ledger, Planned
from hybridnet.sweep.plan import Jobs
from hybridnet.sweep.record import Job
from tests.conftest import Command, content, outcome
from tests.sweep.folders import SweepFolder

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., Command]


def _jobs(folder: Path) -> list[Job]:
    return Ledger(folder).jobs()


def test_a_widened_grid_runs_only_the_new_jobs(run: Run, tiny: list[str], tmp_path: Path) -> None:
    command = ["-m", *tiny, "trainer.epochs=1", "hydra.sweep.dir=s"]
    assert run(*command, "seed=1,2")[0] == 0
    before = {job.folder.name: content(job.folder) for job in _jobs(tmp_path / "s")}
    code, output, error = run(*command, "model.dropout=0.1,0.3", "seed=1,2,1")
    assert (code, error) == (0, "")
    assert output.startswith("4 jobs (2 were given twice): 2 done, 2 new; distinct models: 1; the first job will tell")
    assert "a trial has" not in output, "that is said of a search"
    jobs = _jobs(tmp_path / "s")
    assert [job.folder.name for job in jobs] == ["0_seed=1", "1_seed=2", "2_dropout=0.3,seed=1", "3_dropout=0.3,seed=2"]
    assert all(job.status == "complete" and job.attempt == 1 for job in jobs)
    assert {name: content(tmp_path / "s" / name) for name in before} == before
    assert jobs[2].swept == ["model.dropout=0.3", "seed=1"]
    assert jobs[2].value == read_json(jobs[2].folder / "metrics.json")["valid_acc"]
    assert jobs[2].overrides[-2:] == ["model.dropout=0.3", "seed=1"] and "resume=auto" not in jobs[2].overrides


def test_what_an_earlier_wider_grid_has_left_is_named(tmp_path: Path) -> None:
    """The report tells to go on with the sweep, which would not do them."""
    sweep = SweepFolder(tmp_path / "sweep")
    for seed, status in enumerate(("complete", "failed", "pending")):
        sweep.add(0.5 if status == "complete" else None, f"seed={seed}", status=status)
    asked = [Planned(job.identity, job.overrides, job.swept, "") for job in sweep.jobs()]
    assert multirun._not_asked_for(sweep.jobs(), asked) == ""
    assert multirun._not_asked_for(sweep.jobs(), asked[:2]) == (
        "1 other job of this sweep is not done and not among these: job 2 (seed=2); it stays as it is, until its "
        "values are asked for again"
    )
    assert "2 other jobs of this sweep are not done and not among these: job 1 (seed=1), 2 (seed=2); they stay" in (
        multirun._not_asked_for(sweep.jobs(), asked[:1])
    )


def test_a_failure_of_an_earlier_grid_is_none_of_another_one(run: Run, tiny: list[str], tmp_path: Path) -> None:
    """It was told that the sweep's command tries it again, which left it as it was."""
    command = ["-m", *tiny, "trainer.epochs=1", "hydra.sweep.dir=s"]
    assert run(*command, "optimizer.head_lr=1e+30")[0] == 1
    code, output, error = run(*command, "optimizer.head_lr=1e-3")
    assert (code, error) == (0, ""), error
    assert output.startswith("1 job: 1 new; ")
    assert "1 other job of this sweep is not done and not among these: job 0; it stays" in output
    assert "2 jobs: 1 complete, 1 failed" in output
    assert [(job.status, job.attempt) for job in _jobs(tmp_path / "s")] == [("failed", 1), ("complete", 1)]


def test_a_preset_asks_for_many_runs_by_itself(starter: Any, run: Run, tiny: list[str], tmp_path: Path) -> None:
    """And is found again from another folder."""
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    shutil.copytree(tiny[1], tmp_path / "conf", dirs_exist_ok=True)
    text = "# @package _global_\nhydra: {sweeper: {params: {seed: '1,2', model.dropout: '0.1,0.2'}}}\n"
    (tmp_path / "conf" / "sweep" / "mine.yaml").write_text(text)
    own = ["--config-dir", "conf", *tiny[2:], "trainer.epochs=1"]
    code, output, error = run(*own, "+sweep=mine", "seed=7", "hydra.sweep.dir=s")
    assert (code, error) == (0, "")
    assert [job.folder.name for job in _jobs(tmp_path / "s")] == ["0_dropout=0.1", "1_dropout=0.2"]
    first = tmp_path / "s" / "0_dropout=0.1"
    overrides = yaml.safe_load((first / ".hydra" / "overrides.yaml").read_text())
    assert "model.dropout=0.1" in overrides and not any("sweep" in text or "resume" in text for text in overrides)
    assert run("resume=s/0_dropout=0.1")[1] == "s/0_dropout=0.1 holds a complete run: nothing is left to do\n"
    (tmp_path / "elsewhere").mkdir()
    more = [f"resume={tmp_path / 's'}", "model.dropout=0.2,0.3"]
    code, output, error = starter.run(*more, folder=tmp_path / "elsewhere")
    assert (code, error) == (0, "")
    assert output.startswith("2 jobs: 1 done, 1 new")


def test_a_job_keeps_what_a_preset_sets_when_it_goes_on_by_itself(
    start: Start, run: Run, tiny: list[str], tmp_path: Path
) -> None:
    """It does not know of the preset any more, which asks for many runs."""
    shutil.copytree(tiny[1], tmp_path / "conf")
    (tmp_path / "conf" / "sweep").mkdir()
    text = "hydra: {sweeper: {params: {seed: '1,2'}}}\ntrainer: {epochs: 2}\noptimizer: {base_lr: 2e-3, eps: 1e-7}\n"
    (tmp_path / "conf" / "sweep" / "own.yaml").write_text(f"# @package _global_\n{text}")
    own = ["-m", "--config-dir", str(tmp_path / "conf"), *(text for text in tiny[2:] if "epochs" not in text)]
    command = [*own, "+sweep=own", "sweep.on_error=stop", "hydra.sweep.dir=s"]
    stopped = start(*command, hold=("step", 6)).wait_until_held().send(signal.SIGTERM)
    stopped.go_on()
    assert stopped.wait() == 143
    first = tmp_path / "s" / "0_seed=1"
    (job, *_) = _jobs(tmp_path / "s")
    assert "trainer.epochs=2" in job.overrides and not any("sweep=" in text for text in job.overrides)
    assert "optimizer.base_lr=0.001" in job.overrides and "optimizer.eps=1e-07" in job.overrides, "what is typed wins"
    kept = yaml.safe_load((first / ".hydra" / "overrides.yaml").read_text())
    assert kept == [text for text in job.overrides if not text.startswith("sweep.")]
    code, output, error = run("resume=s/0_seed=1")
    assert (code, error) == (0, "") and "continuing after epoch 1" in output and "changed: " not in output
    assert len(read_json(first / "history.json")) == 2
    assert wording.counts(study.read_study([tmp_path / "s"])) == "2 jobs: 1 complete, 1 pending"
    assert run(*command)[::2] == (0, "")
    assert run("resume=s/1_seed=2")[1] == "s/1_seed=2 holds a complete run: nothing is left to do\n"
    best = wording.reproduce(study.read_study([tmp_path / "s"]))
    assert best is not None and run(*shlex.split(best)[2:], "hydra.run.dir=again")[::2] == (0, "")
    assert read_json(tmp_path / "again" / "metrics.json")["valid_acc"] == max(
        job.value for job in _jobs(tmp_path / "s")
    )
    assert len(read_json(tmp_path / "again" / "history.json")) == 2


def test_after_a_failure_the_others_wait_if_that_is_asked_for(run: Run, tiny: list[str], tmp_path: Path) -> None:
    command = ["-m", *tiny, "trainer.epochs=1", "optimizer.head_lr=1e+30,1e-3", "hydra.sweep.dir=s"]
    code, output, error = run(*command, "sweep.on_error=stop")
    assert code == 1 and error.startswith("error: failed job in 0 (optimizer.head_lr=1e+30): loss that is not finite")
    assert "a job has failed: no other one is started\n" in output
    assert [job.status for job in _jobs(tmp_path / "s")] == ["failed", "pending"]
    code, output, error = run(*command)
    assert code == 1 and error.startswith("error: failed job in 0 (")
    assert output.startswith("2 jobs: 1 failed, to be tried again, 1 new; ")
    assert [(job.status, job.attempt) for job in _jobs(tmp_path / "s")] == [("failed", 2), ("complete", 1)]


def test_a_model_that_does_not_train_is_refused_before_any_job(run: Run, tiny: list[str], tmp_path: Path) -> None:
    command = ["-m", *tiny, "trainer.epochs=1", "model/backbone=small,broken", "seed=1,2", "hydra.sweep.dir=s"]
    code, output, error = run(*command)
    assert (code, output) == (2, "")
    assert re.fullmatch(
        r"error: impossible job in model/backbone=broken seed=1: no job was started\n"
        r"error: model that does not train in a batch of random pictures: IndexError: list index out of range\n"
        r"hint: sweep.try_models=false leaves this test out\n",
        error,
    ), error
    assert not (tmp_path / "s").exists()
    code, output, error = run(*command, "sweep.try_models=false")
    assert code == 1 and error.count("error: failed job in") == 2
    assert [job.status for job in _jobs(tmp_path / "s")] == ["complete", "complete", "failed", "failed"]


@pytest.mark.parametrize(
    ("package", "setting", "cause"),
    [
        (
            "joblib",
            "hydra/launcher=joblib hydra.launcher.n_jobs=0",
            "ValueError: n_jobs == 0 in Parallel has no meaning",
        ),
        (
            "optuna",
            "hydra/sweeper=optuna hydra.sweeper.custom_search_space=no.such",
            "InstantiationException: Error locating target 'no.such'",
        ),
    ],
)
def test_settings_with_which_no_job_starts_are_wrong_input(
    run: Run, tiny: list[str], tmp_path: Path, package: str, setting: str, cause: str
) -> None:
    pytest.importorskip(package)
    code, _, error = run("-m", *tiny, "seed=1,2", *setting.split(), "sweep.try_models=false", "hydra.sweep.dir=s")
    assert error.startswith(f"error: settings that start no job in hydra.launcher or hydra.sweeper: {cause}\nhint: ")
    assert (code, error.count("\n")) == (2, 2)
    assert all(job.attempt == 0 for job in _jobs(tmp_path / "s"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("Could not detect srun"), InputError),
        *((error, type(error)) for error in (BrokenProcessPool(), MemoryError(), ConnectionError())),
    ],
)
def test_a_launcher_that_is_killed_is_no_wrong_input(tmp_path: Path, error: Exception, told: type[Exception]) -> None:
    def start(function: Callable[..., Any]) -> None:
        raise error

    sweep = SweepFolder(tmp_path / "s")
    plugin = {"_target_": "hydra._internal.core_plugins.BasicLauncher"}
    jobs: Any = SimpleNamespace(multirun=SimpleNamespace(launcher=plugin))
    with pytest.raises(told) as found:
        multirun._launch(lambda cfg: 0.0, jobs, Ledger(sweep.folder), start)
    assert type(found.value) is told


def test_what_fails_before_the_run_begins_leaves_its_traceback_too(run: Run, tiny: list[str], tmp_path: Path) -> None:
    """Pictures are looked for only when the data are read."""
    table = Path(tiny[3].replace("data.metadata=", ""))
    (tmp_path / "gone.csv").write_text(table.read_text())  # its paths are relative to its folder
    tables = f"data.metadata={table},gone.csv"
    code, output, _ = run("-m", *tiny, "trainer.epochs=1", tables, "hydra.sweep.dir=s")
    assert code == 1
    assert [job.status for job in _jobs(tmp_path / "s")] == ["complete", "failed"]
    log = (tmp_path / "s" / "1_metadata=gone.csv" / "train.log").read_text()
    assert log.count("Traceback (most recent call last)") == 1
    assert _jobs(tmp_path / "s")[1].error.splitlines()[0] in log and "Traceback" not in output


def test_a_job_that_does_worse_than_the_others_is_pruned(run: Run, tiny: list[str], tmp_path: Path) -> None:
    pruner = ["pruner=median", "pruner.min_epochs=2", "pruner.min_jobs=1", "pruner.margin=0", "monitor=valid_loss"]
    rates = ["optimizer.base_lr=1e-2,1e-9", "optimizer.head_lr=${optimizer.base_lr}"]
    command = ["-m", *tiny, "trainer.ema_decay=0", *pruner, *rates, "hydra.sweep.dir=s"]
    code, output, error = run(*command)
    assert (code, error) == (0, "")
    assert "pruned after epoch 2: others did better; resume=s/1_" in output
    first, second = _jobs(tmp_path / "s")
    assert (first.status, second.status) == ("complete", "pruned")
    history = read_json(second.folder / "history.json")
    assert len(history) == 2 and second.value == min(row["valid_loss"] for row in history)
    assert read_json(second.folder / "status.json")["status"] == "pruned"
    assert (
        read_json(second.folder / "metrics.json")["epochs"] == 2 and (second.folder / "confusion_matrix.png").exists()
    )
    assert run(*command)[1].startswith("2 jobs: all are done, nothing is left to do\n")
    code, output, error = run(f"resume=s/{second.folder.name}")
    assert (code, error) == (0, "")
    assert len(read_json(second.folder / "history.json")) == 3
    assert [(job.status, job.overrides) for job in _jobs(tmp_path / "s")[1:]] == [("complete", second.overrides)]
    assert run(*command)[1].startswith("2 jobs: all are done, nothing is left to do\n")
    assert "2 jobs: 2 complete" in wording.counts(study.read_study([tmp_path / "s"]))


def test_two_processes_do_not_sweep_in_one_folder(start: Start, run: Run, tiny: list[str]) -> None:
    command = ["-m", *tiny, "seed=1,2", "hydra.sweep.dir=s"]
    first = start(*command, hold=("step", 1)).wait_until_held()
    code, output, error = run(*command)
    assert (code, output) == (2, "")
    assert error.startswith("error: sweep folder in use in s: another process sweeps in it\nhint: wait for it")
    first.go_on()
    assert first.wait() == 0, first.stderr


def test_a_run_and_a_sweep_do_not_meet_in_a_folder(run: Run, tiny: list[str], reference: Path, tmp_path: Path) -> None:
    shutil.copytree(reference, tmp_path / "run")
    before = content(tmp_path / "run")
    code, output, error = run("-m", *tiny, "seed=1,2", "hydra.sweep.dir=run")
    assert (code, output) == (2, "") and error.startswith("error: used folder in run: it holds a run, and a sweep has")
    assert content(tmp_path / "run") == before
    assert run("-m", *tiny, "trainer.epochs=1", "seed=1", "hydra.sweep.dir=s")[::2] == (0, "")
    before = content(tmp_path / "s")
    for start in ([], ["resume=auto"]):
        code, output, error = run(*tiny, "hydra.run.dir=s", *start)
        assert (code, output) == (2, "") and error.startswith("error: used run folder in "), error
        assert "/s: it holds a sweep\nhint: choose another folder with hydra.run.dir=" in error
    assert before.items() <= content(tmp_path / "s").items()


def test_complete_jobs_leave_their_best_model_alone(run: Run, tiny: list[str], tmp_path: Path) -> None:
    """With `sweep.keep_states=true` also what is needed to go on."""
    command = ["-m", *tiny, "hydra.sweep.dir=s", "trainer.epochs=1"]
    assert run(*command, "seed=1,2")[::2] == (0, "")
    assert [job.status for job in _jobs(tmp_path / "s")] == ["complete"] * 2
    assert len(list((tmp_path / "s").glob("*/best_model.pt"))) == 2 and not list((tmp_path / "s").glob("*/last.pt"))
    code, output, _ = run("resume=s")
    assert code == 0 and output.startswith("2 jobs: all are done, nothing is left to do")
    assert run("resume=s/0_seed=1")[1] == "s/0_seed=1 holds a complete run: nothing is left to do\n"
    code, _, error = run("resume=s/0_seed=1", "trainer.epochs=2")
    place = tmp_path / "s" / "0_seed=1"
    assert (
        code == 2 and f"missing state in {place / 'last.pt'}: the run is complete, and its state was not kept" in error
    )
    code, _, error = run("resume=s/0_seed=1", "model.dropout=0.7")
    assert code == 2 and f"error: changed settings in {place}: the run began with others\n  model.dropout: " in error
    assert run(*command, "seed=3", "sweep.keep_states=true")[::2] == (0, "")
    assert [path.parent.name for path in (tmp_path / "s").glob("*/last.pt")] == ["2"]
    assert "continuing after epoch 1" in run("resume=s/2", "trainer.epochs=2")[1]
    assert "continuing after epoch 2" in run("resume=s/2", "trainer.epochs=3")[1], "whoever goes on by hand can again"


@pytest.mark.parametrize(
    ("number", "epochs", "has_state", "goes_on"),
    [(signal.SIGTERM, 1, True, ["1"]), (signal.SIGKILL, 1, False, []), (signal.SIGKILL, 2, True, ["1"])],
)
def test_a_job_that_is_cut_off_after_its_last_step_goes_on(
    number: int,
    epochs: int,
    has_state: bool,
    goes_on: list[str],
    start: Start,
    run: Run,
    tiny: list[str],
    tmp_path: Path,
) -> None:
    """Where it was stopped; a killed one after the epoch before, whose state lies there, or from its beginning."""
    command = ["-m", *tiny, f"trainer.epochs={epochs}", "seed=1,2", "hydra.sweep.dir=s"]
    start(*command, hold=("sync metrics.json", 1)).wait_until_held().send(number).wait()
    job = tmp_path / "s" / "0_seed=1"
    assert (job / "best_model.pt").exists() and (job / "last.pt").exists() == has_state
    code, output, error = run("resume=s")
    assert (code, error) == (0, "")
    assert [job.status for job in _jobs(tmp_path / "s")] == ["complete"] * 2
    assert re.findall(r"continuing after epoch (\d)", output) == goes_on
    assert run(*tiny, f"trainer.epochs={epochs}", "seed=1", "hydra.run.dir=alone")[::2] == (0, "")
    assert outcome(job) | {"files": set()} == outcome(tmp_path / "alone") | {"files": set()}
    assert {path.name for path in (tmp_path / "s").glob("*/*.pt")} == {"best_model.pt"}


@pytest.mark.parametrize(
    ("sweeper", "keep_states", "needed", "best"),
    [("Basic", True, "5 MB", "1 MB"), ("Basic", False, "1 MB", None), ("Optuna", True, "30 MB", "6 MB")],
)
def test_a_disk_that_may_become_full_is_told(
    sweeper: str, keep_states: bool, needed: str, best: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the jobs of a grid that are left, and for as many trials of a search, whatever was tried before."""
    of_sweep = Multirun([], [], set(), tmp_path, {"_target_": f"hydra.x.{sweeper}Sweeper"}, {})
    jobs = Jobs("train", of_sweep, config_dirs=[], check=lambda *_: None)
    jobs.sizes = {"a": (400_000, 1_600_000), "b": (600_000, 2_400_000), "done": (600_000, 2_400_000)}
    jobs.configurations = {"a": SimpleNamespace(sweep=SimpleNamespace(keep_states=keep_states))}
    todo = [] if sweeper == "Optuna" else ["a", "b"]
    free = 100_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert list(multirun._scarce_room(jobs, todo, num_jobs=10)) == []
    free = 900_000
    less = f"; with sweep.keep_states=false {best}" if best else ""
    line = f"the jobs leave up to {needed}, 900 kB are free{less}"
    assert list(multirun._scarce_room(jobs, todo, num_jobs=10)) == [line]


@pytest.mark.parametrize(
    ("launcher", "is_ours"), [("core_plugins.basic_launcher.BasicLauncher", True), ("Joblib", False)]
)
def test_jobs_of_this_process_are_composed_in_short(
    launcher: str, is_ours: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Other launchers take Hydra's loader to other processes."""
    monkeypatch.setattr(multirun.signals, "end_with_children", lambda words: None)
    given: list[HydraContext] = []
    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda self, hydra_context, **_: given.append(hydra_context))
    of_sweep = Multirun([], [], set(), tmp_path, {"_target_": "a.BasicSweeper"}, {"_target_": f"hydra.{launcher}"})
    jobs = Jobs("train", of_sweep, config_dirs=[], check=lambda *_: None)
    usual = HydraContext(config_loader="Hydra's", callbacks="the user's")

    def start(_: object) -> None:
        assert isinstance(Plugins.instance().instantiate_launcher(hydra_context=usual, config={}), LedgerLauncher)

    with Ledger(tmp_path / "s") as ledger:
        multirun._launch(lambda cfg: 0.0, jobs, ledger, start)
    assert isinstance(given[0].config_loader, JobLoader) == is_ours
    assert given[0].callbacks == "the user's" and (is_ours or given == [usual])
