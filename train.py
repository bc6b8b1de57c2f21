"""Train a model: compose the configuration, check it, build its parts, fit, and write the summary.

Usage: python train.py [model=…] [data=…] [optimizer=…] [scheduler=…] [trainer=…] [experiment=…] [key=value …]
       python train.py resume=<run folder> [key=value …]
       torchrun --nproc-per-node <number of GPUs> train.py [key=value …]
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports: a signal may come in one of them, and a package may not be there
    from hybridnet import packages, signals

    signals.end_at_once()
    packages.end_without("hydra", "omegaconf")

import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybridnet import config, packages
from hybridnet.errors import Fault, InputError
from hybridnet.launch import OF_ONE_START, launch, of_several_processes

if TYPE_CHECKING:
    from torch import nn

    from hybridnet.parts import Parts
    from hybridnet.recorder import Recorder
    from hybridnet.results import Results
    from hybridnet.run import RunFolder
    from hybridnet.signals import Interruption
    from hybridnet.trainer.metrics import Evaluation
    from hybridnet.trainer.state import State
    from hybridnet.trainer.supervised import Trainer

log = logging.getLogger(__name__)

SECONDS_UNTIL_HANDLED = 5.0  # of a signal; a step of a GPU keeps its host for milliseconds

# torch, the data packages and matplotlib are imported inside the functions: a misspelt key is answered before.


def check(cfg: DictConfig, *, defaults: DictConfig, is_new: bool) -> nn.Module:
    """Find the faults of one job's configuration; returns its model, without memory for the weights.

    Args:
        cfg: of the job.
        defaults: the same without the user's values.
        is_new: whether it begins, and on this machine: its files must be there.

    Raises:
        InputError: with all of them.
    """
    from hybridnet import experiment

    packages.require("matplotlib")  # which draws the results, after hours
    model = experiment.check(cfg, defaults=defaults)
    if is_new:
        experiment.require_files(cfg)
    return model


def train(cfg: DictConfig) -> float:
    """Train one model in its own run folder; returns the best value of the monitored metric."""
    from hybridnet.checkpoint import LAST
    from hybridnet.run import RunFolder
    from hybridnet.signals import Interruption
    from hybridnet.sweep import alone
    from hybridnet.sweep.launcher import starts_processes
    from hybridnet.sweep.ledger import is_sweep
    from hybridnet.sweep.record import is_job

    folder = Path(HydraConfig.get().runtime.output_dir)
    is_of_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    if is_sweep(folder):  # which would answer for the run from then on
        hint = "choose another folder with hydra.run.dir=<folder>"
        raise InputError(Fault("used run folder", str(folder), "it holds a sweep", hint))
    if is_of_sweep and not is_job(folder):
        cause, hint = "a sweep is asked for with -m", "python train.py -m …, without hydra.mode"
        raise InputError(Fault("wrong value", "hydra.mode=MULTIRUN", cause, hint))
    of_several = of_several_processes() or (is_of_sweep and starts_processes(HydraConfig.get().launcher))
    by_itself = is_job(folder) and not is_of_sweep and not cfg.verify_resume  # no sweep keeps its record
    typed = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # a reference stays one
    with (
        Interruption(of_several=of_several) as interruption,
        alone.recorded(folder, settings=config.flat(cfg)[0], typed=typed)
        if by_itself
        else nullcontext(_nothing) as begins,
        RunFolder(folder, is_continued=cfg.resume is not None) as run,
    ):
        # A job that is continued by itself, without its sweep, keeps the state that it goes on from.
        is_alone = not is_job(folder) or (not is_of_sweep and (folder / LAST).exists())
        run.keeps_state = cfg.sweep.keep_states or is_alone
        if cfg.verify_resume:
            return verify(run, cfg, interruption)
        return train_in(run, cfg, interruption, begins=begins)


def verify(run: RunFolder, cfg: DictConfig, interruption: Interruption) -> float:
    """Train a short run twice, once interrupted, in a folder that nothing else has used, and compare."""
    from hybridnet.verification import require_unused, verify_resume

    if cfg.resume is not None:
        cause = "a verification begins two runs of its own"
        raise InputError(Fault("wrong value", f"resume={cfg.resume}", cause, "leave it out with verify_resume=true"))
    require_unused(run.folder)
    run.begin(config.hydra_files(cfg, HydraConfig.get(), without=()))
    return verify_resume(run, cfg, interruption, train_in=train_in)


def _nothing() -> None:
    """What there is to do, where no job's record is to be kept, when a run has begun."""


