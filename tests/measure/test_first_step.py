"""A training ends with its first step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybridnet import config


def test_it_ends_there(command: Callable[..., Any], stripes: Path, tmp_path: Path) -> None:
    script = str(config.train_script(hint=""))
    pair = [f"data.metadata={stripes / 'metadata.csv'}", f"data.label2id={stripes / 'label2id.json'}"]
    small = ["data=metadata", *pair, "data.image_size=64", "data.batch_size=32", "trainer.device=cpu", "model=plain"]
    start = time.monotonic()
    result = command("-m", "hybridnet.measure.first_step", script, *small, "trainer.epochs=9", "hydra.run.dir=run")
    assert (result.returncode, result.stderr) == (0, "")
    assert start < float(result.stdout.split()[-1]) < time.monotonic()
    assert (tmp_path / "run" / "train.log").exists() and not (tmp_path / "run" / "history.csv").exists()
