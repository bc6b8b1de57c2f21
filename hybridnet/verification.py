"""Whether a run that was interrupted ends bit for bit where an uninterrupted one does, on this machine."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from hybridnet import config
from hybridnet.checkpoint import LAST, load_checkpoint
from hybridnet.config import DictConfig
from hybridnet.errors import Fault, Stopped, TrainingError
from hybridnet.files import read_json, write_json
from hybridnet.run import RunFolder, refuse_used_folder
from hybridnet.signals import Interruption

log = logging.getLogger(__name__)

RUNS = ("uninterrupted", "interrupted")  # their folders
NUM_EPOCHS, NUM_BATCHES = 2, 6
DIFFERENT_EVERY_TIME = ("train_images_per_second", "train_seconds", "data_wait_seconds", "peak_memory_bytes")

TrainIn = Callable[[RunFolder, DictConfig, Any], float]


def require_unused(folder: Path) -> None:
    """Refuse a folder that has the runs of another verification, before anything in it is changed.

    Raises:
        InputError: if it has.
    """
    for name in RUNS:
        refuse_used_folder(folder / name)


def verify_resume(run: RunFolder, cfg: DictConfig, interruption: Interruption, *, train_in: TrainIn) -> float:
    """Train a short run of these settings twice, once interrupted in its second epoch, and compare all results.

    Both leave complete run folders in the folder of `run`, beside `verify_resume.json` with the verdict.

    Args:
        run: gets both runs.
        cfg: of the whole run; it is trained on a few batches for two epochs.
        interruption: a real one ends the verification.
        train_in: trains in a run folder, from the beginning or from its checkpoint.

    Returns:
        The monitored metric, which means nothing after so short a training.

    Raises:
        TrainingError: if anything differs.
    """
    short = _shortened(cfg)
    log.info("training without an interruption")
    whole, parted = (run.folder / name for name in RUNS)
    questions = _StopAt(interruption, question=None)
    with RunFolder(whole) as folder:
        metric = train_in(folder, short, questions)

    log.info("training once more, with an interruption")
    stop = _StopAt(interruption, question=questions.num_asked * 3 // 4)
    try:
        with RunFolder(parted) as folder:
            train_in(folder, short, stop)
    except Stopped:
        if interruption.pending():
            raise
    with RunFolder(parted, is_continued=True) as folder:
        train_in(folder, short, interruption)

    different = differences(whole, parted)
    verdict = "different" if different else "bit for bit the same"
    write_json(run.folder / "verify_resume.json", {"verdict": verdict, "different": different})
    log.info(f"interrupted and continued, against uninterrupted: {verdict}")
    if different:
        hint = "a GPU needs trainer.deterministic=true; if that does not help, report it with environment.json"
        raise TrainingError(Fault("inexact resume", str(run.folder), f"{', '.join(different)} differ", hint))
    return metric


def differences(one: Path, other: Path) -> list[str]:
    """What two finished runs do not have in common, to the last bit; times and memory aside."""
    found = []
    for name in ("history.json", "predictions.csv"):
        if (one / name).read_bytes() != (other / name).read_bytes():
            found.append(name)
    if _comparable(read_json(one / "metrics.json")) != _comparable(read_json(other / "metrics.json")):
        found.append("metrics.json")
    for name, entries in (("best_model.pt", ["model"]), (LAST, ["model", "average", "best", "optimizer", "random"])):
        contents = [load_checkpoint(folder / name) for folder in (one, other)]
        found += [f"{entry} in {name}" for entry in entries if not same(*(content[entry] for content in contents))]
    return found


def same(one: Any, other: Any) -> bool:
    """Whether nested dictionaries and lists hold the same values, tensors to the last bit."""
    kinds = (torch.Tensor, dict, list | tuple)
    if any(isinstance(one, kind) != isinstance(other, kind) for kind in kinds):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bits(one), _bits(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)  # of numbers, 0 equals -0, and NaN not even itself


class _StopAt:
    """Stands in for an interruption: asks to stop at the given question."""

    def __init__(self, real: Interruption, *, question: int | None) -> None:
        self.real = real
        self.question = question
        self.num_asked = 0

    def pending(self) -> Stopped | None:
        self.num_asked += 1
        return self.real.pending() or (Stopped(signal.SIGTERM) if self.num_asked == self.question else None)

    def deferred(self) -> AbstractContextManager[None]:
        return self.real.deferred()


def _shortened(cfg: DictConfig) -> DictConfig:
    limits = {"train_limit": NUM_BATCHES * cfg.data.batch_size, "valid_limit": 2 * cfg.data.batch_size}
    values = {f"data.{name}": min(limit, config.select(cfg, f"data.{name}") or limit) for name, limit in limits.items()}
    return config.with_values(cfg, {**values, "trainer.epochs": NUM_EPOCHS, "trainer.patience": 0})


def _comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in DIFFERENT_EVERY_TIME}
