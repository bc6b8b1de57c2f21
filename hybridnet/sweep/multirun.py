"""Starts a sweep: all jobs are checked before the first one, and what is done already is left out.

Hydra's sweepers and launchers do the rest; between the two stands `LedgerLauncher`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, read_write

from hybridnet import config, signals
from hybridnet.config import Multirun
from hybridnet.errors import Fault, InputError, Stopped
from hybridnet.files import in_bytes
from hybridnet.sweep import search
from hybridnet.sweep.launcher import LedgerLauncher, SweepStopped, starts_processes
from hybridnet.sweep.ledger import STOP, Ledger, Planned, write_sweep
from hybridnet.sweep.record import Job, read_job

Check = Callable[..., Any]
Function = Callable[[DictConfig], float]  # trains; returns the best of the monitored metric

EXTRAS = {"optuna": "optuna", "joblib": "joblib", "ray": "ray", "submitit": "slurm"}  # part of a plugin's name: extra
OF_A_START = ("sweep", "resume")  # of a sweep's start, not of its jobs


class Jobs:
    """From the overrides of a job to its place in the ledger.

    Args:
        config_name: of the yaml.
        multirun: what was asked for.
        config_dirs: the user's own folders.
        check: called with the composed configuration of a job and, as `defaults`, the same without the user's values;
            returns the model without its memory; raises InputError.
    """

    def __init__(self, config_name: str, multirun: Multirun, *, config_dirs: Sequence[str], check: Check) -> None:
        self.multirun = multirun
        self.config_dirs = config_dirs
        self.check = check
        self._compose = functools.partial(config.compose, config_name, config_dirs=config_dirs, known={})
        self._changes = functools.partial(config.preset_changes, config_name, config_dirs=config_dirs)
        self._known_changes: dict[tuple[str, ...], config.Changes] = {}  # of presets, by the choices of a job
        self._planned: dict[tuple[str, ...], Planned] = {}
        self.configurations: dict[str, DictConfig] = {}
        self.signatures: dict[str, str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}  # of the best model and of the state, in bytes

    def require_possible(self, overrides: Sequence[str]) -> Planned:
        """Check a job.

        Raises:
            InputError: if it is impossible.
        """
        from hybridnet import resume
        from hybridnet.checkpoint import largest_sizes
        from hybridnet.sweep import trial

        try:
            cfg = self._compose(overrides)
            if cfg.verify_resume:
                cause, hint = "a verification is one run's, no sweep's", "verify the settings of one job, without -m"
                raise InputError(Fault("wrong value", "verify_resume=true", cause, hint))
            choices = config.group_choices(overrides, config_dirs=self.config_dirs)
            defaults = self._compose(choices)
            model = self.check(cfg, defaults=defaults)
        except InputError as error:
            raise _impossible(overrides, self.multirun.swept, error) from error
        settings, _ = config.flat(cfg)
        identity = resume.identity(settings, swept=self.multirun.swept)
        self.configurations[identity] = cfg
        self.signatures[identity] = trial.signature(model, cfg)
        self.sizes[identity] = largest_sizes(model, has_average=bool(config.select(cfg, "trainer.ema_decay")))
        if tuple(choices) not in self._known_changes:
            self._known_changes[tuple(choices)] = self._changes(choices)
        spelled = config.spelled_out(overrides, cfg, self._known_changes[tuple(choices)])
        self._planned[tuple(overrides)] = self._plan(identity, overrides, spelled)
        return self._planned[tuple(overrides)]

    def planned(self, overrides: Sequence[str]) -> Planned:
        """The same without the check; a job that cannot be composed will say so itself, in its folder."""
        if tuple(overrides) not in self._planned:
            try:
                return self.require_possible(overrides)
            except InputError:
                identity = hashlib.sha256(repr(overrides).encode()).hexdigest()[:16]
                return self._plan(identity, overrides, overrides)
        return self._planned[tuple(overrides)]

    @property
    def first(self) -> DictConfig:
        """The configuration of one of them."""
        return next(iter(self.configurations.values()))

    @property
    def monitor(self) -> str:
        """The metric of all of them."""
        return self.first.monitor

    def known(self) -> Iterable[Planned]:
        """All that were checked."""
        return self._planned.values()

    def _plan(self, identity: str, overrides: Sequence[str], spelled: Sequence[str]) -> Planned:
        """With what is typed for the job, and the same without a preset: a job by itself does not know of it."""
        of_job = [text for key, text in zip(config.keys_of(spelled), spelled, strict=True) if key not in OF_A_START]
        keys = config.keys_of(overrides)
        swept = [text for key, text in zip(keys, overrides, strict=True) if key in self.multirun.swept]
        return Planned(identity, of_job, swept, config.slug(",".join(sorted(swept))))


def plan(
    config_name: str, overrides: Sequence[str], *, config_dirs: Sequence[str], check: Check
) -> tuple[Jobs, list[Planned]]:
    """Read a command line with `-m` and check all its jobs; of a search, every choice by itself.

    Returns:
        What knows the jobs; and those of a grid.

    Raises:
        InputError: for what is wrong with the command line, or for the first impossible job.
    """
    multirun = config.multirun(config_name, overrides, config_dirs=config_dirs)
    for plugin in (multirun.sweeper, multirun.launcher):
        _require_installed(plugin["_target_"])
    if "monitor" in multirun.swept:
        cause = "values of different metrics cannot be compared"
        raise InputError(Fault("wrong sweep", "monitor", cause, "choose one; every run's metrics.json has all of them"))
    jobs = Jobs(config_name, multirun, config_dirs=config_dirs, check=check)
    if is_search(multirun):
        for sample in config.sample_values(multirun.overrides):
            jobs.require_possible(sample)
        if is_of_optuna(multirun):
            search.require_direction(multirun.sweeper, monitor=jobs.monitor)
        return jobs, []
    grid = config.expand(config_name, multirun.overrides, config_dirs=config_dirs)
    config.trust_jobs()
    return jobs, [jobs.require_possible(job) for job in grid]


def is_search(multirun: Multirun) -> bool:
    """Whether the jobs depend on the results of others."""
    return not multirun.sweeper["_target_"].endswith(".BasicSweeper")


def is_of_optuna(multirun: Multirun) -> bool:
    """Whether Optuna chooses the jobs."""
    return "optuna" in multirun.sweeper["_target_"]


def run(
    function: Function, jobs: Jobs, grid: Sequence[Planned], *, start: Callable[[Function, Sequence[str]], None]
) -> list[Job]:
    """Run the jobs that are not done.

    Args:
        function: one job.
        jobs, grid: from `plan`.
        start: runs Hydra on a function for one job, with further overrides.

    Returns:
        All jobs of the ledger, as they stand at the end.

    Raises:
        InputError: if a model does not train, or another process sweeps in the folder; no job was started.
    """
    multirun = jobs.multirun
    done = {job.identity for job in Ledger(multirun.folder).jobs() if job.is_done}
    todo = [identity for identity in jobs.configurations if identity not in done]
    models = {jobs.signatures[identity]: identity for identity in reversed(todo)}
    if jobs.first.sweep.try_models:
        _try_models(jobs, models.values())
    with Ledger(multirun.folder) as ledger:
        (ledger.folder / STOP).unlink(missing_ok=True)
        num_jobs = multirun.sweeper.get("n_trials", len({job.identity for job in grid}))
        config_dir = next((str(Path(folder).resolve()) for folder in jobs.config_dirs), None)
        write_sweep(
            ledger.folder,
            overrides=multirun.typed,
            config_dir=config_dir,
            monitor=jobs.monitor,
            num_jobs=num_jobs,
            num_threads=jobs.first.sweep.num_threads,
        )
        known = ledger.add(grid)
        overrides, is_left = [], any(not job.is_done for job in known)
        if is_of_optuna(multirun):
            overrides, what_follows = search.prepare(multirun.sweeper, monitor=jobs.monitor)
            is_left = bool(overrides)
        else:
            what_follows = _what_follows(known, num_models=len(models))
        print(what_follows)
        if is_left:
            for line in _scarce_room(jobs, todo, num_jobs=num_jobs):
                print(line)
            _launch(function, jobs, ledger, lambda job: start(job, overrides))
        return ledger.jobs()


def _require_installed(target: str) -> None:
    """Refuse a plugin whose package is missing."""
    package = ".".join(target.split(".")[:2])
    try:
        is_installed = importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        is_installed = False
    if not is_installed:
        extra = next((extra for name, extra in EXTRAS.items() if name in package), None)
        hint = f'pip install -e ".[{extra}]"' if extra else f"install what provides {package}"
        raise InputError(Fault("missing package", target, f"{package} is not installed", hint))


def _impossible(overrides: Sequence[str], swept: set[str], error: InputError) -> InputError:
    keys = config.keys_of(overrides)
    telling = [text for key, text in zip(keys, overrides, strict=True) if key in swept] or overrides
    return InputError(Fault("impossible job", " ".join(telling), "no job was started"), *error.faults)


def _try_models(jobs: Jobs, identities: Iterable[str]) -> None:
    from hybridnet.sweep import trial

    for identity in identities:
        try:
            trial.try_model(jobs.configurations[identity])
        except InputError as error:
            overrides = next(planned.overrides for planned in jobs.known() if planned.identity == identity)
            raise _impossible(overrides, jobs.multirun.swept, error) from error


def _what_follows(known: Sequence[Job], *, num_models: int) -> str:
    """`12 jobs: 4 are done, 1 to be continued, 7 new ones; 3 distinct models; the first job tells …`."""
    jobs = {job.number: job for job in known}.values()
    counts = {
        "done": sum(job.is_done for job in jobs),
        "failed, to be tried again": sum(job.status == "failed" for job in jobs),
        "to be continued": sum(job.status in ("stopped", "interrupted", "running") for job in jobs),
        "new": sum(job.status == "pending" for job in jobs),
    }
    stand = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    twice = f" ({len(known) - len(jobs)} were given twice)" if len(known) > len(jobs) else ""
    if counts["done"] == len(jobs):
        return f"{len(jobs)} jobs{twice}: all are done, nothing is left to do"
    return (
        f"{len(jobs)} jobs{twice}: {stand}; distinct models: {num_models}; the first job will tell how long they take"
    )


def _scarce_room(jobs: Jobs, todo: Sequence[str], *, num_jobs: int) -> Iterator[str]:
    """A line where the disk may be full before the last job; a search's are not known yet, only their number."""
    sizes = [jobs.sizes[identity] for identity in todo]
    if is_search(jobs.multirun):
        sizes = [max(jobs.sizes.values())] * num_jobs
    best, keep_states = sum(model for model, _ in sizes), jobs.first.sweep.keep_states
    needed = best + keep_states * sum(state for _, state in sizes)
    free = shutil.disk_usage(jobs.multirun.folder).free
    if needed > free:
        less = f"; with sweep.keep_states=false {in_bytes(best)}" if keep_states else ""
        yield f"the jobs leave up to {in_bytes(needed)}, {in_bytes(free)} are free{less}"


