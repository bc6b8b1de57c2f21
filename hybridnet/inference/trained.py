"""A trained model: the network, its classes, and what is done to a picture before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import IOBase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hybridnet import config
from hybridnet.checkpoint import best_model_file, load_checkpoint, load_weights
from hybridnet.data import preprocessing
from hybridnet.data.image import to_rgb, upright
from hybridnet.data.listed import ListedImages
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.errors import Fault, InputError
from hybridnet.inference.predictor import Predictor

RUNTIMES = {".onnx": "onnxruntime", ".pt2": "torch.export.load"}  # of files that were exported, and hold no model

Picture = str | Path | np.ndarray | Image.Image

# Settings that models of earlier versions do not have: what they did.
ADDED: dict[str, dict[str, Any]] = {
    "hybridnet.model.backbone.resnet.ResNet": {"stochastic_depth": 0.0},
    "hybridnet.model.bot.BoTBlock": {"identity_init": True},
}


class Prediction(NamedTuple):
    """What a model says to one picture.

    Attributes:
        label: the most probable class.
        probability: of this class.
        probabilities: of every class, the most probable one first.
    """

    label: str
    probability: float
    probabilities: dict[str, float]


class TrainedModel(nn.Module):
    """A classifier from a run, with all that is needed to use it.

    Args:
        network: (B, 3, H, W) -> (B, num_classes).
        model_config: what the network was built from, in plain types.
        classes: labels in the order of the logits.
        preprocessing: of the pictures.

    Shape:
        (B, 3, H, W) -> (B, num_classes); the input as `inputs` makes it, or of another size.
    """

    def __init__(
        self, network: nn.Module, *, model_config: dict[str, Any], classes: list[str], preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        self.network = network
        self.model_config = model_config
        self.classes = classes
        self.preprocessing = preprocessing

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def predict(
        self, pictures: Picture | Iterable[Picture], *, batch_size: int = 32, precision: str = "auto"
    ) -> list[Prediction]:
        """What is on some pictures; puts the model into eval mode and computes on the device where it is.

        Args:
            pictures: one, or several: paths, uint8 arrays (H, W, 3) or (H, W), or Pillow's images.
            batch_size: pictures at once.
            precision: `auto`, `bf16`, `fp16`, `float32`; after `half()` and the like the model computes in its own.

        Returns:
            One prediction for each picture, in their order.

        Raises:
            InputError: (a ValueError) if one of them is no picture, or cannot be read; names all of them.
            ValueError: for a wrong batch_size or precision.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(Fault("wrong value", f"batch_size={batch_size!r}", "must be an integer >= 1"))
        self.eval()
        pictures = _several(pictures)
        device = str(next(self.parameters()).device)
        predictor = Predictor(
            self.network, self.preprocessing, device=device, precision=precision, batch_size=batch_size
        )
        answers = predictor.answers([readable(picture, number) for number, picture in enumerate(pictures)])
        _require_read(pictures, answers.causes)
        return [self.prediction(row) for row in answers.logits.softmax(dim=1)] if len(answers.logits) else []

    def inputs(self, pictures: Picture | Iterable[Picture]) -> Tensor:
        """What the model takes, of some pictures: all of them at once, on the device where it is.

        Args:
            pictures: as for `predict`.

        Returns:
            (B, 3, H, W), normalised, in the format of the weights: float32, unless they were converted.

        Raises:
            InputError: as `predict`.
        """
        pictures = _several(pictures)
        listed = ListedImages(
            [readable(picture, number) for number, picture in enumerate(pictures)], self.preprocessing
        )
        images = [batch.images for batch in listed.batches(batch_size=max(1, len(listed)), device=torch.device("cpu"))]
        _require_read(pictures, listed.causes)
        pixels = torch.cat([torch.empty((0, *listed.size, 3), dtype=torch.uint8), *images])
        weights = next(self.parameters())
        return self.preprocessing.normalized(pixels.to(weights.device), weights.dtype)

    def prediction(self, probabilities: Tensor) -> Prediction:
        """Of the probability of each class, (num_classes,)."""
        order = probabilities.argsort(descending=True, stable=True).tolist()
        by_label = {self.classes[index]: probabilities[index].item() for index in order}
        label = self.classes[order[0]]
        return Prediction(label, by_label[label], by_label)


def _several(pictures: Picture | Iterable[Picture]) -> list[Picture]:
    """Of a generator, a column of a table with its own index …, or of one picture by itself."""
    is_one = isinstance(pictures, str | Path | bytes | IOBase) or not isinstance(pictures, Iterable)
    is_one = is_one or (isinstance(pictures, np.ndarray) and pictures.ndim < 4)
    return [pictures] if is_one else list(pictures)


def _require_read(pictures: Sequence[Picture], causes: Mapping[int, str]) -> None:
    if causes:
        raise InputError(*(Fault("unreadable image", str(pictures[i]), cause) for i, cause in sorted(causes.items())))


