"""safetensors: the weights and how to build the model, without any code in the file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hybridnet.errors import Fault, InputError
from hybridnet.inference.formats import Exported, package_faults
from hybridnet.inference.formats.about import of_texts, texts
from hybridnet.inference.trained import TrainedModel, trained_of

SUFFIX = ".safetensors"
PACKAGES = ("safetensors",)


def write(stream: BinaryIO, model: TrainedModel, *, about: Mapping[str, Any]) -> None:
    """Write the weights; see `Format.write`. The metadata are texts of JSON."""
    from safetensors.torch import save

    weights = {name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}
    stream.write(save(weights, metadata=texts(about)))


def load(path: str, *, extra_targets: Sequence[str] = ()) -> Exported:
    """The model that the file describes, built anew."""
    network = load_safetensors(Path(path), extra_targets=extra_targets).network

    def exported(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images)

    return exported


def load_safetensors(path: Path, *, extra_targets: Sequence[str] = ()) -> TrainedModel:
    """Build the model that the file describes, in eval mode on the CPU. Never runs code from the file.

    Args:
        path: of the file.
        extra_targets: see `load_trained`.

    Raises:
        InputError: (a ValueError) if the file is missing, damaged, or no model of this project, or if its weights are
            those of another model than its configuration names.
    """
    if faults := package_faults(sys.modules[__name__], where=str(path)):
        raise InputError(*faults)
    if not path.is_file():
        raise InputError(Fault("missing checkpoint", str(path), "no such file"))
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = of_texts(file.metadata() or {})
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        content = {
            "model_config": about["model_config"],
            "num_classes": len(about["classes"]),
            "model": weights,
            "label2id": {name: index for index, name in enumerate(about["classes"])},
            "preprocessing": about,
        }
    except KeyError as error:
        cause = f"its metadata have no {error}; python -m hybridnet.export writes them"
        raise InputError(Fault("unusable checkpoint", str(path), cause)) from error
    except (OSError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(Fault("unusable checkpoint", str(path), str(error))) from error
    return trained_of(content, source=str(path), extra_targets=extra_targets)
