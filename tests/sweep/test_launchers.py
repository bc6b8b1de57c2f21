"""Hydra's other launchers give the same results as its basic one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridnet.sweep.ledger import Ledger

Run = Callable[..., tuple[int, str, str]]


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
    sweep = ["-m", *tiny, "trainer.epochs=1", "optimizer.head_lr=1e-3,1e+30", "seed=1,2"]
    assert run(*sweep, "hydra.sweep.dir=basic")[0] == 1
    code, _, error = run(*sweep, f"hydra/launcher={launcher}", "hydra.sweep.dir=other")
    assert code == 1 and error.count("error: failed job in ") == 2, error
    basic, other = (Ledger(tmp_path / name).jobs() for name in ("basic", "other"))
    assert [job.status for job in other] == ["complete", "complete", "failed", "failed"]
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
