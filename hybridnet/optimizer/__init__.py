"""Optimizers, and the parameter groups that they share."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn


class Classifier(Protocol):
    """What the optimizers ask of a model."""

    def named_parameters(self) -> Any: ...

    def pretrained_parameter_names(self) -> set[str]:
        """Names of the parameters that a pretrained backbone brings; all others are new."""


def parameter_groups(model: Classifier, *, base_lr: float, head_lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for torch.optim: the backbone with base_lr, everything new with head_lr.

    Norms, biases and position scalars, all of them tensors of at most one dimension, are not decayed.
    """
    pretrained = model.pretrained_parameter_names()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((name not in pretrained, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "name": f"{'head' if is_new else 'backbone'}{'' if is_decayed else ', no decay'}",
            "params": parameters,
            "lr": head_lr if is_new else base_lr,
            "weight_decay": weight_decay if is_decayed else 0.0,
        }
        for (is_new, is_decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
