"""What every class gains or loses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hybridnet.comparison.paired import Paired


class ByClass(NamedTuple):
    """Of one group, float64 (num_classes,) each; from the counts of all its runs, every fold counted once.

    Attributes:
        precision, recall, f1: NaN where there is nothing to divide by, as in `Evaluation.per_class`.
        support: pictures.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def by_class(paired: Paired, group: int) -> ByClass:
    """Precision, recall and F1 of a group."""
    num_classes = len(paired.classes)
    counts = np.zeros((num_classes, num_classes))
    for fold in paired.folds:
        predictions = fold.cells[group].predictions
        pairs = fold.labels * num_classes + predictions  # (R, N)
        counts += np.bincount(pairs.ravel(), minlength=num_classes**2).reshape(counts.shape) / len(predictions)
    hits, predicted, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    precision, recall, f1 = (
        np.divide(part, of, out=np.full(num_classes, np.nan), where=of > 0)
        for part, of in ((hits, predicted), (hits, support), (2 * hits, predicted + support))
    )
    return ByClass(precision, recall, f1, support)
