"""A training's start and a sweep's jobs are timed in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet import config
from hybridnet.errors import TrainingError
from hybridnet.measure.rounds import Spread
from hybridnet.measure.startup import NUM_JOBS, NUM_PARTS, Startup, measure_startup

# Alone it says that it took a second to its first step, at the first time 500; each of its jobs takes a half beside
# its steps.
SCRIPT = f"""
import json, os, sys, time
from pathlib import Path
from hybridnet.console import Display
assert "data.train_limit=32" in sys.argv and "trainer.device=cpu" in sys.argv, sys.argv
if "-m" not in sys.argv:
    folder = Path(next(text for text in sys.argv if text.startswith("hydra.run.dir=")).split("=")[1])
    folder.mkdir()
    wait = 1 if Path("data").exists() else 500
    Path("data").mkdir(exist_ok=True)
    now = time.monotonic()
    time.monotonic = lambda: now + wait
    Display.step(None, 1, 1, 0.7, 0.5, 30.0)
    raise SystemExit("it was not ended")
(rates,) = (text for text in sys.argv if text.startswith("optimizer.base_lr="))
assert len(set(rates.split(","))) == {NUM_JOBS}
end = 1e9
for number in range({NUM_JOBS}):
    file = Path("sweep", str(number), "metrics.json")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({{"train_seconds": 1 + number}}))
    end += 100 if number == 0 else 1.5 + number
    os.utime(file, (end, end))
"""


def test_what_is_timed(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    *parts, found = measure_startup(script, ["trainer.device=cpu"], rounds=2)
    assert parts == [None] * 3 and len(parts) + 1 == 2 + NUM_PARTS
    assert found is not None and 1 <= found.first_step.low <= found.first_step.high < 4, "the one that makes the data"
    assert found.job == pytest.approx(Spread(0.5, 0.5, 0.5), abs=1e-5)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import sys; sys.exit('a warning\\nerror: no room in /tmp\\nhint: make some')", "no room in /tmp"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import os; os._exit(3)", "it ended with 3"),
    ],
)
def test_a_start_that_fails(code: str, cause: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(code)
    with pytest.raises(TrainingError, match=f"failed start in startup=true: {cause}\nhint: startup=false"):
        list(measure_startup(script, [], rounds=1))


@pytest.mark.slow
def test_a_real_one() -> None:
    *_, found = measure_startup(
        config.train_script(hint=""), ["trainer.device=cpu", "trainer.epochs=1", "model=ca"], rounds=1
    )
    assert isinstance(found, Startup)
    assert 1 < found.first_step.median < 60 and 0 < found.job.median < 10
