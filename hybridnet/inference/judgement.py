"""What is measured of a model's answers to labelled pictures, and the files that say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridnet.data.image import thumbnail
from hybridnet.data.table import Split
from hybridnet.files import csv_text, write_json, write_text
from hybridnet.inference import calibration
from hybridnet.results import by_class, prediction_rows
from hybridnet.trainer.metrics import Evaluation

MOST_MISTAKES = 24
TILE = 268  # pixels
TOP = (2, 3, 5)


def measured(evaluation: Evaluation, classes: Sequence[str], groups: Sequence[str], *, split: str) -> dict[str, Any]:
    """The figures of an evaluation, in plain types; the first names begin with the split, as in training.

    Args:
        evaluation: the answers.
        classes: labels in the order of the logits.
        groups: of each picture, see `accuracy_interval`.
        split: its name.
    """
    probabilities = evaluation.probabilities
    is_right = (evaluation.predictions == evaluation.labels).tolist()
    found = {name.replace("valid_", f"{split}_", 1): value for name, value in evaluation.summary().items()}
    calibrated = calibration.calibration(probabilities, evaluation.labels)
    return found | {
        f"{split}_acc_interval": list(calibration.accuracy_interval(is_right, groups)),
        f"num_{split}": len(groups),
        "num_groups": len({group or number for number, group in enumerate(groups)}),
        "top_k_acc": {str(k): evaluation.top_k_accuracy(k) for k in TOP if k < len(classes)},
        "expected_calibration_error": calibrated.expected_error,
        "brier_score": calibration.brier_score(probabilities, evaluation.labels),
        "per_class": by_class(evaluation, classes),
        "confusion_matrix": evaluation.confusion().tolist(),
    }


def write(
    folder: Path, evaluation: Evaluation, pictures: Split, classes: Sequence[str], metrics: dict[str, Any]
) -> None:
    """Write tables and pictures of an evaluation into a folder."""
    from hybridnet import drawing, figures  # matplotlib is not needed to find a fault

    write_text(folder / "predictions.csv", csv_text(prediction_rows(evaluation, paths=pictures.paths, classes=classes)))
    write_json(folder / "metrics.json", metrics)
    title = f"{metrics['split']}: {evaluation.accuracy():.2%} of {len(pictures):,}"
    matrix = figures.plot_confusion(evaluation.confusion().numpy(), classes=classes, title=title)
    drawing.write(matrix, folder / "confusion_matrix.png")
    found = calibration.calibration(evaluation.probabilities, evaluation.labels)
    diagram = figures.plot_reliability(
        counts=found.counts.numpy(),
        confidences=found.confidences.numpy(),
        accuracies=found.accuracies.numpy(),
        title=f"{title}, expected calibration error {found.expected_error:.3f}",
    )
    drawing.write(diagram, folder / "reliability.png")
    (folder / "mistakes.png").unlink(missing_ok=True)  # of an earlier evaluation
    worst = mistakes(evaluation)[:MOST_MISTAKES]
    if len(worst):
        confidences = evaluation.probabilities.amax(dim=1)
        tiles = figures.plot_samples(
            np.stack([thumbnail(pictures.files[i], TILE) for i in worst]),
            labels=[
                f"{classes[evaluation.labels[i]]}\n✗ {confidences[i]:.0%} {classes[evaluation.predictions[i]]}"
                for i in worst
            ],
            title=f"The most confident mistakes of {metrics['split']}: label, and below it the prediction",
            lines=2,
        )
        drawing.write(tiles, folder / "mistakes.png")


def mistakes(evaluation: Evaluation) -> list[int]:
    """Places of the wrong predictions, the most confident one first."""
    confidences, predictions = evaluation.probabilities.max(dim=1)
    is_wrong = predictions != evaluation.labels
    order = confidences.argsort(descending=True, stable=True)
    return order[is_wrong[order]].tolist()
