"""The run folder: claimed by one run, filled with whole files, and always saying how the run ended."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridnet import __version__
from hybridnet.checkpoint import save_checkpoint
from hybridnet.console import Display, duration, print_table
from hybridnet.errors import Fault, InputError
from hybridnet.files import csv_text, try_lock, write_json, write_text
from hybridnet.trainer.metrics import Evaluation
from hybridnet.trainer.supervised import State

log = logging.getLogger(__name__)

# A folder with one of these holds results that must not be overwritten.
RESULTS = ("history.json", "last.pt", "best_model.pt", "metrics.json")


class RunFolder:
    """Context manager around a run: `status.json` says running, then complete, failed or stopped.

    Args:
        folder: is created if needed.

    Raises:
        InputError: if the folder belongs to another run or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started = _now()

    def __enter__(self) -> RunFolder:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / ".lock").open("w", encoding="utf-8")
        except OSError as error:
            hint = "choose another place with hydra.run.dir=<folder>"
            raise InputError(Fault("unusable run folder", str(self.folder), error.strerror or "", hint)) from error
        try:
            if not try_lock(self._lock):
                raise InputError(_used(self.folder))
            refuse_used_folder(self.folder)
        except BaseException:
            self._lock.close()
            raise
        self._write_status("running")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._write_status("complete")
        else:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            if not stopped and not isinstance(error, InputError):
                log.error(f"failed; {_short(self.folder) / 'train.log'} has the traceback", exc_info=error)
            if stopped:
                has_epochs = (self.folder / "last.pt").exists()
                rest = f"; {_short(self.folder)} holds the finished epochs" if has_epochs else " in the first epoch"
                log.info(f"stopped{rest}")
            self._write_status("stopped" if stopped else "failed", error=f"{type(error).__name__}: {error}")
        self._lock.close()

    def _write_status(self, status: str, *, error: str | None = None) -> None:
        times = {"started": self._started, "ended": None if status == "running" else _now()}
        write_json(self.folder / "status.json", {"status": status, "error": error, **times, "pid": os.getpid()})

    def write_environment(self, *, device: torch.device, precision: str, seed: int) -> None:
        """Write `environment.json`: what somebody needs to know to repeat the run."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
        write_json(
            self.folder / "environment.json",
            {
                "command": sys.orig_argv,
                "working_directory": str(Path.cwd()),
                "seed": seed,
                "device": str(device),
                "device_name": name or platform.machine(),
                "precision": precision,
                "threads": torch.get_num_threads(),
                "cpu_count": os.cpu_count(),
                "platform": platform.platform(),
                "python": platform.python_version(),
                "hybridnet": __version__,
                "git_commit": _git_commit(),
                "packages": _package_versions(),
                "cuda": torch.version.cuda,
            },
        )

    def write_left_out(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        """Write `left_out.csv`: line, path, split and cause of every row of the table that is not used."""
        (self.folder / "left_out.csv").unlink(missing_ok=True)  # of a run that failed here before its first results
        if rows:
            write_text(self.folder / "left_out.csv", csv_text([("line", "path", "split", "cause"), *rows]))

    def write_predictions(self, evaluation: Evaluation, *, paths: list[str], classes: list[str]) -> None:
        """Write `predictions.csv`: path, label, prediction and the probability of each class."""
        rows = [["path", "label", "prediction", *(f"probability_{name}" for name in classes)]]
        answers = zip(
            paths,
            evaluation.labels.tolist(),
            evaluation.predictions.tolist(),
            evaluation.probabilities.tolist(),
            strict=True,
        )
        for path, label, prediction, probabilities in answers:
            rows.append([path, classes[label], classes[prediction], *(f"{p:.6f}" for p in probabilities)])
        write_text(self.folder / "predictions.csv", csv_text(rows))

    def write_metrics(
        self,
        state: State,
        evaluation: Evaluation,
        *,
        classes: list[str],
        num_parameters: int,
        num_leaked: int,
        monitor: str,
    ) -> dict[str, Any]:
        """Write `metrics.json`: the best epoch's figures, from the best model as it was saved; returns them."""
        best = state.best_row
        per_class = evaluation.per_class()
        names = ("precision", "recall", "f1", "support")
        metrics = {
            **evaluation.summary(),
            "train_acc": best["train_acc"],
            "train_loss": best["train_loss"],
            "best_epoch": state.best_epoch,
            "monitor": monitor,
            f"best_{monitor}": best[monitor],
            "epochs": state.epoch,
            "steps": state.step,
            "num_parameters": num_parameters,
            "train_images_per_second": state.num_images / state.train_seconds,
            "train_seconds": state.train_seconds,
            "data_wait_seconds": state.wait_seconds,
            "peak_memory_bytes": _peak_memory_bytes(),
            "num_valid": len(evaluation.labels),
            "num_leaked": num_leaked,
            "per_class": {
                label: {name: per_class[name][i].item() for name in names} for i, label in enumerate(classes)
            },
            "confusion_matrix": evaluation.confusion().tolist(),
        }
        write_json(self.folder / "metrics.json", metrics)
        return metrics

    def draw(self, state: State, evaluation: Evaluation, data: Any, *, title: str) -> None:
        """Draw the curves, the confusion matrix, and the first training batch as the model saw it."""
        from hybridnet import figures  # matplotlib costs half a second: not before the first step

        accuracy = f"{evaluation.accuracy():.2%} of {len(evaluation.labels):,}"
        figures.plot_history(self.folder / "training_plot.png", state.history, best_epoch=state.best_epoch, title=title)
        figures.plot_confusion(
            self.folder / "confusion_matrix.png",
            evaluation.confusion().numpy(),
            classes=data.classes,
            title=f"{title}: {accuracy}",
        )
        batch = data.first_train_batch()
        images = data.normalize.undo(data.to_input(batch, torch.float32)).numpy()
        labels = [data.classes[label] for label in batch.labels.tolist()]
        figures.plot_samples(
            self.folder / "samples.png", images, labels=labels, title="First training batch as the model sees it"
        )

    def print_summary(self, metrics: dict[str, Any]) -> None:
        """Print the table at the end of a run."""
        print_table(
            "Result",
            {
                "validation accuracy": f"{metrics['valid_acc']:.4f} (macro F1 {metrics['valid_macro_f1']:.4f})",
                "validation loss": f"{metrics['valid_loss']:.4f}",
                "best epoch": f"{metrics['best_epoch']} of {metrics['epochs']}",
                "training accuracy": f"{metrics['train_acc']:.4f} (loss {metrics['train_loss']:.4f})",
                "training": f"{duration(metrics['train_seconds'])}, {metrics['train_images_per_second']:.0f} images/s",
                "run folder": str(_short(self.folder)),
            },
        )

    def show_curves(self) -> None:
        """Open the curves in the desktop's viewer, if there is one."""
        from hybridnet import figures

        if not figures.show(self.folder / "training_plot.png"):
            log.info(f"no viewer here; the curves are in {_short(self.folder) / 'training_plot.png'}")


