from __future__ import annotations

from contextlib import suppress

import pytest

from hybridnet.logger.mlflow import ENVIRONMENT

# Before any test imports them without: their telemetry may ask the network while they are imported.
for name in ("mlflow", "wandb"):
    with pytest.MonkeyPatch.context() as patch, suppress(ImportError):
        for variable, value in {**ENVIRONMENT, "WANDB_ERROR_REPORTING": "false"}.items():
            patch.setenv(variable, value)
        __import__(name)
