"""What a file says of the model in it: how to build it, its classes, and what is done to a picture before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hybridnet import __version__, config
from hybridnet.inference.formats import INPUT, OUTPUT
from hybridnet.inference.runs import RunSettings
from hybridnet.inference.trained import TrainedModel


def about(model: TrainedModel, settings: RunSettings) -> dict[str, Any]:
    """In plain types.

    Args:
        model: of the run.
        settings: of the same run; where its folder has none, the model's name is that of its class.

    Returns:
        hybridnet_version, model, model_config, classes (in the order of the logits), input, output, and of the
        preprocessing image_size ([height, width]), center_crop, mean and std.
    """
    name = config.saved_settings(settings.folder, ["model"]).get("model")
    return {
        "hybridnet_version": __version__,
        "model": name or model.model_config["_target_"].rpartition(".")[2],
        "model_config": model.model_config,
        "classes": model.classes,
        "input": INPUT,
        "output": OUTPUT,
        **model.preprocessing.plain(),
    }


def texts(about: Mapping[str, Any]) -> dict[str, str]:
    """Each value as JSON, for formats whose metadata are texts."""
    return {name: json.dumps(value, ensure_ascii=False) for name, value in about.items()}


def of_texts(content: Mapping[str, str]) -> dict[str, Any]:
    """What `texts` made texts of.

    Raises:
        ValueError: if it is no JSON.
    """
    return {name: json.loads(text) for name, text in content.items()}
