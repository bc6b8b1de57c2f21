"""Networks of timm: whether it has one of a name, with feature maps, and where it can be cut into stages."""

from __future__ import annotations

import difflib
import functools
import itertools
from typing import Any

import torch
from torch import Tensor, nn

from hybridnet.errors import Fault, InputError

NUM_STAGES = 4  # of those networks that have one for every stride from 4 to 32, as most do


def require_known(name: str, *, pretrained: bool) -> None:
    """Refuse what is not in timm's own list, without looking anywhere else.

    Raises:
        InputError: if timm is not installed, or has no such network, or no weights for it though they are wanted.
    """
    where = f"model.backbone.name={name}"
    try:
        import timm
    except ImportError as error:
        hint = 'pip install -e ".[timm]"'
        raise InputError(Fault("missing package", "model/backbone=timm", "timm is not installed", hint)) from error
    architecture, _, tag = name.partition(".")
    if architecture not in timm.list_models():
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "see timm.list_models()"
        if any(mark in name for mark in ":/\\"):
            hint = "a name of timm's own list; weights from elsewhere: model.backbone.weights=<file or run folder>"
        raise InputError(Fault("unknown network", where, "timm has no network of this name", hint))
    known = [model.partition(".")[2] for model in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in known:
        close = difflib.get_close_matches(tag, known, n=3, cutoff=0.0)
        hint = f"did you mean {', '.join(f'{architecture}.{word}' for word in close)}?" if close else architecture
        raise InputError(Fault("unknown network", where, f"timm has no weights '{tag}' for {architecture}", hint))
    if pretrained and not timm.get_pretrained_cfg(name).has_weights:
        hint = "set model.pretrained=false, or choose another network"
        raise InputError(Fault("missing weights", where, "timm has no weights for it", hint))


def create(name: str, output_stride: int | None, **options: Any) -> nn.Module:
    """timm's network that gives feature maps, one for each stage.

    Args:
        name: that timm knows.
        output_stride: of the last map to the images; null for the network's own.
        options: of `timm.create_model`.

    Raises:
        InputError: if timm cannot make it so.
    """
    import timm

    stride = {} if output_stride is None else {"output_stride": output_stride}
    where = f"model.backbone.name={name}"
    try:
        network = timm.create_model(name, features_only=True, **stride, **options)
    except (TypeError, NotImplementedError, AssertionError, RuntimeError) as error:
        if not stride:
            cause = (
                f"timm cannot make it with feature maps ({' '.join(str(error).split())[:200] or type(error).__name__})"
            )
            raise InputError(Fault("unusable network", where, cause, "choose another network")) from error
        network = None
    if stride and (network is None or network.feature_info.reduction()[-1] != output_stride):
        cause, hint = f"{name} cannot do that", "set model.backbone.output_stride=null"
        raise InputError(Fault("wrong value", f"model.backbone.output_stride={output_stride}", cause, hint))
    return network


def _stages(network: nn.Module) -> list[list[str]] | None:
    """Each with its modules' names; the first ones are merged where there are more than NUM_STAGES."""
    from timm.models import FeatureListNet
    from timm.models.efficientnet import EfficientNetFeatures
    from timm.models.mobilenetv3 import MobileNetV3Features

    if isinstance(network, FeatureListNet):
        names, ends = list(network), set(network.return_layers)
    elif isinstance(network, EfficientNetFeatures | MobileNetV3Features):
        stem = [name for name, _ in network.named_children() if name != "blocks"]
        names = [*stem, *(f"blocks.{number}" for number in range(len(network.blocks)))]
        ends = set(network.feature_info.module_name())
    else:
        return None
    stages: list[list[str]] = [[]]
    for name in names:
        stages[-1].append(name)
        if name in ends:
            stages.append([])
    *stages, _ = stages  # what follows the last map
    num_merged = max(len(stages) - NUM_STAGES, 0) + 1
    return [[*itertools.chain(*stages[:num_merged])], *stages[num_merged:]]


@functools.cache
def survey(name: str, output_stride: int | None) -> tuple[list[list[str]] | None, list[bool]]:
    """Where a network can be cut, and which of its maps have no negative values.

    Found out with a copy that has no memory for its numbers.

    Args:
        name, output_stride: as of `create`.

    Returns:
        Names of the modules of each stage, in the order in which they are applied, None if it is no plain sequence;
        and of each stage, or of the whole, whether its map is what a ReLU gave.

    Raises:
        InputError: if timm cannot make the network, or it cannot be applied to images without numbers.
    """
    outputs: list[tuple[Tensor, int]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append((output, output._version))

    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
        network = create(name, output_stride).eval()
        stages = _stages(network)
        for module in network.modules():
            if isinstance(module, nn.ReLU | nn.ReLU6):
                module.register_forward_hook(note)
        images = x = torch.empty(1, *network.pretrained_cfg["input_size"])
        maps = []
        try:
            for names in stages or []:
                for part in names:
                    x = network.get_submodule(part)(x)
                maps.append(x)
            if stages is None or not all(isinstance(m, Tensor) for m in maps):  # several maps cannot be cut
                stages, maps = None, [network(images)[-1]]
        except RuntimeError as error:
            where, cause = f"model.backbone.name={name}", f"it cannot be checked before it is trained ({error})"
            raise InputError(Fault("unusable network", where, cause, "choose another network")) from error
    # In-place operations that follow change the version, not the tensor.
    return stages, [any(m is output and m._version == version for output, version in outputs) for m in maps]


def download(name: str, output_stride: int | None) -> dict[str, Tensor]:
    """timm's weights, from the network or its cache folder.

    Raises:
        InputError: if the network does not answer.
    """
    try:
        return create(name, output_stride, pretrained=True).state_dict()
    except OSError as error:
        cause = f"cannot download the weights of {name} ({' '.join(str(error).split())[:200]})"
        hint = "fetch them where there is a network, and set model.backbone.weights=<file or run folder>"
        raise InputError(Fault("missing weights", "model.pretrained=true", cause, hint)) from error
