"""Train a model: compose the configuration, check it, build its parts, fit, and write the summary.

Usage: python train.py [model=…] [data=…] [optimizer=…] [scheduler=…] [trainer=…] [experiment=…] [key=value …]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hybridnet import config
from hybridnet.launch import launch

# torch, the data packages and matplotlib are imported inside the functions: a misspelt key is answered before.


def check(cfg: DictConfig, *, defaults: DictConfig) -> None:
    """Find the faults of one job's configuration.

    Raises:
        InputError: with all of them.
    """
    from hybridnet import experiment

    experiment.check(cfg, defaults=defaults)


def train(cfg: DictConfig) -> float:
    """Train one model in its own run folder; returns the best value of the monitored metric."""
    from hybridnet.run import RunFolder

    with RunFolder(Path(HydraConfig.get().runtime.output_dir)) as run:
        return _train(cfg, run)


def _train(cfg: DictConfig, run: Any) -> float:
    import torch

    from hybridnet import experiment
    from hybridnet.checkpoint import load_checkpoint
    from hybridnet.console import Display, track
    from hybridnet.run import Recorder, log

    experiment.check(cfg)
    torch.manual_seed(cfg.seed)
    trainer = config.build(cfg.trainer)
    data = config.build(cfg.data)
    data.setup(device=trainer.device, track=track)
    run.write_left_out(data.left_out)
    run.write_environment(device=trainer.device, precision=trainer.precision.name, seed=cfg.seed)

    model = experiment.build_model(cfg, num_classes=len(data.classes))
    for line in model.backbone.load_initial_weights():
        log.info(line)
    model.to(trainer.device, memory_format=trainer.memory_format)
    optimizer = config.build(cfg.optimizer)(model)
    scheduler = config.build(cfg.scheduler)(optimizer, trainer.epochs * data.steps_per_epoch)

    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    name = HydraConfig.get().runtime.choices.model
    log.info(
        f"{name}: {num_parameters:,} parameters, {len(data.classes)} classes, {len(data.train):,} training and "
        f"{len(data.valid):,} validation pictures of {data.image_size[0]}×{data.image_size[1]}, "
        f"{trainer.device} in {trainer.precision.name}"
    )
    recipe = {
        "format": 1,
        "model_config": config.plain(cfg.model),
        "num_classes": len(data.classes),
        "label2id": data.label2id,
        "preprocessing": data.preprocessing(),
    }
    with Display(epochs=trainer.epochs, steps_per_epoch=data.steps_per_epoch) as display:
        recorder = Recorder(run.folder, display, recipe=recipe)
        state = trainer.fit(model, data, optimizer=optimizer, scheduler=scheduler, recorder=recorder)

    # What is reported is what was saved: the figures come from best_model.pt as it lies on the disk.
    model.load_state_dict(load_checkpoint(run.folder / "best_model.pt")["model"])
    evaluation = trainer.evaluate(model, data)
    run.write_predictions(evaluation, paths=data.valid.paths, classes=data.classes)
    metrics = run.write_metrics(
        state,
        evaluation,
        classes=data.classes,
        num_parameters=num_parameters,
        num_leaked=data.num_leaked,
        monitor=cfg.monitor,
    )
    run.draw(state, evaluation, data, title=name)
    run.print_summary(metrics)
    if trainer.plot:
        run.show_curves()
    return metrics[cfg.monitor]


if __name__ == "__main__":
    launch(train, "train", check=check)