def _launch(function: Function, jobs: Jobs, ledger: Ledger, start: Callable[[Function], None]) -> None:
    """Run Hydra with the ledger between its sweeper and its launcher."""
    usual = Plugins.instantiate_launcher
    in_this_process = not starts_processes(jobs.multirun.launcher)

    def instantiate_launcher(plugins: Plugins, hydra_context: HydraContext, **options: Any) -> Launcher:
        if in_this_process:
            hydra_context = replace(hydra_context, config_loader=config.JobLoader(hydra_context.config_loader))
        launcher = usual(plugins, hydra_context=hydra_context, **options)
        return LedgerLauncher(launcher, ledger, jobs, is_search=is_search(jobs.multirun))

    Plugins.instantiate_launcher = instantiate_launcher
    if not in_this_process:
        signals.end_with_children()
    try:
        start(_job(function, shares_gpus="joblib" in jobs.multirun.launcher["_target_"]))
    except SweepStopped:
        print("a job has failed: no other one is started")
    except ValueError:
        ended = ledger.jobs()
        if not (is_search(jobs.multirun) and ended and all(job.status == "failed" for job in ended)):
            raise
        # The sweeper asks for the best of none; each job has said why it failed.
    finally:
        Plugins.instantiate_launcher = usual


def _job(function: Function, *, shares_gpus: bool) -> Function:
    """What a launcher runs, maybe in another process: nothing of this one goes along."""
    main = os.getpid()

    @functools.wraps(function)
    def job(cfg: DictConfig) -> float:
        from hybridnet.sweep.job import run_job

        folder = Path(HydraConfig.get().runtime.output_dir)
        with read_write(HydraConfig.get()):  # the run then keeps what its record says, a preset spelled out
            HydraConfig.get().overrides.task = read_job(folder).overrides
        train = functools.partial(function, cfg)
        try:
            return run_job(train, folder, on_error=cfg.sweep.on_error, shares_gpus=shares_gpus)
        except Stopped as stopped:
            if os.getpid() == main:
                raise
            os._exit(stopped.exit_code)  # or a worker would wait for the next job of a sweep that has ended

    return job
