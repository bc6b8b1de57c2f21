"""What a run leaves behind at its end: tables, figures and the summary."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from hybridnet.console import duration, print_table
from hybridnet.files import csv_text, shortened, write_json, write_text
from hybridnet.trainer.metrics import Evaluation
from hybridnet.trainer.protocols import Data
from hybridnet.trainer.state import State

log = logging.getLogger(__name__)


class Results:
    """Writes into a run folder.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write_left_out(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        """Write `left_out.csv`: line, path, split and cause of every row of the table that is not used."""
        (self.folder / "left_out.csv").unlink(missing_ok=True)  # of a run that failed here before its first results
        if rows:
            write_text(self.folder / "left_out.csv", csv_text([("line", "path", "split", "cause"), *rows]))

    def write_pictures(self, digests: Mapping[str, Sequence[str]]) -> None:
        """Write `pictures.csv`: the digest of each picture's content, of every split and of the backbone's training."""
        rows = [(split, digest) for split, of_split in digests.items() for digest in of_split]
        write_text(self.folder / "pictures.csv", csv_text([("split", "digest"), *rows]))

    def write_predictions(self, evaluation: Evaluation, *, paths: list[str], classes: list[str]) -> None:
        """Write `predictions.csv`: path, label, prediction and the probability of each class."""
        text = csv_text(prediction_rows(evaluation, paths=paths, classes=classes))
        write_text(self.folder / "predictions.csv", text)

    def write_metrics(
        self,
        state: State,
        evaluation: Evaluation,
        *,
        classes: list[str],
        num_parameters: int,
        num_leaked: int,
        monitor: str,
        device: torch.device,
    ) -> dict[str, Any]:
        """Write `metrics.json`: the best epoch's figures, from the best model as it was saved; returns them."""
        best = state.best_row
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
            "peak_memory_bytes": _peak_memory_bytes(device),
            "num_valid": len(evaluation.labels),
            "num_leaked": num_leaked,
            "per_class": by_class(evaluation, classes),
            "confusion_matrix": evaluation.confusion().tolist(),
        }
        write_json(self.folder / "metrics.json", metrics)
        return metrics

    def draw(self, state: State, evaluation: Evaluation, data: Data, *, title: str) -> None:
        """Draw the curves, the first training batch as the model saw it, and the confusion matrix.

        Raises:
            OSError: if a picture cannot be written.
        """
        from hybridnet import drawing  # matplotlib costs half a second: not before the first step

        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="figures") as thread:  # compresses what is drawn
            pictures = _pictures(state, evaluation, data, title=title)
            written = [thread.submit(drawing.write, picture, self.folder / name) for name, picture in pictures]
        for future in written:
            future.result()

    def print_summary(self, metrics: dict[str, Any]) -> None:
        """Print the table at the end of a run."""
        print_table(
            "Result",
            {
                "validation accuracy": f"{metrics['valid_acc']:.4f} (macro F1 {metrics['valid_macro_f1']:.4f})",
                "validation loss": f"{metrics['valid_loss']:.4f}",
                "best epoch": f"{metrics['best_epoch']} of {metrics['epochs']}",
                "training accuracy": f"{metrics['train_acc']:.4f} (loss {metrics['train_loss']:.4f}) in that epoch",
                "training": f"{duration(metrics['train_seconds'])}, {metrics['train_images_per_second']:.0f} images/s",
                "run folder": str(shortened(self.folder)),
            },
        )

    def show_curves(self) -> None:
        """Open the curves in the desktop's viewer, if there is one."""
        from hybridnet import drawing

        if not drawing.show(self.folder / "training_plot.png"):
            log.info(f"no viewer here; the curves are in {shortened(self.folder) / 'training_plot.png'}")


def prediction_rows(evaluation: Evaluation, *, paths: Sequence[str], classes: Sequence[str]) -> Iterator[list[str]]:
    """The header and a row for each picture: path, label, prediction and the probability of each class."""
    yield ["path", "label", "prediction", *(f"probability_{name}" for name in classes)]
    answers = zip(
        paths,
        evaluation.labels.tolist(),
        evaluation.predictions.tolist(),
        evaluation.probabilities.tolist(),
        strict=True,
    )
    for path, label, prediction, probabilities in answers:
        yield [path, classes[label], classes[prediction], *(f"{p:.6f}" for p in probabilities)]


def by_class(evaluation: Evaluation, classes: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Precision, recall, F1 and support of each class, by its label; None for what its pictures do not tell."""
    found = {name: values.tolist() for name, values in evaluation.per_class().items()}
    values = zip(*found.values(), strict=True)
    rows = ([None if math.isnan(value) else value for value in of_class] for of_class in values)
    return {label: dict(zip(found, row, strict=True)) for label, row in zip(classes, rows, strict=True)}


def _pictures(state: State, evaluation: Evaluation, data: Data, *, title: str) -> Iterator[tuple[str, Any]]:
    """Name and content, one after the other."""
    from hybridnet import figures

    yield "training_plot.png", figures.plot_history(state.history, best_epoch=state.best_epoch, title=title)
    accuracy = f"{evaluation.accuracy():.2%} of {len(evaluation.labels):,}"
    counts = evaluation.confusion().numpy()
    confusion = figures.plot_confusion(counts, classes=data.classes, title=f"{title}: {accuracy}")
    yield "confusion_matrix.png", confusion
    batch = data.first_train_batch()
    images = data.normalize.undo(data.to_input(batch, torch.float32)).numpy()
    labels = [data.classes[label] for label in batch.labels.tolist()]
    yield "samples.png", figures.plot_samples(images, labels=labels, title="First training batch as the model sees it")


def _peak_memory_bytes(device: torch.device) -> int:
    """Of the GPU during this run where it is one, else of this process, which may have had other runs before."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
