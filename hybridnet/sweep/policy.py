"""How a sweep is run, whatever its jobs are."""

from __future__ import annotations

from typing import Literal

from hybridnet.settings import Count, checked


class Policy:
    """Settings of a sweep as a whole.

    Args:
        on_error: once a job has failed: `continue` with the others, or `stop`: start no other one.
        try_models: before the first job, let every distinct model train one batch of random pictures.
        keep_states: whether complete jobs keep their state, `last.pt`, so that they can be trained longer. It is some
            three times as large as `best_model.pt`, which stays.
        num_threads: of every job on a CPU; None for those that the launcher leaves it. Sums of floating-point numbers
            depend on it: with a number, jobs have the same results side by side as one after the other.
    """

    @checked
    def __init__(
        self,
        *,
        on_error: Literal["continue", "stop"],
        try_models: bool,
        keep_states: bool,
        num_threads: Count | None,
    ) -> None:
        self.on_error = on_error
        self.try_models = try_models
        self.keep_states = keep_states
        self.num_threads = num_threads
