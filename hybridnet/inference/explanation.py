"""Why a trained model answers as it does, as far as maps over the picture can tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hybridnet.data.image import open_rgb, shrunk
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.errors import Fault, InputError
from hybridnet.inference.maps import Attention, Box, Cam, Gates, Geometry, Grid
from hybridnet.inference.trained import Picture, Prediction, TrainedModel, readable
from hybridnet.model.bot import BoTBlock, SelfAttention
from hybridnet.model.botlinear import LinearAttention
from hybridnet.model.ca import CoordinateAttention
from hybridnet.model.hybrid import HybridClassifier
from hybridnet.model.plain import PlainClassifier
from hybridnet.wording import listing

SHOWN_SIDE = 640  # pixels; a larger picture is shown smaller


@dataclass(frozen=True)
class Explanation:
    """Maps over one picture.

    Attributes:
        picture: uint8 (H, W, 3), upright and whole, with a short side of at most 640 pixels.
        box: what the model sees of it, the centre crop: left, top, right, bottom.
        prediction: in float32.
        true_label: as given.
        cams: of the predicted class and, where it is another one, of the true class. First those of the backbone's
            last layer; then, for models with attention blocks, those of the map that the blocks end in (`layer4 +
            attention`), or begin with where they follow an earlier layer (`layer3`).
        gates: of the last Coordinate Attention among the blocks.
        attention: of the last block with BoT's or BoTLinear's attention.
        missing: names of what this model does not have.
    """

    picture: np.ndarray
    box: Box
    prediction: Prediction
    true_label: str | None
    cams: tuple[Cam, ...]
    gates: Gates | None
    attention: Attention | None
    missing: tuple[str, ...]


def explain(model: TrainedModel, picture: Picture, *, true_label: str | None) -> Explanation:
    """Compute the maps of one picture, on the device where the model is, in float32 and eval mode.

    Nothing of the model is changed but its memory, which becomes channels_last as in `predict`, and no hook is used:
    several threads may ask one model that is in eval mode.

    Grad-CAM: Selvaraju et al., arXiv:1610.02391. With a_k the mean over positions of the gradient of the class's logit
    with respect to channel k of a map A, it is max(0, Σ_k a_k·A_k).

    Args:
        model: from `load_trained`, or `hybridnet.load_model`.
        picture: a path, a uint8 array (H, W, 3) or (H, W), or an image of Pillow.
        true_label: one of the model's classes, or None.

    Raises:
        InputError: (a ValueError) if it is no picture or cannot be read, if the model has no such class, or if it is
            no classifier of this project.
    """
    network = model.network.to(memory_format=torch.channels_last)
    require_classifier(network)
    if true_label is not None and true_label not in model.classes:
        cause = f"the model has {listing(model.classes)}"
        raise InputError(Fault("unknown class", f"true_label={true_label}", cause))
    shown, seen = _read(readable(picture, 0), model.preprocessing)
    box = model.preprocessing.box(shown)
    device = next(network.parameters()).device
    with _evaluating(network), torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        inputs = model.preprocessing.normalized(torch.from_numpy(seen)[None].to(device))
        passed = _forward(network, inputs)
        prediction = model.prediction(passed.logits.detach().cpu()[0].softmax(dim=0))
        labels = list(dict.fromkeys([prediction.label, true_label or prediction.label]))
        geometry = Geometry(network.backbone.stride, model.preprocessing.image_size, box)
        evidence = {label: _evidence(passed, model.classes.index(label)) for label in labels}
        cams = tuple(
            Cam(label, layer, _numpy(evidence[label][layer].clamp(min=0)), geometry.grid(stage, map_.shape[2:]))
            for layer, (stage, map_) in passed.maps.items()
            for label in labels
        )
        strongest = evidence[prediction.label][passed.below].argmax() if passed.below else None
        gates, attention = _of_blocks(network, passed, strongest, geometry)
    missing = {"Coordinate Attention": gates, "BoT or BoTLinear attention": attention}
    absent = tuple(name for name, found in missing.items() if found is None)
    return Explanation(shown, box, prediction, true_label, cams, gates, attention, absent)


def require_classifier(network: nn.Module) -> None:
    """Raises InputError if a network does not have the interface that the maps need."""
    if not isinstance(network, PlainClassifier):
        cause = f"{type(network).__name__} is no PlainClassifier, whose last feature map is looked at"
        raise InputError(Fault("unusable model", "model", cause))


class _Pass(NamedTuple):
    """One picture on its way through a network.

    Attributes:
        maps: by layer, its stage of the backbone and the map (1, C, h, w), which gradients of the logits reach.
        below: the layer whose map the attention blocks begin with; "" without blocks.
        logits: (1, num_classes).
    """

    maps: dict[str, tuple[int, Tensor]]
    below: str
    logits: Tensor


def _forward(network: PlainClassifier, inputs: Tensor) -> _Pass:
    last = len(network.backbone.channels)
    if not isinstance(network, HybridClassifier):
        with torch.no_grad():
            features = network.features(inputs)
        with torch.enable_grad():
            features.requires_grad_()
            return _Pass({f"layer{last}": (last, features)}, "", network.classify(features))
    stage = network.stage
    with torch.no_grad():  # gradients are needed from here on: what is below costs a forward pass only
        below = network.backbone(inputs, stop=stage)
    with torch.enable_grad():
        below.requires_grad_()
        # A clone, as some layer may change its input in place.
        features = network.backbone(network.blocks(below.clone()), start=stage)
        logits = network.classify(features)
    if stage == last:
        return _Pass(
            {f"layer{last}": (last, below), f"layer{last} + attention": (last, features)}, f"layer{last}", logits
        )
    return _Pass({f"layer{last}": (last, features), f"layer{stage}": (stage, below)}, f"layer{stage}", logits)


def _evidence(passed: _Pass, class_index: int) -> dict[str, Tensor]:
    """Grad-CAM of a class before negative values are cut off, by layer: (h, w)."""
    maps = [map_ for _, map_ in passed.maps.values()]
    gradients = torch.autograd.grad(passed.logits[0, class_index], maps, retain_graph=True)
    weighted = [gradient.mean(dim=(2, 3), keepdim=True) * map_ for gradient, map_ in zip(gradients, maps, strict=True)]
    return {layer: each.sum(dim=1)[0].detach() for layer, each in zip(passed.maps, weighted, strict=True)}


@torch.no_grad()
def _of_blocks(
    network: PlainClassifier, passed: _Pass, strongest: Tensor | None, geometry: Geometry
) -> tuple[Gates | None, Attention | None]:
    """What the last Coordinate Attention and the last BoT's or BoTLinear's attention do to this picture."""
    gates = attention = None
    if not passed.below:
        return gates, attention
    stage, x = passed.maps[passed.below]
    grid = geometry.grid(stage, x.shape[2:])
    for block in network.blocks:
        if isinstance(block, CoordinateAttention):
            gates = _gates(block, x, grid)
        if isinstance(block, BoTBlock) and isinstance(block.attention, SelfAttention | LinearAttention):
            attention = _attention(block, x, strongest, grid)
        x = block(x.clone())
    return gates, attention


def _gates(block: CoordinateAttention, x: Tensor, grid: Grid) -> Gates:
    row_gate, column_gate = block.gates(x)  # (1, C, h, 1) and (1, C, 1, w)

    def mean(gate: Tensor, dim: tuple[int, ...]) -> np.ndarray:
        strength = x.abs()
        silent = strength.sum(dim=dim, keepdim=True) == 0  # all channels count alike where none is active
        strength = strength + silent
        return _numpy((strength * gate).sum(dim=dim)[0] / strength.sum(dim=dim)[0])

    both = row_gate * column_gate
    neutral = block.gain / 2
    change = _numpy((x * (both / neutral**2 - 1)).abs().sum() / x.abs().sum().clamp(min=1e-12)).item()
    return Gates(mean(row_gate, (1, 3)), mean(column_gate, (1, 2)), mean(both, (1,)), change, neutral, grid)


def _attention(block: BoTBlock, x: Tensor, strongest: Tensor, grid: Grid) -> Attention:
    height, width = x.shape[2:]
    layer = block.attention
    feature_map = layer.feature_map if isinstance(layer, LinearAttention) else None
    name = "BoT" if feature_map is None else "BoTLinear"
    weights = layer.weights(block.attended(x), strongest.view(1))  # (1, heads, 1, N)
    query = divmod(strongest.item(), width)
    return Attention(name, feature_map, _numpy(weights[0, :, 0].unflatten(1, (height, width))), query, grid)


def _read(picture: Path | np.ndarray, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """The picture to be shown, and what the model sees of it: uint8 (H, W, 3) and (h, w, 3)."""
    if isinstance(picture, np.ndarray):
        image, reduced = Image.fromarray(picture), preprocessing.reduced(picture)
    else:
        # Decoded anew, and larger where that helps the eye; the model's own is the one it would be asked with.
        image, reduced = open_rgb(picture, short_side=SHOWN_SIDE), preprocessing.reduction.load(picture)
    return np.asarray(shrunk(image, short_side=SHOWN_SIDE)), preprocessing.cropped(reduced)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """In eval mode, and afterwards as it was."""
    training = [module for module in network.modules() if module.training]
    if training:
        network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
