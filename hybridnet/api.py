"""The models from Python: make a new one, or load a trained one from its run folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from hybridnet import config, experiment
from hybridnet.errors import Fault, InputError
from hybridnet.inference.trained import TrainedModel, load_trained

log = logging.getLogger(__name__)


def create_model(
    name: str, *, num_classes: int, overrides: Sequence[str] = (), config_dir: str | Path | None = None
) -> nn.Module:
    """Make a new model with the defaults of `conf/model/<name>.yaml`, in train mode on the CPU.

        model = hybridnet.create_model("hybrid", num_classes=4, overrides=["model.heads=8"])

    Args:
        name: `plain`, `eca`, `ca`, `bot`, `botlinear`, `hybrid`, or a yaml of your own in conf/model/.
        num_classes: number of logits.
        overrides: as on the command line, for instance `model/backbone=resnet50` or `model.pretrained=true`.
        config_dir: a folder of your own yamls, as `--config-dir`; parts of your own need
            `extra_targets=[my_package.]` among the overrides.

    Shape of the model:
        (B, 3, H, W) -> (B, num_classes)

    Raises:
        InputError: (a ValueError) if a name, key or value is wrong, or pretrained weights cannot be had.
    """
    if not isinstance(num_classes, int) or num_classes < 1:
        raise InputError(Fault("wrong value", f"num_classes={num_classes!r}", "must be an integer >= 1"))
    if isinstance(overrides, str):
        raise InputError(Fault("wrong value", f"overrides={overrides!r}", "is one text", f"overrides=[{overrides!r}]"))
    if config_dir is not None and not Path(config_dir).is_dir():
        raise InputError(Fault("missing folder", f"config_dir={config_dir}", "no such folder"))
    dirs = [] if config_dir is None else [str(Path(config_dir).absolute())]
    cfg = config.compose("train", [f"model={name}", *overrides], config_dirs=dirs)
    experiment.check(cfg)
    model = experiment.build_model(cfg, num_classes=num_classes)
    for line in model.backbone.load_initial_weights():
        log.info(line)
    return model


def load_model(run: str | Path, *, extra_targets: Sequence[str] = ()) -> TrainedModel:
    """Load the best model of a run, in eval mode on the CPU. Never runs code from the file.

        model = hybridnet.load_model("outputs/runs/<run folder>")
        for prediction in model.predict(["leaf.jpg", "other.jpg"]):
            print(prediction.label, prediction.probability)

    Args:
        run: a run folder, or its best_model.pt, wherever it lies; `~` in front is the home folder.
        extra_targets: prefixes of modules of your own that the model may have, such as `my_package.`.

    Shape of the model:
        (B, 3, H, W) -> (B, num_classes); H, W, mean and std are those of `model.preprocessing`.

    Raises:
        InputError: (a ValueError) if the file is missing, damaged, or no model of this project, or if its weights are
            those of another model than its configuration names.
    """
    return load_trained(os.path.expanduser(run), extra_targets=extra_targets)  # noqa: PTH111
