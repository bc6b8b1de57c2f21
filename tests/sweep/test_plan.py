from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from hybridnet import config, experiment
from hybridnet.config import DictConfig
from hybridnet.errors import InputError
from hybridnet.sweep import plan
from hybridnet.sweep.plan import _require_installed

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            "monitor=valid_acc,valid_loss",
            "error: wrong sweep in monitor: values of different metrics cannot be compared",
        ),
        ("sweep.on_error=ask", "error: wrong value in sweep.on_error=ask: expected continue or stop, got 'ask'"),
        (
            "seed=1,2 verify_resume=true",
            "error: wrong value in verify_resume=true: a verification is one run's, no sweep's",
        ),
        (
            "hydra/sweeper=optuna model.dropout=interval(0,1.5)",
            "error: impossible job in model.dropout=1.5: no job was started",
        ),
        (
            "hydra/sweeper=optuna model.dropout=interval(0.3,0.1)",
            "error: wrong value in model.dropout=interval(0.3,0.1): its end is below its start (0.3)",
        ),
        (
            "hydra/sweeper=optuna optimizer.base_lr=tag(log,interval(0,1e-3))",
            "error: wrong value in optimizer.base_lr=tag(log,interval(0,1e-3)): it begins at 0, which has no logarithm",
        ),
        (
            "hydra/sweeper=optuna seed=1,2 hydra.sweeper.n_trials=0",
            "error: wrong value in hydra.sweeper.n_trials=0: it is no whole number from 1",
        ),
        (
            "hydra/sweeper=optuna seed=1,2 hydra.sweeper.n_trials=many",
            "error: wrong value in hydra.sweeper.n_trials=many: it is no whole number from 1",
        ),
        (
            "hydra/sweeper=optuna seed=1,2 hydra.sweeper.n_jobs=0",
            "error: wrong value in hydra.sweeper.n_jobs=0: it is no whole number from 1",
        ),
        (
            "hydra/sweeper=optuna seed=1,2 hydra.sweeper.max_failure_rate=2",
            "error: wrong value in hydra.sweeper.max_failure_rate=2: it is no number from 0 to 1",
        ),
        (
            "hydra/sweeper=optuna seed=1,2 hydra.sweeper.study_name=null",
            "error: wrong value in hydra.sweeper.study_name=null: without a name the search could not go on",
        ),
        (
            "hydra/sweeper=optuna hydra/sweeper/sampler=grid seed=1,2",
            "hint: leave out hydra/sweeper=optuna and its sampler; a grid has values: model.heads=2,4",
        ),
        (
            "seed=1,2 hydra.sweeper.max_batch_size=0",
            "error: wrong value in hydra.sweeper.max_batch_size=0: it is no number of jobs",
        ),
        (
            "model.dropout=interval(0,0.1)",
            "hint: an interval is for a search, hydra/sweeper=optuna; a grid has values: 0.1,0.2",
        ),
        ("model=glob(nothing*)", "error: wrong value in model=glob(nothing*): it holds no value"),
        ("model.dropout=range(0.5,0.1)", "error: wrong value in model.dropout=range(0.5,0.1): it holds no value"),
        ("sweep.try=false", "error: unknown key in sweep.try: sweep has no 'try'"),
        ("+sweep=nothing", "error: unknown option in sweep=nothing: no such file in conf"),
        ("seed=1,2 pruner=medan", "error: unknown option in pruner=medan: no such file in conf"),
        ("seed=choice(1,", "error: unreadable override in seed=choice(1,: no viable alternative at input 'choice(1,'"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said_before_it_starts(
    run: Run, tmp_path: Path, arguments: str, error: str
) -> None:
    code, output, said = run("-m", *arguments.split())
    assert (code, output) == (2, "")
    assert error in said.splitlines(), said
    assert list(tmp_path.iterdir()) == []


def test_many_jobs_take_a_while_to_check_which_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "MANY", 3)
    monkeypatch.setattr("hybridnet.config.trust_jobs", lambda: None)  # for ever, in this process
    for seeds, said in (("0,1", ""), ("0,1,2", "checking 3 jobs before the first one starts\n")):
        typed = [f"seed={seeds}", "model=plain", f"hydra.sweep.dir={tmp_path}"]
        _, grid = plan.plan("train", typed, config_dirs=[], check=lambda cfg, **_: experiment.check(cfg))
        assert len(grid) == len(seeds.split(",")) and capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("launcher", "is_here"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", True),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", True),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", False),
    ],
)
def test_files_are_looked_for_where_the_jobs_run(
    launcher: str, is_here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster that may be another machine."""
    told: list[bool] = []

    def check(cfg: DictConfig, *, defaults: DictConfig, is_new: bool) -> nn.Module:
        told.append(is_new)
        return experiment.check(cfg, defaults=defaults)

    monkeypatch.setattr("hybridnet.config.trust_jobs", lambda: None)
    monkeypatch.setattr(plan, "_require_installed", lambda target: None)
    asked_for = config.multirun("train", ["seed=0,1", "model=plain", f"hydra.sweep.dir={tmp_path}"])
    chosen = asked_for._replace(launcher={"_target_": launcher})
    monkeypatch.setattr("hybridnet.config.multirun", lambda *_, **__: chosen)
    plan.plan("train", [], config_dirs=[], check=check)
    assert told == [is_here] * 2


def test_a_plugin_that_is_not_installed_is_named_with_its_extra() -> None:
    _require_installed("hydra._internal.core_plugins.basic_launcher.BasicLauncher")
    with pytest.raises(
        InputError, match=r'hydra_plugins.nowhere_ray is not installed\nhint: pip install -e "\.\[ray\]"'
    ):
        _require_installed("hydra_plugins.nowhere_ray.launcher.Launcher")
    with pytest.raises(InputError, match="hint: install what provides hydra_plugins.other"):
        _require_installed("hydra_plugins.other.launcher.Launcher")
