"""From overrides to the configuration of a run, or of every job of a sweep."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hybridnet.config.content import default_choices, keys
from hybridnet.config.overrides import (
    UNKNOWN_KEY,
    choices_of,
    each_choice,
    groups_of,
    hydra_faults,
    is_of_hydra,
    key_faults,
    option_faults,
    parse,
)
from hybridnet.config.session import hydra_over
from hybridnet.errors import Fault, InputError
from hybridnet.wording import listing

# What Hydra says, as a pattern, with the override to type instead: its own advice is for who writes a yaml.
_ADVICE = {
    r"Multiple values for (\S+)\. To override a value use 'override \S+: (\S+)'": r"\1=\2",
    r"force-add of config groups is not supported: '\+\+(.*)'": r"\1",
    r"Could not override .* To append to your default list use (\+.*)": r"\1",
    r"Could not delete '(.*)'\. No match in the defaults list": r"leave out ~\1",
}

_INTERVAL = "INTERVAL_SWEEP"  # as Hydra's grid names what it cannot do

# What was composed of choices of groups alone, without any value, by those choices.
Known = dict[tuple[str, ...], DictConfig]


def compose(
    config_name: str, overrides: Sequence[str] = (), *, config_dirs: Sequence[str] = (), known: Known | None = None
) -> DictConfig:
    """Compose `conf/<config_name>.yaml` with overrides as they are typed on the command line.

    Args:
        config_name: of the yaml.
        overrides: as typed.
        config_dirs: the user's own folders, behind conf/.
        known: of former calls that differ in their overrides only; grows. Most jobs of a sweep choose the same groups.

    Raises:
        InputError: for every override whose group, option or key does not exist, naming the nearest one.
    """
    known = {} if known is None else known
    with hydra_over(config_dirs):
        parsed = parse(overrides)
        if faults := _override_faults(config_name, parsed, known=known):
            raise InputError(*faults)
        return _with_overrides(parsed, known) or _compose(config_name, overrides)


def expand(config_name: str, overrides: Sequence[str], *, config_dirs: Sequence[str] = ()) -> list[list[str]]:
    """The overrides of every job of a multirun, in the order in which Hydra's basic sweeper runs them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with hydra_over(config_dirs):
        parsed = parse(overrides)
        if faults := _override_faults(config_name, parsed, known={}):
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
            raise _wrong_configuration(error) from error
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


def _interval_faults(override: Override) -> Iterator[Fault]:
    key, low, high = override.key_or_group, override.value().start, override.value().end
    if low > high:
        cause = f"its end is below its start ({low:g})"
        yield Fault("wrong value", override.input_line, cause, f"{key}=interval({high:g},{low:g})")
    elif low <= 0 and "log" in override.value().tags:
        cause = f"it begins at {low:g}, which has no logarithm"
        yield Fault("wrong value", override.input_line, cause, "begin above 0, or leave out tag(log,…)")


