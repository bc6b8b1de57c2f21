"""Plans a sweep: reads the command line, and checks all jobs before the first one starts."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hybridnet import config
from hybridnet.config import DictConfig, Multirun
from hybridnet.errors import Fault, InputError
from hybridnet.sweep import search
from hybridnet.sweep.launcher import stays_here
from hybridnet.sweep.ledger import Planned, is_sweep
from hybridnet.wording import number_of

Check = Callable[..., Any]

EXTRAS = {"optuna": "optuna", "joblib": "joblib", "ray": "ray", "submitit": "slurm"}  # part of a plugin's name: extra
MANY = 100  # jobs, whose check takes some seconds
OF_A_START = ("sweep", "resume")  # of a sweep's start, not of its jobs


class Jobs:
    """From the overrides of a job to its place in the ledger.

    Args:
        config_name: of the yaml.
        multirun: what was asked for.
        config_dirs: the user's own folders.
        check: called with the composed configuration of a job and, as `defaults`, the same without the user's values;
            returns the model without its memory; raises InputError.
        known: of `config.multirun`.
    """

    def __init__(
        self,
        config_name: str,
        multirun: Multirun,
        *,
        config_dirs: Sequence[str],
        check: Check,
        known: config.Known | None = None,
    ) -> None:
        self.multirun = multirun
        self.config_dirs = config_dirs
        self.check = check
        self._compose = functools.partial(
            config.compose, config_name, config_dirs=config_dirs, known={} if known is None else known
        )
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
            raise impossible(overrides, self.multirun.swept, error) from error
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
    known: config.Known = {}
    multirun = config.multirun(config_name, overrides, config_dirs=config_dirs, known=known)
    for plugin in (multirun.sweeper, multirun.launcher):
        _require_installed(plugin["_target_"])
    if "monitor" in multirun.swept:
        cause = "values of different metrics cannot be compared"
        raise InputError(Fault("wrong sweep", "monitor", cause, "choose one; every run's metrics.json has all of them"))
    is_new = not is_sweep(multirun.folder) and stays_here(multirun.launcher)
    jobs = Jobs(
        config_name, multirun, config_dirs=config_dirs, check=functools.partial(check, is_new=is_new), known=known
    )
    if is_search(multirun):
        if is_of_optuna(multirun):
            search.require_usable(multirun.sweeper)
        for sample in config.sample_values(multirun.overrides):
            jobs.require_possible(sample)
        if is_of_optuna(multirun):
            search.require_direction(multirun.sweeper, monitor=jobs.monitor)
        return jobs, []
    if (size := multirun.sweeper["max_batch_size"]) is not None and size < 1:
        where, hint = f"hydra.sweeper.max_batch_size={size}", "for instance hydra.sweeper.max_batch_size=8"
        raise InputError(Fault("wrong value", where, "it is no number of jobs", hint))
    grid = config.expand(config_name, multirun.overrides, config_dirs=config_dirs)
    if len(grid) >= MANY:
        print(f"checking {number_of(len(grid), 'job')} before the first one starts")
    config.trust_jobs()
    return jobs, [jobs.require_possible(job) for job in grid]


def is_search(multirun: Multirun) -> bool:
    """Whether the jobs depend on the results of others."""
    return not multirun.sweeper["_target_"].endswith(".BasicSweeper")


def is_of_optuna(multirun: Multirun) -> bool:
    """Whether Optuna chooses the jobs."""
    return "optuna" in multirun.sweeper["_target_"]


def impossible(overrides: Sequence[str], swept: set[str], error: InputError) -> InputError:
    """What is wrong with a job, behind the overrides that tell it from the others."""
    keys = config.keys_of(overrides)
    telling = [text for key, text in zip(keys, overrides, strict=True) if key in swept] or overrides
    return InputError(Fault("impossible job", " ".join(telling), "no job was started"), *error.faults)


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
