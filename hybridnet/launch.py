"""Starts a command: checks what was typed before anything heavy is imported, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import functools
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from hybridnet import binding, config, signals
from hybridnet.errors import EXIT_FAILED, EXIT_WRONG_INPUT, Fault, FaultsError, InputError, Stopped

Check = Callable[..., Any]

# Settings of one start of a run, not of the run.
OF_ONE_START = ("resume", "resume_allow", "verify_resume")


def launch(
    function: Callable[[DictConfig], float], config_name: str, *, check: Check, follow: Callable[[], None]
) -> None:
    """Run a Hydra application, every job of it checked before the first one starts; ends the process on errors.

    Args:
        function: one job; returns the monitored metric to the sweeper.
        config_name: of the yaml in conf/.
        check: called with the composed configuration of each job and, as `defaults`, the same without the user's
            values; raises InputError.
        follow: what the other processes do, where `torchrun` has started several.
    """
    if of_several_processes() and int(os.environ.get("RANK", 0)):
        logging.disable(logging.WARNING)  # the first process says it all
        with _errors_as_exit_codes():
            return follow()
    signals.end_at_once()
    logging.raiseExceptions = False  # a log on a full disk must not hide the cause behind its own traceback
    with _errors_as_exit_codes() as errors:
        arguments = _continued(_command_line(config_name))
        if of_several_processes():
            _require_one_run(arguments)
        if arguments.cfg or arguments.info:
            config.compose(config_name, arguments.overrides, config_dirs=_config_dirs(arguments))
        elif not (arguments.help or arguments.hydra_help):
            with _rare_collections():
                _preflight(config_name, arguments, check=check)
        if arguments.multirun:
            errors.are_input = False  # from here on a job's wrong input is a job that failed
            constant = config.constant_keys(arguments.overrides)  # would only make the jobs' folder names long
            sys.argv.append(f"hydra.job.config.override_dirname.exclude_keys={constant}")
        job = errors.noting(function) if arguments.multirun else _quietly_failing(function)
        hydra.main(version_base="1.3", config_path=str(config.CONF_DIR), config_name=config_name)(job)()


def call(config_name: str) -> Any:
    """Run a command whose configuration is one `_target_` with its arguments; ends the process on errors."""
    with _errors_as_exit_codes():
        if {"-h", "--help"} & set(sys.argv):
            print((config.CONF_DIR / f"{config_name}.yaml").read_text(encoding="utf-8"), end="")
            return None
        overrides = _command_line(config_name).overrides
        cfg = config.compose(config_name, overrides)
        if faults := config.find_faults(cfg):
            raise InputError(*faults.values())
        return config.build(cfg)


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


def _quietly_failing(function: Callable[[DictConfig], float]) -> Callable[[DictConfig], float]:
    @functools.wraps(function)
    def job(cfg: DictConfig) -> float:
        try:
            return function(cfg)
        except Exception as error:
            raise _JobError from error

    return job


class _errors_as_exit_codes:  # noqa: N801 - reads as a sentence at the call
    def __init__(self) -> None:
        self.are_input = True
        self.of_jobs: list[Exception] = []
        self.asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"

    def noting(self, function: Callable[[DictConfig], float]) -> Callable[[DictConfig], float]:
        """`function`; its errors, which Hydra raises again at the end of a sweep, are known as those of a job."""

        @functools.wraps(function)
        def job(cfg: DictConfig) -> float:
            try:
                return function(cfg)
            except Exception as error:
                self.of_jobs.append(error)
                raise

        return job

    def __enter__(self) -> _errors_as_exit_codes:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then passes exceptions on, to be reported here
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _JobError):
            error = error.__cause__
        elif not any(error is other for other in self.of_jobs):
            error = _of_output(error)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(error.exit_code if isinstance(error, Stopped) else 128 + signal.SIGINT)
        if not isinstance(error, Exception):
            return
        if self.asked_for_traceback:
            traceback.print_exception(error)
        print(_message(error), file=sys.stderr)
        sys.exit(EXIT_WRONG_INPUT if self.are_input and isinstance(error, InputError) else EXIT_FAILED)


def _of_output(error: BaseException | None) -> BaseException | None:
    """The error, or a clear one where Hydra could not make the output folder or its log."""
    if isinstance(error, ValueError) and str(error).startswith("Unable to configure handler"):
        error = error.__cause__  # behind which logging hides why it could not open its file
    if not isinstance(error, OSError) or error.filename is None:
        return error
    hint = "choose another place with hydra.run.dir=<folder>, or hydra.sweep.dir=<folder> with -m"
    return InputError(Fault("unusable output folder", str(error.filename), error.strerror or str(error), hint))


def _message(error: Exception) -> str:
    if isinstance(error, FaultsError):
        return str(error)
    hint = "HYDRA_FULL_ERROR=1 in the environment shows where"
    return str(Fault("failure", "this run", f"{type(error).__name__}: {error}", hint))


def _command_line(config_name: str) -> argparse.Namespace:
    """Hydra's own options and the overrides; `--epochs 3`, as in other programs, is answered with `trainer.epochs`."""
    arguments, unknown = get_args_parser().parse_known_args()
    if unknown:
        option = unknown[0].partition("=")[0]
        match = binding.nearest(option.lstrip("-"), config.keys(config.compose(config_name)))
        hint = f"did you mean {match}=<value>?" if match else "--help lists the groups and keys"
        raise InputError(Fault("unknown option", option, "settings are written key=value", hint))
    return arguments


