"""Initial weights of a backbone: downloaded, from a file, or from the best model of an earlier run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from hybridnet.checkpoint import best_model_file, load_checkpoint
from hybridnet.errors import Fault, InputError

log = logging.getLogger(__name__)


def download(url: str) -> dict[str, Tensor]:
    """Fetch published weights, or take them from torch's cache folder.

    Raises:
        InputError: if the network does not answer.
    """
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        hint = (
            f"put the file into {torch.hub.get_dir()}/checkpoints, or set model.backbone.weights=<file or run folder>"
        )
        cause = f"cannot download {url} ({getattr(error, 'reason', error)})"
        raise InputError(Fault("missing weights", "model.pretrained=true", cause, hint)) from error


def require_file(source: str) -> None:
    """Raises InputError if there is no such file or run folder."""
    if not Path(source).exists():
        hint = "model.backbone.weights=<file of a state dict, or run folder>"
        raise InputError(
            Fault("missing weights", f"model.backbone.weights={source}", "no such file or run folder", hint)
        )


def read(source: str) -> dict[str, Tensor]:
    """Read a state dict, from a file or the best model of a run folder, with the backbone's names as torchvision's.

    What does not belong to the backbone keeps its name, so that `load_into` says that it was not used.

    Raises:
        InputError: if the file is missing or damaged, or no state dict is found in it.
    """
    require_file(source)
    content = load_checkpoint(best_model_file(Path(source)))
    places = [*(content.get(key) for key in ("model", "state_dict", "model_state_dict")), content]
    state = next(filter(None, map(_tensors, places)), None)
    if state is None:
        keys = _shorten([str(key) for key in content]) or "none"
        cause = f"no tensors where a state dict is expected; keys of the file: {keys}"
        hint = "save the state dict alone: torch.save(model.state_dict(), …)"
        raise InputError(Fault("unusable weights", f"model.backbone.weights={source}", cause, hint))
    return state


def _tensors(content: Any) -> dict[str, Tensor]:
    """What a dictionary has, by the names of the backbone; of anything else none."""
    return {
        str(name).removeprefix("module.").removeprefix("backbone."): value
        for name, value in (content.items() if isinstance(content, dict) else ())
        if isinstance(value, Tensor)
    }


def load_into(backbone: nn.Module, state: dict[str, Tensor], *, source: str) -> list[str]:
    """Load what fits by name and shape and say what was and what was not loaded.

    A warning tells of a mixture: of several tensors of another shape, or if less than half of the backbone is loaded.

    Raises:
        InputError: if no name is the backbone's, most of those that are have another shape, or what fits is not finite.
    """
    target = backbone.state_dict()
    if not state.keys() & target.keys():
        there, here = _example(list(state), list(target))
        cause = f"none of its {len(state)} tensors has a name of this backbone: {there} there, {here} here"
        hint = "rename them, or choose the backbone that has their names"
        raise InputError(Fault("unusable weights", f"model.backbone.weights={source}", cause, hint))
    fitting = {name: value for name, value in state.items() if name in target and value.shape == target[name].shape}
    other_shape = [
        f"{name} {tuple(state[name].shape)} there, {tuple(target[name].shape)} here"
        for name in state
        if name in target and name not in fitting
    ]
    if len(other_shape) > len(fitting):
        num_shared = len(other_shape) + len(fitting)
        cause = f"{len(other_shape)} of the {num_shared} tensors with a name of this backbone have another shape"
        cause, hint = f"{cause}: {other_shape[0]}", "choose the same backbone, for instance model/backbone=resnet50"
        raise InputError(Fault("unusable weights", f"model.backbone.weights={source}", cause, hint))
    for name, value in fitting.items():
        if not value.to(target[name].dtype).isfinite().all():  # as loaded: float32 holds less than float64
            cause, hint = f"{name} holds NaN or infinity", "the training that saved it may have diverged; take another"
            raise InputError(Fault("unusable weights", f"model.backbone.weights={source}", cause, hint))
    backbone.load_state_dict(fitting, strict=False)
    # One tensor alone is the stem's, for pictures of another size or other channels.
    if len(other_shape) > 1 or 2 * len(fitting) < len(target):
        log.warning(
            f"only {len(fitting)} of the {len(target)} tensors of this backbone come from {source}, "
            f"{len(other_shape)} have another shape there; training begins from a mixture with random weights"
        )

    lines = [f"backbone weights from {source}: loaded {len(fitting)} of {len(target)} tensors"]
    for reason, names in (
        ("not loaded, another shape", other_shape),
        ("not in the file, left as initialised", [name for name in target if name not in state]),
        ("in the file, not used", [name for name in state if name not in target]),
    ):
        if names:
            lines.append(f"  {reason}: {_shorten(names)}")
    return lines


def _example(theirs: list[str], ours: list[str]) -> tuple[str, str]:
    """A name from each side: the same one behind a prefix where there is such a pair."""
    pairs = ((there, here) for here in ours for there in theirs if there.endswith(f".{here}"))
    return next(pairs, (theirs[0], ours[0]))


def _shorten(names: list[str], limit: int = 8) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
