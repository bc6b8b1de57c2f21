"""How long a training takes to begin, and a sweep's job beside its training: `train.py`, in processes of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hybridnet.errors import Fault, TrainingError
from hybridnet.files import read_json
from hybridnet.measure.rounds import Spread

NUM_JOBS = 27
NUM_PARTS = 2  # beside the rounds: the first start, and the sweep
# On the embedded data, of which few are enough: an epoch is one step.
SHORT = ("data.train_limit=32", "data.valid_limit=10", "data.cache_dir=store")
RATES = [f"{number + 1}e-5" for number in range(NUM_JOBS)]  # of learning, by which the jobs differ


class Startup(NamedTuple):
    """Seconds.

    Attributes:
        first_step: from the start of the process to the end of the first step.
        job: of a job among many of a sweep in one process, beside its training steps.
    """

    first_step: Spread
    job: Spread


def measure_startup(script: Path, overrides: Sequence[str], *, rounds: int) -> Iterator[Startup | None]:
    """Start a training some times and a sweep once, in a folder that is deleted.

    Args:
        script: train.py.
        overrides: of every training, such as its device and its single epoch.
        rounds: starts that count; one before them makes the data.

    Yields:
        None after each start; the seconds in the end.

    Raises:
        TrainingError: if one of them fails.
    """
    settings = [*SHORT, *overrides]
    with TemporaryDirectory(prefix="hybridnet_startup_") as folder:
        starts = []
        for number in range(rounds + 1):
            starts.append(_first_step(script, [*settings, f"hydra.run.dir=run{number}"], Path(folder)))
            yield None
        jobs = _jobs(script, [*settings, f"optimizer.base_lr={','.join(RATES)}", "hydra.sweep.dir=sweep"], Path(folder))
    yield Startup(Spread.of(starts[1:]), Spread.of(jobs))


def _first_step(script: Path, overrides: Sequence[str], folder: Path) -> float:
    start = time.monotonic()
    printed = _run(["-m", "hybridnet.measure.first_step", str(script), *overrides], folder)
    return float(printed.split()[-1]) - start


def _jobs(script: Path, overrides: Sequence[str], folder: Path) -> list[float]:
    """Of every job but the first, which imports what the others use: from the end of the one before to its own."""
    _run([str(script), "-m", *overrides], folder)
    files = sorted((folder / "sweep").glob("*/metrics.json"), key=lambda file: file.stat().st_mtime_ns)
    ends = [file.stat().st_mtime_ns / 1e9 for file in files]
    steps = [read_json(file)["train_seconds"] for file in files]
    return [after - before - own for (before, after), own in zip(itertools.pairwise(ends), steps[1:], strict=True)]


def _run(arguments: Sequence[str], folder: Path) -> str:
    ended = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"it ended with {ended.returncode}"]
        cause = next((line.removeprefix("error: ") for line in said if line.startswith("error: ")), said[-1])
        raise TrainingError(Fault("failed start", "startup=true", cause, "startup=false"))
    return ended.stdout
