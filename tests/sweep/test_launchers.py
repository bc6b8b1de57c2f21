"""Hydra's other launchers give the same results as its basic one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hybridnet.config import CONF_DIR
from hybridnet.sweep.ledger import Ledger
from tests.conftest import Command, wait_until

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., Command]


@pytest.mark.parametrize(
    ("launcher", "package"),
    [
        ("joblib", "hydra_plugins.hydra_joblib_launcher"),
        pytest.param("ray", "hydra_plugins.hydra_ray_launcher", marks=pytest.mark.slow),
        pytest.param("submitit_local", "hydra_plugins.hydra_submitit_launcher", marks=pytest.mark.slow),
    ],
)
def test_jobs_side_by_side_give_the_same_results(
    run: Run, tiny: list[str], tmp_path: Path, launcher: str, package: str
) -> None:
    pytest.importorskip(package)
    sweep = ["-m", *tiny, "trainer.epochs=1", "sweep.num_threads=2", "optimizer.head_lr=1e-3,1e+30"]
    assert run(*sweep, "hydra.sweep.dir=basic")[0] == 1
    code, _, error = run(*sweep, f"hydra/launcher={launcher}", "hydra.sweep.dir=other")
    assert code == 1 and error.count("error: failed job in ") == 1, error
    basic, other = (Ledger(tmp_path / name).jobs() for name in ("basic", "other"))
    assert [job.status for job in other] == ["complete", "failed"]
    for one, two in zip(basic, other, strict=True):
        assert (one.identity, one.value, one.error, one.folder.name) == (
            two.identity,
            two.value,
            two.error,
            two.folder.name,
        )
        if one.is_done:
            assert (one.folder / "history.json").read_bytes() == (two.folder / "history.json").read_bytes()
        else:
            assert "Traceback" in (two.folder / "train.log").read_text()
    assert "Warning" not in error


def test_ray_may_be_a_cluster_that_runs_already() -> None:
    """The launcher would add the size of a store of its own, which Ray refuses to give to another's."""
    init = OmegaConf.load(CONF_DIR / "hydra" / "launcher" / "ray.yaml").ray.init
    init.setdefault("object_store_memory", 78_643_200)  # as the launcher does
    assert init.object_store_memory is None


@pytest.mark.parametrize(
    ("number", "sent"),
    [
        pytest.param(signal.SIGTERM, os.kill, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, os.kill, marks=pytest.mark.slow),
        (signal.SIGINT, os.killpg),
    ],
    ids=["SIGTERM", "SIGINT", "Ctrl-C"],
)
def test_a_sweep_that_is_stopped_saves_its_jobs_and_leaves_no_process(
    start: Start, tiny: list[str], tmp_path: Path, number: int, sent: Callable[[int, int], None]
) -> None:
    """A terminal's Ctrl-C reaches the processes of the jobs too."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = ["-m", *tiny, "hydra/launcher=joblib", "seed=1,2", "hydra.sweep.dir=s"]
    command = start(*sweep, "trainer.epochs=1000", "trainer.patience=0")
    wait_until(lambda: len(list((tmp_path / "s").glob("*/last.pt"))) == 2, "both jobs have saved an epoch")
    sent(command.process, number)
    assert command.wait() == 128 + number, command.stderr
    wait_until(lambda: not [line for line in command.session().values() if "loky.backend.popen" in line], "they end")
    jobs = Ledger(tmp_path / "s").jobs()
    assert [(job.status, job.attempt) for job in jobs] == [("stopped", 1)] * 2
    for job in jobs:
        assert (job.folder / "last.pt").exists() and "stopped; continue with" in (job.folder / "train.log").read_text()


@pytest.mark.slow
def test_a_signal_that_is_handed_on_to_a_job_counts_once(run: Run, tiny: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = ["-m", *tiny, "hydra/launcher=joblib", "model/backbone=interrupted", "seed=1,2", "hydra.sweep.dir=s"]
    code, _, error = run(*sweep, "trainer.epochs=1")
    assert code == 0, error
    logs = [file.read_text() for file in (tmp_path / "s").glob("*/train.log")]
    assert any("continuing after epoch 0, batch 2" in text for text in logs), logs
