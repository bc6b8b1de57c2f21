"""Starts a command: checks what was typed before anything heavy is imported, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import functools
import gc
import io
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from hybridnet import command_line, config, packages, signals
from hybridnet.errors import (
    EXIT_FAILED,
    EXIT_WRONG_INPUT,
    UNKNOWN_KEY,
    Fault,
    FaultsError,
    InputError,
    Stopped,
    TrainingError,
)
from hybridnet.files import FULL

Check = Callable[..., Any]
Function = Callable[[DictConfig], float]  # trains; returns the best of the monitored metric

# Settings, and groups of them, of one start of a run, or of the sweep it is in; not of the run.
OF_ONE_START = ("resume", "resume_allow", "verify_resume", "sweep", "pruner")


def launch(function: Function, config_name: str, *, check: Check, follow: Callable[[], None]) -> None:
    """Run a Hydra application, every job of it checked before the first one starts; ends the process on errors.

    Args:
        function: one job; returns the monitored metric to the sweeper.
        config_name: of the yaml in conf/.
        check: called with the composed configuration of each job, as `defaults` the same without the user's values,
            and `is_new`, whether the job begins, on this machine; raises InputError.
        follow: what the other processes do, where `torchrun` has started several.
    """
    if of_several_processes() and int(os.environ.get("RANK", 0)):
        logging.disable(logging.WARNING)  # the first process says it all
        with _errors_as_exit_codes():
            follow()
        signals.end_process()
    signals.end_at_once()
    logging.raiseExceptions = False  # a log on a full disk must not hide the cause behind its own traceback
    with _errors_as_exit_codes():
        arguments = command_line.continued(command_line.read(config_name))
        command_line.require_own_files(config_name, arguments)
        if of_several_processes():
            command_line.require_one_run(arguments)
        if arguments.cfg or arguments.info:
            command_line.of_first_job(config_name, arguments)
            cfg = config.compose(config_name, arguments.overrides, config_dirs=command_line.config_dirs(arguments))
            if arguments.cfg == "job":
                config.shown(cfg, package=arguments.package, resolve=False)  # refuses what Hydra answers with code 1
        elif arguments.multirun:
            _require_reachable(config_name, arguments)
            return _sweep(function, config_name, arguments, check=check)
        elif not (arguments.help or arguments.hydra_help):
            with _rare_collections():
                _require_reachable(config_name, arguments)
                _preflight(config_name, arguments, check=check)
        _start(_quietly_failing(function), config_name)
    if of_several_processes():
        signals.end_process()


def call(config_name: str) -> Any:
    """Run a command whose configuration is one `_target_` with its arguments; ends the process on errors."""
    with _errors_as_exit_codes():
        if {"-h", "--help"} & set(sys.argv):
            print((config.CONF_DIR / f"{config_name}.yaml").read_text(encoding="utf-8"), end="")
            return None
        arguments = command_line.read(config_name)
        command_line.require_usable(config_name, arguments)
        try:
            cfg = config.compose(config_name, arguments.overrides)
        except InputError as error:
            raise InputError(*map(_of_sweeps, error.faults)) from error
        if arguments.cfg:
            print(config.shown(cfg, package=arguments.package, resolve=arguments.resolve), end="")
            return None
        if config.find_faults(cfg):
            defaults = config.compose(config_name)
            if faults := config.find_faults(cfg, defaults=defaults):
                raise InputError(*config.with_examples(faults, defaults).values())
        return config.build(cfg)


def _of_sweeps(fault: Fault) -> Fault:
    """A fault as it is told of a command with the key `folder`, which is typed `sweep`."""
    if fault.what != UNKNOWN_KEY or not re.search(r"\bfolder\b", fault.hint):
        return fault
    match = config.nearest(fault.where, ["sweep"])
    return fault._replace(hint="did you mean sweep?" if match else re.sub(r"\bfolder\b", "sweep", fault.hint))


def of_several_processes() -> bool:
    """Whether `torchrun` has started this process, and others with it."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Imports make a million objects that stay: looking for garbage among them takes a fifth of torch's import.

    Later collections leave them out too, which each job of a sweep would wait for.
    """
    usual = gc.get_threshold()
    gc.set_threshold(100_000, *usual[1:])
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*usual)


class _JobError(BaseException):
    """Carries a job's exception through Hydra, which prints a line of its own about any `Exception`."""


def _quietly_failing(function: Function) -> Function:
    @functools.wraps(function)
    def job(cfg: DictConfig) -> float:
        try:
            return function(cfg)
        except Exception as error:
            raise _JobError from error

    return job


class _errors_as_exit_codes:  # noqa: N801 - reads as a sentence at the call
    def __init__(self) -> None:
        self.asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"

    def __enter__(self) -> _errors_as_exit_codes:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then passes exceptions on, to be reported here
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to fail
                stream.reconfigure(errors="backslashreplace")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        error = error.__cause__ if isinstance(error, _JobError) else _of_configuration(error)
        if isinstance(error, InstantiationException):  # of a command, around what its function raised
            error = error.__cause__ or error
        error = packages.explained(error)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(error.exit_code if isinstance(error, Stopped) else 128 + signal.SIGINT)
        if not isinstance(error, Exception):
            return
        if self.asked_for_traceback:
            traceback.print_exception(error)
        print(_message(error), file=sys.stderr)
        sys.exit(EXIT_WRONG_INPUT if isinstance(error, InputError) else EXIT_FAILED)


