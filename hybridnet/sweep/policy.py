"""How a sweep is run, whatever its jobs are."""

from __future__ import annotations

from typing import Literal

from hybridnet.settings import checked


class Policy:
    """Settings of a sweep as a whole.

    Args:
        on_error: once a job has failed: `continue` with the others, or `stop`: start no other one.
        try_models: before the first job, let every distinct model train one batch of random pictures.
    """

    @checked
    def __init__(self, *, on_error: Literal["continue", "stop"], try_models: bool) -> None:
        self.on_error = on_error
        self.try_models = try_models