class Recorder:
    """Writes what the trainer reports into the run folder and shows it.

    Args:
        folder: of the run.
        display: for people.
        recipe: what is needed beside the weights to use the model, in plain types.
    """

    def __init__(self, folder: Path, display: Display, *, recipe: Mapping[str, Any]) -> None:
        self.folder = folder
        self.display = display
        self.recipe = recipe

    def step(self, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Show the progress."""
        self.display.step(epoch, step, loss, accuracy, images_per_second)

    def best(self, model: dict[str, Tensor], row: dict[str, float]) -> None:
        """Write `best_model.pt`."""
        save_checkpoint(self.folder / "best_model.pt", {**self.recipe, "model": model, "metrics": row})

    def epoch(self, state: State, checkpoint: dict[str, Any]) -> None:
        """Write `last.pt`, which is the truth, then `history.json` from it."""
        save_checkpoint(self.folder / "last.pt", {**self.recipe, **checkpoint})
        write_json(self.folder / "history.json", state.history)
        self.display.epoch(state.history[-1], is_best=state.best_epoch == state.epoch)


def refuse_used_folder(folder: Path) -> None:
    """Two runs never share a folder.

    Raises:
        InputError: if the folder holds a run; one that ended before its first results does not count.
    """
    if any((folder / name).exists() for name in RESULTS):
        raise InputError(_used(folder))


def _used(folder: Path) -> Fault:
    hint = "choose another one with hydra.run.dir=<folder>, or leave it out for a new one"
    return Fault("used run folder", str(folder), "it holds another run, which would be overwritten", hint)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _git_commit() -> str | None:
    """The commit of the code, with `+changes` where the working tree differs; null outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changes else commit


def _package_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("torch", "torchvision", "hydra-core", "omegaconf", "numpy", "pandas", "pillow", "scikit-learn"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _peak_memory_bytes() -> int:
    """Of the GPU during this run where one was used, else of this process, which may have had other runs before."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
