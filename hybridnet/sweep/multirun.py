"""Runs the jobs of a sweep that are not done.

Hydra's sweepers and launchers do that; between the two stands `LedgerLauncher`.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import InstantiationException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, read_write

from hybridnet import config, signals
from hybridnet.errors import Fault, FaultsError, InputError, Stopped
from hybridnet.files import in_bytes
from hybridnet.sweep import search
from hybridnet.sweep.launcher import LedgerLauncher, SweepStopped, how_to_continue, starts_processes
from hybridnet.sweep.ledger import STOP, Ledger, Planned, write_sweep
from hybridnet.sweep.plan import Jobs, impossible, is_of_optuna, is_search
from hybridnet.sweep.record import Job, read_job
from hybridnet.wording import listing, number_of

MOST_NAMED = 5  # jobs
Function = Callable[[DictConfig], float]  # trains; returns the best of the monitored metric


def run(
    function: Function, jobs: Jobs, grid: Sequence[Planned], *, start: Callable[[Function, Sequence[str]], None]
) -> list[Job]:
    """Run the jobs that are not done.

    Args:
        function: one job.
        jobs, grid: from `plan`.
        start: runs Hydra on a function for one job, with further overrides.

    Returns:
        Those of the grid, or all of a search, as they stand at the end.

    Raises:
        InputError: if a model does not train, another process sweeps in the folder, or the search in it is another one;
            no job was started.
    """
    multirun = jobs.multirun
    done = {job.identity for job in Ledger(multirun.folder).jobs() if job.is_done}
    todo = [identity for identity in jobs.configurations if identity not in done]
    models = {jobs.signatures[identity]: identity for identity in reversed(todo)}
    if jobs.first.sweep.try_models:
        _try_models(jobs, models.values())
    with Ledger(multirun.folder) as ledger:
        (ledger.folder / STOP).unlink(missing_ok=True)
        overrides, what_follows = [], ""
        if is_of_optuna(multirun):
            overrides, what_follows = search.prepare(multirun.sweeper, multirun.overrides, monitor=jobs.monitor)
        num_jobs = multirun.sweeper.get("n_trials", len({job.identity for job in grid}))
        config_dir = next((str(Path(folder).resolve()) for folder in jobs.config_dirs), None)
        write_sweep(
            ledger.folder,
            is_search=is_search(multirun),
            overrides=multirun.typed,
            config_dir=config_dir,
            monitor=jobs.monitor,
            num_jobs=num_jobs,
            num_threads=jobs.first.sweep.num_threads,
        )
        known = ledger.add(grid)
        is_left = bool(overrides) or any(not job.is_done for job in known)
        print(what_follows or _what_follows(known, num_models=len(models)))
        if grid and (left := _not_asked_for(ledger.jobs(), grid)):
            print(left)
        if is_left:
            for line in _scarce_room(jobs, todo, num_jobs=num_jobs):
                print(line)
            _launch(function, jobs, ledger, lambda job: start(job, overrides))
        asked = {planned.identity for planned in grid}
        return [job for job in ledger.jobs() if not grid or job.identity in asked]


def _try_models(jobs: Jobs, identities: Iterable[str]) -> None:
    from hybridnet.sweep import trial

    for identity in identities:
        try:
            trial.try_model(jobs.configurations[identity])
        except InputError as error:
            overrides = next(planned.overrides for planned in jobs.known() if planned.identity == identity)
            raise impossible(overrides, jobs.multirun.swept, error) from error


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
    num_twice = len(known) - len(jobs)
    twice = f" ({num_twice} {'was' if num_twice == 1 else 'were'} given twice)" if num_twice else ""
    many = f"{number_of(len(jobs), 'job')}{twice}"
    if counts["done"] == len(jobs):
        return f"{many}: all are done, nothing is left to do"
    return f"{many}: {stand}; distinct models: {num_models}; the first job will tell how long they take"


def _not_asked_for(jobs: Sequence[Job], grid: Sequence[Planned]) -> str:
    """A line about jobs that an earlier, wider grid has left; or ""."""
    asked = {planned.identity for planned in grid}
    left = [job.name for job in jobs if not job.is_done and job.identity not in asked]
    if not left:
        return ""
    be, it, its = ("is", "it stays as it is", "its") if len(left) == 1 else ("are", "they stay as they are", "their")
    return (
        f"{number_of(len(left), 'other job')} of this sweep {be} not done and not among these: job "
        f"{listing(left, limit=MOST_NAMED)}; {it}, until {its} values are asked for again"
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
        signals.end_with_children(f"the sweep goes on with {how_to_continue(ledger.folder)}")
    num_attempts = sum(job.attempt for job in ledger.jobs())
    try:
        start(_job(function, shares_gpus="joblib" in jobs.multirun.launcher["_target_"]))
    except SweepStopped:
        print("a job has failed: no other one is started")
    except Exception as error:
        ended = ledger.jobs()
        if sum(job.attempt for job in ended) == num_attempts and _is_of_settings(error):
            raise InputError(_fault_of_settings(error)) from error
        all_failed = bool(ended) and all(job.status == "failed" for job in ended)
        if not (isinstance(error, ValueError) and is_search(jobs.multirun) and all_failed):
            raise
        # The sweeper asks for the best of none; each job has said why it failed.
    finally:
        Plugins.instantiate_launcher = usual


def _is_of_settings(error: Exception) -> bool:
    """Whether a launcher or sweeper that has started no job says so of what it was given; not that it was killed."""
    return not isinstance(error, FaultsError | OSError | MemoryError | BrokenExecutor)


def _fault_of_settings(error: BaseException) -> Fault:
    while isinstance(error.__cause__, InstantiationException):
        error = error.__cause__  # Hydra's of the sweeper's, such as of what custom_search_space names
    cause = " ".join(f"{type(error).__name__}: {error}".split()).partition(", set env var")[0]
    hint = "python train.py -m … --cfg hydra shows them"
    return Fault("settings that start no job", "hydra.launcher or hydra.sweeper", cause, hint)


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
