"""What a command with `-m` asks for: the overrides of every job of a grid, or of samples of a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hybridnet.config.composition import Known, override_faults, wrong_configuration
from hybridnet.config.overrides import choices_of, each_choice, groups_of, is_of_hydra, parse
from hybridnet.config.session import hydra_over
from hybridnet.errors import UNKNOWN_KEY, Fault, InputError
from hybridnet.wording import listing

_INTERVAL = "INTERVAL_SWEEP"  # as Hydra's grid names what it cannot do


class Multirun(NamedTuple):
    """What a command line asks for as a whole, before any job of it.

    Attributes:
        typed: the overrides that say it again, in any folder.
        overrides: of the jobs, those of a preset among them; the values of a sweep still together.
        swept: keys of those that differ between the jobs.
        folder: where the jobs' folders are.
        sweeper, launcher: Hydra's own settings of them.
    """

    typed: list[str]
    overrides: list[str]
    swept: set[str]
    folder: Path
    sweeper: dict[str, Any]
    launcher: dict[str, Any]


def multirun(
    config_name: str, overrides: Sequence[str], *, config_dirs: Sequence[str] = (), known: Known | None = None
) -> Multirun:
    """What a command with `-m` asks for. Axes that a preset (`+sweep=…`) names are overridden by those that are typed.

    Args:
        config_name, overrides, config_dirs, known: as in `compose`.

    Raises:
        InputError: for every override whose group, option or key does not exist, for one of the jobs or for all.
    """
    known = {} if known is None else known
    with hydra_over(config_dirs):
        parsed = parse(overrides)
        if faults := _faults_of_jobs(config_name, parsed, known=known):
            raise InputError(*faults)
        fixed = [text for text, override in zip(overrides, parsed, strict=True) if not override.is_sweep_override()]
        fixed += choices_of([group for group in groups_of(parsed) if group.is_sweep_override()])
        try:
            cfg = hydra_compose(config_name, overrides=fixed, return_hydra_config=True).hydra
            folder = Path(str(cfg.sweep.dir))
            sweeper = OmegaConf.to_container(cfg.sweeper, resolve=True)
            launcher = OmegaConf.to_container(cfg.launcher, resolve=False)  # may refer to what only a job has
        except (HydraException, OmegaConfBaseException) as error:
            raise wrong_configuration(error) from error
        given = {override.key_or_group for override in parsed}
        of_preset = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items() if key not in given]
        of_jobs = [text for text, override in zip(overrides, parsed, strict=True) if not is_of_hydra(override)]
        of_jobs += of_preset
        if of_preset and (faults := _faults_of_jobs(config_name, parse(of_jobs), known=known)):
            raise InputError(*faults)
        swept = {override.key_or_group for override in parse(of_jobs) if override.is_sweep_override()}
        of_jobs = _swept_where_needed(config_name, of_jobs, known=known)
        again = [
            t for t, o in zip(overrides, parsed, strict=True) if o.key_or_group not in ("resume", "hydra.sweep.dir")
        ]
        return Multirun(again, of_jobs, swept, folder, sweeper, launcher)


def expand(config_name: str, overrides: Sequence[str], *, config_dirs: Sequence[str] = ()) -> list[list[str]]:
    """The overrides of every job of a multirun, in the order in which Hydra's basic sweeper runs them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with hydra_over(config_dirs):
        parsed = parse(overrides)
        if faults := override_faults(config_name, parsed, known={}):
            raise InputError(*faults)
        try:
            return [list(job) for job in BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]]
        except HydraException as error:
            hint = (
                "an interval is for a search, hydra/sweeper=optuna; a grid has values: 0.1,0.2"
                if _INTERVAL in str(error)
                else ""
            )
            raise InputError(Fault("wrong sweep", "the command line", str(error), hint)) from error