def _continued(arguments: argparse.Namespace) -> argparse.Namespace:
    """With `resume=<run folder>`: the overrides that the run began with, those given now, and its folder.

    Raises:
        InputError: if there is no such run, or nothing says which run shall be continued.
    """
    given = {name: value for name, _, value in (text.partition("=") for text in arguments.overrides)}
    resume = _unquoted(given.get("resume", "null"))
    if resume == "null":
        return arguments
    place = "hydra.sweep.dir" if arguments.multirun else "hydra.run.dir"
    if resume == "auto":
        if place not in given:
            hint = f"add {place}=<folder>, the same at every start; or resume=<run folder>"
            raise InputError(Fault("missing value", place, "resume=auto continues what is there", hint))
        return arguments
    if arguments.multirun or "hydra.run.dir" in given:
        other = "-m" if arguments.multirun else "hydra.run.dir"
        cause = "one run is continued, in its own folder"
        hint = "-m hydra.sweep.dir=<folder> resume=auto continues every job" if arguments.multirun else ""
        raise InputError(Fault("wrong option", f"{other} with resume={resume}", cause, hint or f"leave out {other}"))
    folder = Path(resume)
    others = [text for text in arguments.overrides if text.partition("=")[0] != "resume"]
    place = [f"hydra.run.dir={config.quoted(resume)}", f"resume={config.quoted(resume)}"]
    overrides = [*config.merged(config.read_overrides(folder), others), *place]
    options = [word for word in sys.argv[1:] if word not in arguments.overrides]
    if not arguments.config_dir and (own := _config_dir_of(folder)):
        arguments.config_dir = own
        options += ["--config-dir", own]
    sys.argv[1:] = [*options, *overrides]
    arguments.overrides = overrides
    return arguments


def _require_one_run(arguments: argparse.Namespace) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        InputError: for a sweep, and for a verification of resume.
    """
    hint = "start it with python train.py: one process"
    if arguments.multirun:
        raise InputError(Fault("wrong option", "-m with torchrun", "several processes train one model together", hint))
    if any(text.startswith("verify_resume=") for text in arguments.overrides):
        cause = "it compares runs of one process"
        raise InputError(Fault("wrong option", "verify_resume with torchrun", cause, hint))


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _config_dir_of(folder: Path) -> str | None:
    """The `--config-dir` that a run began with, which is no override."""
    try:
        sources = OmegaConf.load(folder / ".hydra" / "hydra.yaml").hydra.runtime.config_sources
    except (OSError, OmegaConfBaseException, YAMLError):
        return None
    return next((source.path for source in sources if source.provider == "command-line"), None)


def _preflight(config_name: str, arguments: argparse.Namespace, *, check: Check) -> None:
    config_dirs = _config_dirs(arguments)
    compose = functools.partial(config.compose, config_name, config_dirs=config_dirs, known={})
    jobs = _jobs(config_name, arguments, config_dirs)
    for overrides in jobs:
        cfg = compose(overrides)
        defaults = compose(config.group_choices(overrides, config_dirs=config_dirs))
        try:
            check(cfg, defaults=defaults)
        except InputError as error:
            if arguments.multirun:
                job = Fault("impossible job", " ".join(overrides), "no job was started")
                raise InputError(job, *error.faults) from error
            raise
    if arguments.multirun and jobs:
        config.trust_jobs()


def _config_dirs(arguments: argparse.Namespace) -> list[str]:
    return [arguments.config_dir] if arguments.config_dir else []


def _jobs(config_name: str, arguments: argparse.Namespace, config_dirs: Sequence[str]) -> Sequence[Sequence[str]]:
    if not arguments.multirun:
        return [arguments.overrides]
    other_sweeper = any(o.startswith(("hydra/sweeper=", "hydra.sweeper.params")) for o in arguments.overrides)
    return [] if other_sweeper else config.expand(config_name, arguments.overrides, config_dirs=config_dirs)