def trust_jobs() -> None:
    """Let Hydra's basic sweeper start the jobs without composing all of them to see if it can: it was seen."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    BasicSweeper.validate_batch_is_legal = lambda self, batch: None


def taken_apart(
    overrides: Sequence[str], *, config_dirs: Sequence[str]
) -> tuple[list[tuple[str, Any, bool]], dict[str, Any]]:
    """What overrides choose and set.

    Returns:
        Of each choice of a group the group, the option (or several), and whether the group is added to the defaults;
        and the value at each dotted key.

    Raises:
        InputError: for overrides that remove something, or cannot be read.
    """
    with hydra_over(config_dirs):
        parsed = parse(overrides)
        groups, choices, values = groups_of(parsed), [], {}
        for text, override in zip(overrides, parsed, strict=True):
            if override.is_delete():
                hint = "what it removes must be left out in a yaml that is written by hand"
                raise InputError(Fault("no value", text, "it removes a key, which no setting does", hint))
            if override in groups and override.value() is None:
                continue  # `experiment=null`: no file, as without it
            if override in groups and not isinstance(override.value(), dict):
                choices.append((override.get_key_element().lstrip("+"), override.value(), override.is_add()))
            else:
                values[override.key_or_group] = override.value()
    return choices, values


def _compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    try:
        return hydra_compose(config_name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise _wrong_configuration(error, is_training=config_name == "train") from error


def _with_overrides(overrides: Sequence[Override], known: Known) -> DictConfig | None:
    """What was composed of the same choices of files, with the values on top; None where it is not that simple.

    It takes a tenth of the time, and a sweep has many jobs of the same choices.
    """
    groups = groups_of(overrides)
    values = [override for override in overrides if override not in groups and not is_of_hydra(override)]
    base = known.get(tuple(choices_of(groups)))
    is_simple = not any(override.is_sweep_override() or override.package for override in overrides)
    if base is None or not is_simple or any(override.is_delete() for override in groups):
        return None
    cfg = copy.deepcopy(base)
    try:
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise _wrong_configuration(error) from error
    return cfg


def _override_faults(config_name: str, overrides: Sequence[Override], *, known: Known) -> list[Fault]:
    """Groups, options and keys that do not exist."""
    groups = groups_of(overrides)
    of_hydra = [override for override in overrides if override not in groups and is_of_hydra(override)]
    of_groups = default_choices(config_name)
    faults = option_faults(groups, defaults=of_groups) + hydra_faults(of_hydra)
    choices = tuple(choices_of(groups))
    if choices not in known:
        try:
            known[choices] = hydra_compose(config_name, overrides=list(choices))
        except (HydraException, OmegaConfBaseException):
            return faults  # for instance an optional package is missing: the full composition says so
    faults += _unknown_to_hydra(config_name, of_hydra, choices)
    values = [override for override in overrides if override not in [*groups, *of_hydra]]
    # `experiment`, whose files are of the whole configuration, has no key of its own.
    return faults + key_faults(values, list(dict.fromkeys([*keys(known[choices]), *of_groups])), groups=groups)


def _faults_of_jobs(config_name: str, overrides: Sequence[Override], *, known: Known) -> list[Fault]:
    """The same of all jobs of a sweep; a key that only some of the files have that it chooses is told with these."""
    faults = [*_override_faults(config_name, overrides, known=known), *_empty_sweeps(overrides)]
    if any(fault.what != UNKNOWN_KEY for fault in faults):
        return faults
    lacking: dict[str, dict[str, set[str]]] = {}  # of each group, and choice in it: keys that are not there
    for text, those in each_choice(overrides):
        found = _override_faults(config_name, those, known=known)
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


def _swept_where_needed(config_name: str, overrides: Sequence[str], *, known: Known) -> list[str]:
    """With a sweep of one value for every value whose key only the swept files have.

    Hydra composes what is not swept by itself, before any job, without these files.
    """
    fixed = [override for override in parse(overrides) if not override.is_sweep_override()]
    lacking = {f.where for f in _override_faults(config_name, fixed, known=known) if f.what == UNKNOWN_KEY}
    return [
        f"{o.get_key_element()}=choice({o.get_value_element_as_str()})" if o.key_or_group in lacking else text
        for text, o in zip(overrides, parse(overrides), strict=True)
    ]


def _unknown_to_hydra(config_name: str, overrides: Sequence[Override], choices: Sequence[str]) -> list[Fault]:
    """Settings of Hydra's own that do not exist; it is composed only for those that a plugin may have, for its time."""
    unsure = [o for o in overrides if o.key_or_group not in _hydra_keys() and not (o.is_add() or o.is_force_add())]
    if not unsure:
        return []
    cfg = hydra_compose(config_name, overrides=list(choices), return_hydra_config=True)
    return key_faults(unsure, [key for key in keys(cfg) if key.startswith("hydra.")])


@functools.cache
def _hydra_keys() -> frozenset[str]:
    return frozenset(f"hydra.{key}" for key in keys(OmegaConf.structured(HydraConf)))


def _wrong_configuration(error: Exception, *, is_training: bool = True) -> InputError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    if "--multirun" in str(error):  # Hydra names it last, or not so that it helps
        typed = re.search(r"'(.*)'", lines[0])
        many = "python train.py -m … starts a run for each value" if is_training else "start it once for each value"
        hint = f"{many}; a list is written [a,b], text with a comma in quotes"
        return InputError(Fault("many values", typed[1] if typed else lines[0], "one run takes one of them", hint))
    said = " ".join(lines[:2])
    found = ((re.search(pattern, said), advice) for pattern, advice in _ADVICE.items())
    hint, cause = next(
        ((match.expand(advice), said.partition(". To ")[0]) for match, advice in found if match), ("", said)
    )
    if hint.startswith("+") and not is_training:  # it would be taken, and its keys refused
        hint = f"leave out {hint[1:]}"
    return InputError(Fault("wrong configuration", "the command line", cause, hint))