def sample_values(overrides: Sequence[str]) -> list[list[str]]:
    """For a search: the overrides of jobs in which every choice stands at least once, of intervals both ends.

    One choice after the other is varied, the others are the first ones.

    Raises:
        InputError: for an interval that holds nothing, and one that has no logarithm.
    """
    choices, faults = [], []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices.append([f"{key}={override.get_value_element_as_str()}"])
        elif override.is_interval_sweep():
            choices.append([f"{key}={override.value().start}", f"{key}={override.value().end}"])
            faults += _interval_faults(override)
        else:
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    if faults:
        raise InputError(*faults)
    first = [values[0] for values in choices]
    varied = [[*first[:i], value, *first[i + 1 :]] for i, values in enumerate(choices) for value in values[1:]]
    return [first, *varied]


def distributions(overrides: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Of each override that Optuna chooses a value for: the parameter's name, and what it draws from."""
    from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override

    parsed = zip(overrides, OverridesParser.create().parse_overrides(list(overrides)), strict=True)
    return {
        text: (override.get_key_element(), create_optuna_distribution_from_override(override))
        for text, override in parsed
        if override.is_sweep_override()
    }


def trust_jobs() -> None:
    """Let Hydra's basic sweeper start the jobs without composing all of them to see if it can: it was seen."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    BasicSweeper.validate_batch_is_legal = lambda self, batch: None


def _faults_of_jobs(config_name: str, overrides: Sequence[Override], *, known: Known) -> list[Fault]:
    """What does not exist, for one of the jobs; a key that only some of the files have that are swept, with these."""
    faults = [*override_faults(config_name, overrides, known=known), *_empty_sweeps(overrides)]
    if any(fault.what != UNKNOWN_KEY for fault in faults):
        return faults
    lacking: dict[str, dict[str, set[str]]] = {}  # of each group, and choice in it: keys that are not there
    for text, those in each_choice(overrides):
        found = override_faults(config_name, those, known=known)
        lacking.setdefault(text.partition("=")[0], {})[text] = {fault.where for fault in found}
    of_some = {}
    for choices in lacking.values():
        for key in sorted(set.union(*choices.values()) - set.intersection(*choices.values())):
            without, having = ([text for text in choices if (key in choices[text]) is lacks] for lacks in (True, False))
            cause = f"not there with {listing(without)}, only with {listing(having)}"
            hint = (
                "sweep them by a command each; python -m hybridnet.report sweep=[<one folder>,<the other>] "
                "out=<folder> compares them"
            )
            of_some[key] = Fault(UNKNOWN_KEY, key, cause, hint)
    return [*(fault for fault in faults if fault.where not in of_some), *of_some.values()]


def _empty_sweeps(overrides: Sequence[Override]) -> Iterator[Fault]:
    for override in overrides:
        is_listed = override.value_type in (ValueType.RANGE_SWEEP, ValueType.GLOB_CHOICE_SWEEP)
        if is_listed and not any(True for _ in override.sweep_string_iterator()):
            hint = "a range goes from its start up to its stop: range(0,0.3,0.1)" if override.is_range_sweep() else ""
            yield Fault("wrong value", override.input_line, "it holds no value", hint)


def _interval_faults(override: Override) -> Iterator[Fault]:
    key, low, high = override.key_or_group, override.value().start, override.value().end
    if low > high:
        cause = f"its end is below its start ({low:g})"
        yield Fault("wrong value", override.input_line, cause, f"{key}=interval({high:g},{low:g})")
    elif low <= 0 and "log" in override.value().tags:
        cause = f"it begins at {low:g}, which has no logarithm"
        yield Fault("wrong value", override.input_line, cause, "begin above 0, or leave out tag(log,…)")


def _swept_where_needed(config_name: str, overrides: Sequence[str], *, known: Known) -> list[str]:
    """With a sweep of one value for every value whose key only the swept files have.

    Hydra composes what is not swept by itself, before any job, without these files.
    """
    fixed = [override for override in parse(overrides) if not override.is_sweep_override()]
    lacking = {f.where for f in override_faults(config_name, fixed, known=known) if f.what == UNKNOWN_KEY}
    return [
        f"{o.get_key_element()}=choice({o.get_value_element_as_str()})" if o.key_or_group in lacking else text
        for text, o in zip(overrides, parse(overrides), strict=True)
    ]
