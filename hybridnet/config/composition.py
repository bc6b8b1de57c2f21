"""From overrides to the configuration of a run."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hybridnet.config.content import default_choices, keys
from hybridnet.config.overrides import (
    choices_of,
    groups_of,
    hydra_faults,
    is_of_hydra,
    key_faults,
    option_faults,
    parse,
)
from hybridnet.config.session import hydra_over
from hybridnet.errors import Fault, InputError

# What Hydra says, as a pattern, with the override to type instead: its own advice is for who writes a yaml.
_ADVICE = {
    r"Multiple values for (\S+)\. To override a value use 'override \S+: (\S+)'": r"\1=\2",
    r"force-add of config groups is not supported: '\+\+(.*)'": r"\1",
    r"Could not override .* To append to your default list use (\+.*)": r"\1",
    r"'seed' not in 'GridSampler": "leave out hydra/sweeper=optuna and its sampler; a grid has values: model.heads=2,4",
    r"Could not delete '(.*)'\. No match in the defaults list": r"leave out ~\1",
}

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
        if faults := override_faults(config_name, parsed, known=known):
            raise InputError(*faults)
        return _with_overrides(parsed, known) or _compose(config_name, overrides)


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
            if override in groups and not isinstance(override.value(), dict):
                choices.append((override.get_key_element().lstrip("+"), override.value(), override.is_add()))
            else:
                values[override.key_or_group] = override.value()
    return choices, values


def _compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    try:
        return hydra_compose(config_name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise wrong_configuration(error, is_training=config_name == "train") from error


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
        raise wrong_configuration(error) from error
    return cfg


def override_faults(config_name: str, overrides: Sequence[Override], *, known: Known) -> list[Fault]:
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


def wrong_configuration(error: Exception, *, is_training: bool = True) -> InputError:
    """What Hydra says of a command line, in a line, with what to type instead where that is known."""
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
