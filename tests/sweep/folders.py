"""Sweep folders as a sweep would leave them, without training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridnet.files import write_json, write_text
from hybridnet.sweep.ledger import SWEEP, Ledger
from hybridnet.sweep.record import Job

ALWAYS = ["model.size=lite", "trainer.epochs=3"]


class SweepFolder:
    """Writes jobs into a sweep's folder.

    Args:
        folder: is made.
        monitor: the metric.
        config_dir: the user's own.
        is_search: whether it is one.
    """

    def __init__(
        self, folder: Path, *, monitor: str = "valid_acc", config_dir: str | None = None, is_search: bool = False
    ) -> None:
        self.folder = folder
        self.monitor = monitor
        self.num_jobs = 0
        folder.mkdir(parents=True)
        asked = {"overrides": ["typed"], "config_dir": config_dir, "monitor": monitor, "num_jobs": 1, "num_threads": 1}
        write_json(folder / SWEEP, asked | {"is_search": is_search})

    def jobs(self) -> list[Job]:
        """As they lie there."""
        return Ledger(self.folder).jobs()

    def add(
        self,
        value: float | None,
        *swept: str,
        status: str = "complete",
        error: str | None = None,
        curve: Sequence[float] | None = None,
        always: Sequence[str] = ALWAYS,
        saved: str | None = None,
        identity: str | None = None,
        pictures: str | None = None,
        **metrics: Any,
    ) -> Job:
        """A job with the best value `value`.

        Args:
            curve: values of the metric by epoch.
            always: overrides of all jobs.
            saved: text of `.hydra/config.yaml`.
            pictures: digest of those that it was validated on.
        """
        number = self.num_jobs
        self.num_jobs += 1
        folder = self.folder / f"{number}_{','.join(text.rpartition('.')[2] for text in swept)}".replace("/", "-")
        folder.mkdir()
        overrides = [*always, *swept]
        job = Job(number, folder, identity or f"{self.folder}{number}", overrides, list(swept))
        attempt = 0 if status == "pending" else 1
        Job(**{**job.__dict__, "status": status, "value": value, "error": error, "attempt": attempt}).write()
        if curve is None and value is not None:
            worse = 0.8 if not self.monitor.endswith("loss") else 1.2
            curve = [value * worse, value, value * (1 + worse) / 2]
        if curve is not None:
            rows = [{"epoch": n, "train_loss": 1 / n, self.monitor: v} for n, v in enumerate(curve, start=1)]
            write_json(folder / "history.json", rows)
        if value is not None:
            write_json(folder / "metrics.json", {self.monitor: value, "best_epoch": 2, "epochs": 3, **metrics})
            seed = next((text[5:] for text in overrides if text.startswith("seed=")), "42")
            environment: dict[str, Any] = {
                "seed": int(seed),
                "git_commit": "abc1234",
                "device_name": "a test's machine",
                "precision": "bf16",
            }
            environment |= {} if pictures is None else {"data": {"train": "t", "valid": pictures}}
            write_json(folder / "environment.json", environment)
        if saved is not None:
            (folder / ".hydra").mkdir()
            write_text(folder / ".hydra" / "config.yaml", saved)
        return job


def large(folder: Path, *, seeds: int = 3) -> SweepFolder:
    """27 jobs and three axes: heads, reduction, dropout; pseudo-random results."""
    sweep = SweepFolder(folder)
    for heads in (2, 4, 8):
        for reduction in (16, 32, 64):
            for dropout in (0.1, 0.2, 0.3)[: 1 if seeds == 3 else 3]:
                for seed in range(seeds):
                    noise = math.sin(12.9898 * sweep.num_jobs) * 0.006
                    value = 0.9 + 0.004 * heads - 0.0001 * reduction + noise
                    swept = [f"model.heads={heads}", f"model.reduction={reduction}", f"model.dropout={dropout}"]
                    curve = [value * (1 - 0.5 / n**1.2) for n in range(1, 10)] + [value]
                    sweep.add(
                        value,
                        *swept,
                        f"seed={seed}",
                        curve=curve,
                        train_seconds=30 + 2 * heads + noise * 100,
                        num_parameters=11_000_000 + 50_000 * heads,
                        valid_acc=value,
                        valid_loss=1 - value,
                    )
    return sweep