def train_in(
    run: RunFolder, cfg: DictConfig, interruption: Interruption, *, begins: Callable[[], None] = _nothing
) -> float:
    """`train` in a folder that is this run's: from the beginning, or from the checkpoint that lies there."""
    from hybridnet import experiment, resume

    blueprint = experiment.blueprint(cfg)
    settings, references = config.flat(cfg)
    trainer = config.build(cfg.trainer)
    trainer.ranks.join()
    end_if_blocked(interruption, trainer)
    checkpoint = resume.load_run(run.folder, settings, references, allow=cfg.resume_allow)
    if run.is_complete(trainer, checkpoint):
        if checkpoint is None and (began := config.saved(run.folder)):
            before, _ = config.flat(began)
            resume.require_same_settings(before, settings, references, folder=run.folder, allow=cfg.resume_allow)
        leave_alone(run, trainer)
        return run.metrics()[cfg.monitor]
    run.require_room(blueprint, trainer)
    metrics = train_to_end(run, cfg, interruption, trainer=trainer, checkpoint=checkpoint, begins=begins)
    return metrics[cfg.monitor]


def train_to_end(
    run: RunFolder,
    cfg: DictConfig,
    interruption: Interruption,
    *,
    trainer: Trainer,
    checkpoint: dict[str, Any] | None,
    begins: Callable[[], None],
) -> dict[str, Any]:
    """Train to the end, from the beginning or from a checkpoint; returns the metrics."""
    from hybridnet.advice import advice
    from hybridnet.checkpoint import load_weights
    from hybridnet.console import Display, track
    from hybridnet.parts import build_parts, build_trackers, read_same_data, recipe, seen_by_backbone
    from hybridnet.recorder import Recorder
    from hybridnet.results import Results
    from hybridnet.sweep.record import is_job

    settings, _ = config.flat(cfg)
    trackers = build_trackers(cfg, run.folder, settings)
    begin = partial(run.begin, config.hydra_files(cfg, HydraConfig.get(), without=OF_ONE_START), trackers=trackers)
    if checkpoint is None:
        begin()

    data = read_same_data(cfg, trainer, run.folder, checkpoint=checkpoint, track=track)
    fingerprint = data.fingerprint()
    seen = seen_by_backbone(cfg, data, run.folder, is_new=checkpoint is None)
    parts = build_parts(cfg, trainer, data, is_new=checkpoint is None)
    log.info(parts.described(HydraConfig.get().runtime.choices.model))
    display = Display(epochs=trainer.epochs, steps_per_epoch=data.steps_per_epoch)
    recorder = Recorder(
        run.folder,
        display,
        recipe=recipe(cfg, data),
        identity={"settings": settings, "data": fingerprint},
        trackers=trackers,
        final_epoch=None if run.keeps_state else trainer.epochs,
    )
    results = Results(run.folder)
    with display, recorder:
        if checkpoint is not None:
            load_weights(parts.model, checkpoint["model"], source=str(run.folder / "last.pt"))
            begin(history=checkpoint["state"]["history"])  # only now: a run that cannot be continued stays as it is
            recorder.restore(checkpoint)
        begins()
        write_origin(run, cfg, parts, results, fingerprint=fingerprint, seen=seen)
        if trainer.ranks.num > 1:
            trainer.ranks.of_first((config.resolved(cfg), checkpoint, fingerprint, data.edition))
        is_hopeless = hopeless(cfg, run.folder)
        fitted = parts.fit(interruption, recorder=recorder, is_hopeless=is_hopeless, checkpoint=checkpoint)
        metrics = finish(run, cfg, parts, fitted, interruption=interruption, recorder=recorder, results=results)
    results.print_summary(metrics)
    if not (is_job(run.folder) or cfg.verify_resume):  # a sweep's report compares settings; a verification has none
        for line in advice(metrics, settings, train_acc=max(row["train_acc"] for row in fitted[0].history)):
            log.info(line)
    if trainer.plot:
        results.show_curves()
    return metrics


