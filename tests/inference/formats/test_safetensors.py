from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("safetensors")

from safetensors import safe_open
from safetensors.torch import save_file

import hybridnet
from hybridnet import config
from hybridnet.errors import InputError
from hybridnet.inference.formats.safetensors import load, load_safetensors, write

ABOUT = {
    "classes": ["b", "a", "ö"],
    **{"image_size": [40, 48], "center_crop": 0.9, "mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.3]},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model whose running statistics are random."""
    from hybridnet.data.preprocessing import of_plain
    from hybridnet.inference.trained import TrainedModel

    network = hybridnet.create_model("ca", num_classes=3)
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    network = network.to(memory_format=torch.channels_last)  # as a comparison leaves it
    node = config.plain(config.compose("train", ["model=ca"]).model)
    model = TrainedModel(network, model_config=node, classes=ABOUT["classes"], preprocessing=of_plain(ABOUT))
    path = tmp_path_factory.mktemp("safetensors") / "model.safetensors"
    with path.open("wb") as stream:
        assert write(stream, model, about={**ABOUT, "model_config": node}) is None
    torch.save(network.state_dict(), path.with_suffix(".weights"))
    return path


def test_the_model_is_built_from_the_file_alone(file: Path) -> None:
    model = hybridnet.load_model(file)
    weights = torch.load(file.with_suffix(".weights"), weights_only=True)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.network.state_dict().items())
    assert len(weights) == len(model.network.state_dict()) and not model.training
    assert model.classes == ["b", "a", "ö"] and model.preprocessing.plain() == of_the_preprocessing(ABOUT)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(load(str(file))(images), model(images))


def of_the_preprocessing(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name != "classes"}


def test_metadata_are_texts(file: Path) -> None:
    with safe_open(file, framework="pt") as content:
        about = {name: json.loads(text) for name, text in content.metadata().items()}
    assert {name: about[name] for name in ABOUT} == ABOUT
    assert about["model_config"]["_target_"] == "hybridnet.model.hybrid.HybridClassifier"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "its metadata have no 'model_config'; python -m hybridnet.export writes them"),
        ({"model_config": "{"}, "unusable checkpoint in .*: Expecting"),
        (
            {"model_config": '{"_target_": "os.system"}', "classes": '["a"]'},
            "'os.system' is not below hybridnet",
        ),
        ({"model_config": '{"_target_": "torch.nn.Identity"}', "classes": "3"}, "unusable checkpoint"),
        ({"model_config": '{"_target_": "torch.nn.Identity"}', "classes": '["a"]'}, "saved by another model"),
    ],
)
def test_a_file_of_somebody_else_is_refused(metadata: dict[str, str] | None, message: str, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata)
    with pytest.raises(InputError, match=message):
        load_safetensors(tmp_path / "other.safetensors")


def test_a_file_that_is_damaged_or_missing_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(file.read_bytes()[:-1])
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    for name, message in (("torn", "unusable checkpoint"), ("junk", "unusable checkpoint"), ("no", "no such file")):
        with pytest.raises(InputError, match=message):
            load_safetensors(tmp_path / f"{name}.safetensors")
