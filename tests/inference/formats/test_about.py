from __future__ import annotations

from pathlib import Path

import hybridnet
from hybridnet.inference.formats.about import about, of_texts, texts
from hybridnet.inference.runs import RunSettings
from tests.inference.formats.models import trained


def test_what_is_known_of_a_model(tmp_path: Path) -> None:
    model = trained("ca")
    known = about(model, RunSettings(tmp_path))
    assert known["model"] == "HybridClassifier"
    assert known.pop("model_config")["blocks"]["ca"]["reduction"] == 32
    assert known == {
        "hybridnet_version": hybridnet.__version__,
        "model": "HybridClassifier",
        "classes": ["a", "ö", "c"],
        **{"input": "images", "output": "logits", "image_size": [24, 40], "center_crop": 0.9},
        **{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    }


def test_the_name_is_the_one_that_was_chosen(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("model: {dropout: 0.1}\n")
    (tmp_path / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {choices: {model: ca}}}\n")
    assert about(trained("ca"), RunSettings(tmp_path))["model"] == "ca"


def test_texts_are_read_again() -> None:
    content = {"classes": ["a", 'ö "x"'], "center_crop": 0.875, "model_config": {"weights": None, "layers": [2, 2]}}
    assert of_texts(texts(content)) == content
    assert texts(content)["classes"] == '["a", "ö \\"x\\""]'