def write_origin(
    run: RunFolder,
    cfg: DictConfig,
    parts: Parts,
    results: Results,
    *,
    fingerprint: dict[str, str],
    seen: frozenset[str],
) -> None:
    """Write what a run is trained with: the rows that are left out, its pictures, its environment."""
    from hybridnet import environment

    trainer, data = parts.trainer, parts.data
    results.write_left_out(data.left_out)
    results.write_pictures({**data.digests(), "backbone": sorted(seen)})
    described = environment.describe(
        device=trainer.device, precision=trainer.precision.name, seed=cfg.seed, processes=trainer.ranks.num
    )
    run.write_environment({**described, "data": fingerprint, "edition": data.edition})


def hopeless(cfg: DictConfig, folder: Path) -> Callable[[State], bool]:
    """What tells after each epoch whether a sweep's job shall end because others do better.

    Several processes would have to agree on it: a job that they continue is not pruned.
    """
    from hybridnet.sweep.record import is_job
    from hybridnet.sweep.rivals import is_hopeless
    from hybridnet.trainer.supervised import never

    pruner = config.build(cfg.pruner)
    if not is_job(folder) or of_several_processes():
        return never
    return lambda state: is_hopeless(state.history, folder, pruner=pruner, monitor=cfg.monitor)


def leave_alone(run: RunFolder, trainer: Trainer) -> None:
    """Say that a run is complete, also to the other processes; its log stays as it is."""
    from hybridnet.files import shortened

    print(f"{shortened(run.folder)} holds a complete run: nothing is left to do{run.ended_early(trainer)}")
    trainer.ranks.of_first(None)


def end_if_blocked(interruption: Interruption, trainer: Trainer) -> None:
    """Let a signal end a process that waits for another one on a GPU, where no signal reaches it."""
    if trainer.ranks.num > 1 and trainer.device.type == "cuda":
        interruption.end_if_blocked(SECONDS_UNTIL_HANDLED)


def finish(
    run: RunFolder,
    cfg: DictConfig,
    parts: Parts,
    fitted: tuple[State, Evaluation],
    *,
    interruption: Interruption,
    recorder: Recorder,
    results: Results,
) -> dict[str, Any]:
    """Draw and write what has come out of a training; returns its metrics."""
    from hybridnet.files import shortened

    trainer, data = parts.trainer, parts.data
    state, evaluation = fitted
    recorder.finish(parts.model)
    # While the last epoch is written and read back. What draws would turn a signal's exception into one of its own.
    with interruption.deferred():
        results.draw(state, evaluation, data, title=HydraConfig.get().runtime.choices.model)
    recorder.wait()
    if not trainer.is_finished(state):
        run.outcome = "pruned"
        log.info(f"pruned after epoch {state.epoch}: others did better; resume={shortened(run.folder)} goes on")

    results.write_predictions(evaluation, paths=data.valid.paths, classes=data.classes)
    return results.write_metrics(
        state,
        evaluation,
        classes=data.classes,
        num_parameters=parts.num_parameters,
        num_leaked=data.num_leaked,
        monitor=cfg.monitor,
        device=trainer.device,
    )


def follow() -> None:
    """Train along with the first of several processes, which alone reads the command line and writes files."""
    from hybridnet.checkpoint import load_weights
    from hybridnet.data.progress import silently
    from hybridnet.parts import build_parts, read_data
    from hybridnet.recorder import NoRecorder
    from hybridnet.signals import Interruption
    from hybridnet.trainer.ranks import Ranks

    ranks = Ranks.of_environment()
    ranks.join()
    plan = ranks.of_first(None)
    if plan is None:  # nothing is left to do
        return
    cfg, checkpoint, fingerprint, edition = plan
    with Interruption(of_several=True) as interruption:
        trainer = config.build(cfg.trainer)
        end_if_blocked(interruption, trainer)
        data = read_data(cfg, trainer, track=silently, edition=edition)
        if data.fingerprint() != fingerprint:
            cause = f"its pictures or labels are not those of rank 0 ({cfg.data.metadata})"
            raise InputError(Fault("other data", f"rank {ranks.rank}", cause, "give every machine the same files"))
        parts = build_parts(cfg, trainer, data, is_new=False)  # initial weights are those of rank 0
        if checkpoint is not None:
            load_weights(parts.model, checkpoint["model"], source="rank 0")
        parts.fit(interruption, recorder=NoRecorder(), checkpoint=checkpoint)


if __name__ == "__main__":
    launch(train, "train", check=check, follow=follow)
