"""Asynchronous successive halving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from hybridnet.pruner import best_values
from hybridnet.settings import Count, Range, checked


class HalvingPruner:
    """Lets only the best part of the jobs go beyond each rung: epochs `min_epochs`, times `factor`, times `factor` …

    Paper: Li et al., "A System for Massively Parallel Hyperparameter Tuning", arXiv:1810.05934 (ASHA).
    Deviations: a job that is not promoted ends at once, and nothing is waited for; so the first jobs, which have few
    others beside them, go further than later ones of the same quality.

    Args:
        min_epochs: the first rung.
        factor: one of so many jobs goes on.
    """

    @checked
    def __init__(self, *, min_epochs: Count, factor: Annotated[int, Range(minimum=2)]) -> None:
        self.min_epochs = min_epochs
        self.factor = factor

    def is_hopeless(self, values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether the job is not among those that go on, see `Pruner`."""
        epoch = len(values)
        if not self._is_rung(epoch):
            return False
        rivals = best_values(others, epoch=epoch)
        num_promoted = max(1, (len(rivals) + 1) // self.factor)
        return sum(rival > max(values) for rival in rivals) >= num_promoted

    def _is_rung(self, epoch: int) -> bool:
        rung = self.min_epochs
        while rung < epoch:
            rung *= self.factor
        return rung == epoch
