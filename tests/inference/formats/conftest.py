from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hybridnet.inference.formats import onnx
from hybridnet.inference.trained import TrainedModel
from tests.inference.formats.models import ABOUT, trained


@pytest.fixture(scope="session")
def flagship(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, Path]:
    """A hybrid and its ONNX file, written once: it takes seconds.

    Its quotients are 0 / 1e-12 where no query is positive: an optimiser may not drop the 1e-12.
    """
    torch.manual_seed(0)
    model = trained("hybrid", ("model.feature_map=relu",))
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    with path.open("wb") as stream:
        assert onnx.write(stream, model, about=ABOUT) == (5, 5)
    return model, path