def _of_configuration(error: BaseException | None) -> BaseException | None:
    """The error, or, where a file or the command line cannot be composed, what Hydra says of it as wrong input."""
    is_of_it = isinstance(error, HydraException | OmegaConfBaseException | YAMLError)
    if not is_of_it or isinstance(error, InstantiationException):
        return error
    return InputError(Fault("wrong configuration", "the command line", " ".join(str(error).split())[:300]))


def _message(error: Exception) -> str:
    if isinstance(error, FaultsError):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        hint = "make room there, or choose another place for what is written"
        return str(Fault("no room", str(error.filename), error.strerror, hint))
    hint = "HYDRA_FULL_ERROR=1 in the environment shows where"
    return str(Fault("failure", "this run", f"{type(error).__name__}: {error}", hint))


def _require_reachable(config_name: str, arguments: argparse.Namespace) -> None:
    """Refuse to continue what has relative paths from a folder from which these lead elsewhere."""
    if arguments.began_in in (None, Path.cwd()):
        return
    dirs, known = command_line.config_dirs(arguments), {}
    jobs = command_line.jobs(config_name, arguments)
    configurations = [config.compose(config_name, job, config_dirs=dirs, known=known) for job in jobs]
    from hybridnet import origin  # torch is not needed to find a misspelt key

    origin.require_reachable(
        configurations, folder=arguments.continues, began_in=arguments.began_in, of_sweep=arguments.multirun
    )


def _preflight(config_name: str, arguments: argparse.Namespace, *, check: Check) -> None:
    config_dirs = command_line.config_dirs(arguments)
    compose = functools.partial(config.compose, config_name, config_dirs=config_dirs, known={})
    cfg = compose(arguments.overrides)
    defaults = compose(config.group_choices(arguments.overrides, config_dirs=config_dirs))
    is_alone = not of_several_processes()  # others wait for the first one until it joins them
    check(cfg, defaults=defaults, is_new=cfg.resume is None and is_alone)


def _sweep(function: Function, config_name: str, arguments: argparse.Namespace, *, check: Check) -> None:
    """Run many jobs; ends the process with an error if one has failed."""
    from hybridnet.sweep import launcher, multirun, plan

    with _rare_collections():
        jobs, grid = plan.plan(
            config_name, arguments.overrides, config_dirs=command_line.config_dirs(arguments), check=check
        )
    folder = jobs.multirun.folder

    def start(job: Function, overrides: Sequence[str]) -> None:
        own = command_line.of_hydra(arguments)
        place = [f"hydra.sweep.dir={config.quoted(str(folder))}", "hydra.sweeper.params=null"]
        command_line.retype(arguments, [*jobs.multirun.overrides, *own, *place, *overrides])
        _start(job, config_name, sweep=folder)

    try:
        ended = multirun.run(function, jobs, grid, start=start)
    except KeyboardInterrupt:
        print(f"the sweep goes on with {launcher.how_to_continue(folder)}")
        raise
    _report(folder)
    failed = [job for job in ended if job.status == "failed"]
    if failed:
        raise TrainingError(*(launcher.fault_of(job) for job in failed))


def _report(folder: Path) -> None:
    """Say what the sweep has found so far. A report that cannot be made is no failure of the jobs."""
    from hybridnet.report import write_report

    try:
        write_report([folder], out=folder)
    except Exception as error:
        print(f"no report: {error}; python -m hybridnet.report sweep={folder} tries it again")


def _start(job: Function, config_name: str, *, sweep: Path | None = None) -> None:
    """Let Hydra run a job, or those of a sweep in this folder.

    Raises:
        InputError: if Hydra cannot make the output folder or its log.
    """
    try:
        hydra.main(version_base="1.3", config_path=str(config.CONF_DIR), config_name=config_name)(job)()
    except (OSError, ValueError) as error:
        if fault := _of_output(error, sweep):
            raise InputError(fault) from error
        raise


def _of_output(error: OSError | ValueError, sweep: Path | None) -> Fault | None:
    """What is wrong with the output folder, if it is that: of a sweep's errors, what lies in its folder."""
    if str(error).startswith("Unable to configure handler"):
        error = error.__cause__  # behind which logging hides why it could not open its file
    if not isinstance(error, OSError) or error.filename is None:
        return None
    if sweep is not None and not Path(error.filename).absolute().is_relative_to(sweep.absolute()):
        return None
    hint = "choose another place with hydra.run.dir=<folder>, or hydra.sweep.dir=<folder> with -m"
    if any(text.lstrip("+").startswith("resume=") and text != "resume=auto" for text in sys.argv):
        hint = "make it writable: what is continued is continued in its own folder"
    return Fault("unusable output folder", str(error.filename), error.strerror or str(error), hint)