def load_trained(run: str | Path, *, extra_targets: Sequence[str] = ()) -> TrainedModel:
    """Load the best model of a run, in eval mode on the CPU. Never runs code from the file.

    Args:
        run: a run folder, or its best_model.pt, wherever it lies; or a .safetensors that was exported from one.
        extra_targets: prefixes of modules of your own that the model may have, such as `my_package.`.

    Raises:
        InputError: (a ValueError) if the file is missing, damaged, or no model of this project, or if its weights are
            those of another model than its configuration names.
    """
    extra_targets = _prefixes(extra_targets)
    path = best_model_file(Path(run))
    if inner := [] if path.is_file() else sorted(Path(run).glob("*/best_model.pt")):  # a sweep's folder, for instance
        hint = f"it is a folder of runs: name one of them, such as {inner[0].parent}"
        raise InputError(Fault("missing checkpoint", str(path), "no such file", hint))
    if path.is_file() and (runtime := RUNTIMES.get(path.suffix)):
        hint = "name the run folder, its best_model.pt, or a .safetensors that was exported from it"
        raise InputError(Fault("unusable checkpoint", str(path), f"it is a graph for {runtime}", hint))
    if path.suffix == ".safetensors":
        from hybridnet.inference.formats.safetensors import load_safetensors  # needs an extra

        return load_safetensors(path, extra_targets=extra_targets)
    content = load_checkpoint(path)
    if "optimizer" in content:
        cause = "it is a state that a training continues from, with the weights of its latest step"
        raise InputError(Fault("unusable checkpoint", str(path), cause, "name the run folder, or its best_model.pt"))
    return trained_of(content, source=str(path), extra_targets=extra_targets)


def _prefixes(extra_targets: str | Sequence[str]) -> list[str]:
    """Those that were given, one or several: a text has many letters, each of which would be a prefix."""
    prefixes = [extra_targets] if isinstance(extra_targets, str) else list(extra_targets)
    if not all(isinstance(prefix, str) and prefix for prefix in prefixes):
        raise InputError(Fault("wrong value", f"extra_targets={prefixes}", "needs names such as my_package."))
    return prefixes


def trained_of(content: Mapping[str, Any], *, source: str, extra_targets: Sequence[str]) -> TrainedModel:
    """The model that a checkpoint describes, in eval mode on the CPU.

    Args:
        content: model_config, num_classes, model (the weights), label2id and preprocessing, in plain types.
        source: where it comes from.
        extra_targets: see `load_trained`.

    Raises:
        InputError: (a ValueError) as `load_trained`.
    """
    try:
        model_config = _of_today(content["model_config"])
        classes = _classes(content["label2id"])
        if content["num_classes"] != len(classes):
            raise ValueError(f"it has {content['num_classes']!r} classes, and label2id names {len(classes)}")
        network = config.build_modules(model_config, extra_targets=extra_targets, num_classes=len(classes))
        load_weights(network, content["model"], source=source)
        model = TrainedModel(
            network,
            model_config=model_config,
            classes=classes,
            preprocessing=preprocessing.of_plain(content["preprocessing"]),
        )
    except KeyError as error:
        raise InputError(Fault("unusable checkpoint", source, f"has no entry {error}")) from error
    except InputError:
        raise
    except Exception as error:  # what a constructor makes of content that does not fit
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        cause = kind + " ".join(str(error).split())[:300]
        raise InputError(Fault("unusable checkpoint", source, cause)) from error
    return model.eval()


def _of_today(node: Any) -> Any:
    """The configuration of a model with the settings that have been added since."""
    if not isinstance(node, Mapping):
        return node
    return {**ADDED.get(str(node.get("_target_")), {}), **{key: _of_today(value) for key, value in node.items()}}


def _classes(label2id: dict[str, int]) -> list[str]:
    classes = sorted(label2id, key=label2id.__getitem__)
    if [label2id[name] for name in classes] != list(range(len(classes))):
        raise ValueError(f"label2id has the indices {sorted(label2id.values())}, not 0 … {len(classes) - 1}")
    return classes


def readable(picture: Picture, number: int) -> Path | np.ndarray:
    """As `ListedImages` takes it.

    Raises:
        InputError: for something else than a picture.
    """
    if isinstance(picture, str | Path):
        return Path(picture)
    if isinstance(picture, Image.Image) and picture.width and picture.height:
        try:
            return np.asarray(to_rgb(upright(picture)))
        except (OSError, SyntaxError, ValueError) as error:  # Pillow decodes it only now
            raise InputError(Fault("unusable picture", f"picture {number}", str(error))) from error
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.size:
        if picture.ndim == 2:
            return np.repeat(picture[:, :, None], 3, axis=2)
        if picture.ndim == 3 and picture.shape[2] == 3:
            return picture
    shown = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
    cause = f"expected a path, an image of Pillow, or a uint8 array (H, W, 3) or (H, W); got {shown}"
    raise InputError(Fault("unusable picture", f"picture {number}", cause))
