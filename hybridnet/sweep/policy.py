"""How a sweep is run, whatever its jobs are."""

from __future__ import annotations

from typing import Literal

from hybridnet.settings import Count, checked


class Policy:
    """Settings of a sweep as a whole.

    Args:
        on_error: once a job has failed: `continue` with the others, or `stop`: start no other one.
        try_models: before the first job, let every distinct model train one batch of random pictures.
        num_threads: of every job on a CPU; None for those that the launcher leaves it. Sums of floating-point numbers
            depend on it: with a number, jobs have the same results side by side as one after the other.
    """

    @checked
    def __init__(self, *, on_error: Literal["continue", "stop"], try_models: bool, num_threads: Count | None) -> None:
        self.on_error = on_error
        self.try_models = try_models
        self.num_threads = num_threads
