from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.inference.trained import TrainedModel, load_trained

OWN = ["own_parts."]


@pytest.fixture(scope="session")
def trained(reference: Path) -> TrainedModel:
    """The model of an uninterrupted run of `tiny`."""
    return load_trained(reference, extra_targets=OWN)
