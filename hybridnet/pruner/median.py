"""The median stopping rule."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from hybridnet.pruner import best_values
from hybridnet.settings import Count, NonNegative, checked


class MedianPruner:
    """Ends a job whose best value so far is clearly worse than the median of what the others had reached by then.

    Paper: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.
    Deviations: the others' best values so far, not their running means; running jobs count like complete ones.

    Args:
        min_epochs: before this epoch no job ends.
        min_jobs: so many others must have reached the epoch.
        margin: how much worse is clearly worse, in the unit of the monitored metric.
    """

    @checked
    def __init__(self, *, min_epochs: Count, min_jobs: Count, margin: NonNegative) -> None:
        self.min_epochs = min_epochs
        self.min_jobs = min_jobs
        self.margin = margin

    def is_hopeless(self, values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether the job is below the median, see `Pruner`."""
        epoch = len(values)
        rivals = best_values(others, epoch=epoch)
        if epoch < self.min_epochs or len(rivals) < self.min_jobs:
            return False
        return max(values) < median(rivals) - self.margin
