"""Train a model: compose the configuration, check it, build its parts, fit, and write the summary.

Usage: python train.py [model=…] [data=…] [optimizer=…] [scheduler=…] [trainer=…] [experiment=…] [key=value …]
       python train.py resume=<run folder> [key=value …]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hybridnet import config
from hybridnet.errors import Fault, InputError
from hybridnet.launch import OF_ONE_START, launch

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
    from hybridnet.signals import Interruption

    folder = Path(HydraConfig.get().runtime.output_dir)
    with Interruption() as interruption, RunFolder(folder, is_continued=cfg.resume is not None) as run:
        if not cfg.verify_resume:
            return train_in(run, cfg, interruption)
        from hybridnet.verification import require_unused, verify_resume

        if cfg.resume is not None:
            cause = "a verification begins two runs of its own"
            raise InputError(
                Fault("wrong value", f"resume={cfg.resume}", cause, "leave it out with verify_resume=true")
            )
        require_unused(run.folder)
        run.begin(config.hydra_files(cfg, HydraConfig.get(), without=()))
        return verify_resume(run, cfg, interruption, train_in=train_in)


def train_in(run: Any, cfg: DictConfig, interruption: Any) -> float:
    """`train` in a folder that is this run's: from the beginning, or from the checkpoint that lies there."""
    from hybridnet import environment, experiment, resume
    from hybridnet.checkpoint import load_checkpoint, load_weights
    from hybridnet.console import Display, track
    from hybridnet.files import shortened
    from hybridnet.results import Results
    from hybridnet.run import Recorder, log
    from hybridnet.trainer.randomness import seed_everything

    blueprint = experiment.blueprint(cfg)
    settings, references = config.flat(cfg)
    trainer = config.build(cfg.trainer)
    checkpoint = resume.load_run(run.folder, settings, references, allow=cfg.resume_allow)
    if run.is_complete(trainer, checkpoint):
        print(f"{shortened(run.folder)} holds a complete run: nothing is left to do")  # and its log stays as it is
        return run.metrics()[cfg.monitor]
    run.require_room(blueprint, trainer)
    hydra_files = config.hydra_files(cfg, HydraConfig.get(), without=OF_ONE_START)
    if checkpoint is None:
        run.begin(hydra_files)

    seed_everything(cfg.seed)
    data = config.build(cfg.data)
    data.setup(device=trainer.device, track=track)
    fingerprint = data.fingerprint()
    if checkpoint is not None:
        resume.require_same_data(checkpoint["data"], fingerprint, folder=run.folder, allow=cfg.resume_allow)

    model = experiment.build_model(cfg, num_classes=len(data.classes))
    if checkpoint is None:
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
    identity = {"settings": settings, "data": fingerprint}
    with Display(epochs=trainer.epochs, steps_per_epoch=data.steps_per_epoch) as display:
        recorder = Recorder(run.folder, display, recipe=recipe, identity=identity)
        if checkpoint is not None:
            load_weights(model, checkpoint["model"], source=str(run.folder / "last.pt"))
            run.begin(hydra_files)  # only now: a run that cannot be continued stays as it is
            recorder.restore(checkpoint)
        results = Results(run.folder)
        results.write_left_out(data.left_out)
        run.write_environment(
            environment.describe(device=trainer.device, precision=trainer.precision.name, seed=cfg.seed)
        )
        with interruption.deferred():
            state = trainer.fit(
                model,
                data,
                optimizer=optimizer,
                scheduler=scheduler,
                recorder=recorder,
                stop=interruption.pending,
                checkpoint=checkpoint,
            )

    # What is reported is what was saved: the figures come from best_model.pt as it lies on the disk.
    load_weights(model, load_checkpoint(run.folder / "best_model.pt")["model"], source="best_model.pt")
    evaluation = trainer.evaluate(model, data)
    results.write_predictions(evaluation, paths=data.valid.paths, classes=data.classes)
    metrics = results.write_metrics(
        state,
        evaluation,
        classes=data.classes,
        num_parameters=num_parameters,
        num_leaked=data.num_leaked,
        monitor=cfg.monitor,
    )
    results.draw(state, evaluation, data, title=name)
    results.print_summary(metrics)
    if trainer.plot:
        results.show_curves()
    return metrics[cfg.monitor]


if __name__ == "__main__":
    launch(train, "train", check=check)
