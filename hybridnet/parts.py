"""The parts of one training, from its configuration: trackers, data, model, optimizer, schedule."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hybridnet import config, experiment
from hybridnet.config import DictConfig
from hybridnet.data.progress import Track
from hybridnet.inference.leaks import require_unseen
from hybridnet.inference.runs import RunSettings, digests_of
from hybridnet.logger.trackers import NO_TRACKERS, Trackers
from hybridnet.resume import require_same_data
from hybridnet.signals import Interruption
from hybridnet.sweep.record import is_job
from hybridnet.trainer.device import make_current, release_memory
from hybridnet.trainer.metrics import Evaluation
from hybridnet.trainer.protocols import Data
from hybridnet.trainer.randomness import seed_everything
from hybridnet.trainer.state import State
from hybridnet.trainer.supervised import Trainer

log = logging.getLogger(__name__)


class Parts(NamedTuple):
    """What trains and is trained."""

    trainer: Trainer
    data: Data
    model: nn.Module
    optimizer: Optimizer
    scheduler: LambdaLR

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def described(self, name: str) -> str:
        """What will be trained on what, and where, for people."""
        trainer, data, num_ranks = self.trainer, self.data, self.trainer.ranks.num
        return (
            f"{name}: {self.num_parameters:,} parameters, {len(data.classes)} classes, "
            f"{len(data.train):,} training and {len(data.valid):,} validation pictures of "
            f"{data.image_size[0]}×{data.image_size[1]}, "
            f"{trainer.device} in {trainer.precision.name}{f', {num_ranks} processes' if num_ranks > 1 else ''}"
        )

    def fit(self, interruption: Interruption, **options: Any) -> tuple[State, Evaluation]:
        """`Trainer.fit`, at whose steps a signal asks to stop; from then on every process goes on by itself."""
        trainer, data, model, optimizer, scheduler = self
        with interruption.deferred():
            fitted = trainer.fit(
                model, data, optimizer=optimizer, scheduler=scheduler, stop=interruption.pending, **options
            )
        trainer.ranks.leave()
        return fitted


def build_trackers(cfg: DictConfig, folder: Path, settings: dict[str, Any]) -> Trackers:
    """The trackers that were chosen; none where runs only verify something."""
    if cfg.verify_resume:
        return NO_TRACKERS
    members = {name: config.build(node) for name, node in cfg.logger.items()}
    return Trackers(members, folder=folder, group=folder.parent.name if is_job(folder) else None, settings=settings)


def read_data(cfg: DictConfig, trainer: Trainer, *, track: Track, edition: str | None) -> Data:
    """The data, ready for this process's part of the training; from here on random numbers are the seed's.

    Args:
        edition: of the table that the run has used already; None for the one that is current.
    """
    make_current(trainer.device)
    release_memory(trainer.device)
    seed_everything(cfg.seed)
    data = config.build(cfg.data)
    ranks = trainer.ranks
    data.setup(device=trainer.device, track=track, rank=ranks.rank, num_ranks=ranks.num, edition=edition)
    return data


def read_same_data(
    cfg: DictConfig, trainer: Trainer, folder: Path, *, checkpoint: Mapping[str, Any] | None, track: Track
) -> Data:
    """`read_data` of a run that begins; of one that goes on from a checkpoint, in `folder`, those that it began with.

    Raises:
        InputError: if they are others.
    """
    if checkpoint is None:
        return read_data(cfg, trainer, track=track, edition=None)
    data = read_data(cfg, trainer, track=track, edition=RunSettings(folder).edition)
    require_same_data(checkpoint["data"], data.fingerprint(), folder=folder, allow=cfg.resume_allow)
    return data


def seen_by_backbone(cfg: DictConfig, data: Data, folder: Path, *, is_new: bool) -> frozenset[str]:
    """Digests of the pictures that the first weights were trained with; none of them may be for validation."""
    if not is_new:  # the run that they were of may be gone
        return digests_of(folder, "backbone") or frozenset()
    weights = config.select(cfg, "model.backbone.weights")
    on_leak = config.select(cfg, "data.on_leak") or "error"  # somebody's own data may have none
    return require_unseen(data.digests()["valid"], weights, on_leak=on_leak) if weights else frozenset()


def build_parts(cfg: DictConfig, trainer: Trainer, data: Data, *, is_new: bool) -> Parts:
    """The model where it will train, its optimizer and its schedule; with its initial weights in a new run."""
    model = experiment.build_model(cfg, num_classes=len(data.classes))
    if is_new:
        for line in model.backbone.load_initial_weights():
            log.info(line)
    model.to(trainer.device, memory_format=trainer.memory_format)
    optimizer = config.build(cfg.optimizer)(model)
    scheduler = config.build(cfg.scheduler)(optimizer, trainer.epochs * data.steps_per_epoch)
    return Parts(trainer, data, model, optimizer, scheduler)


def recipe(cfg: DictConfig, data: Data) -> dict[str, Any]:
    """What is needed beside the weights to use the model."""
    return {
        "format": 1,
        "model_config": config.plain(cfg.model),
        "num_classes": len(data.classes),
        "label2id": data.label2id,
        "preprocessing": data.preprocessing(),
    }
