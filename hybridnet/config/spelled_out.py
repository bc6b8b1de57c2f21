"""A sweep's preset (`+sweep=…`) spelled out: what it changes in a job's configuration, as overrides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybridnet.config.overrides import groups_of, parse, quoted
from hybridnet.config.session import hydra_over

PRESET = "sweep"  # group of the presets, and node of what belongs to the sweep as a whole
_WORD = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_NO_TEXT = ("true", "false", "null", "inf", "nan")  # words that are read as something else


class Changes(NamedTuple):
    """What a preset changes in a job.

    Attributes:
        choices: overrides that choose files of conf/.
        values: by dotted key, references as they are written.
        added: those of the keys that are not there without it.
    """

    choices: list[str]
    values: dict[str, Any]
    added: set[str]


NOTHING = Changes([], {}, set())


def preset_changes(config_name: str, overrides: Sequence[str], *, config_dirs: Sequence[str]) -> Changes:
    """What the preset among these overrides changes beside the other choices; nothing where there is none.

    Args:
        config_name: of the yaml.
        overrides: that choose files of conf/, of a job that can be composed.
        config_dirs: the user's own folders.
    """
    with hydra_over(config_dirs):
        groups = [group for group in groups_of(parse(overrides)) if not isinstance(group.value(), dict)]
        others = [group.input_line for group in groups if group.key_or_group != PRESET]
        if len(others) == len(groups):
            return NOTHING
        chosen, without = (_choices(config_name, texts) for texts in ([group.input_line for group in groups], others))
        choices: list[str] = []
        for group, option in chosen.items():
            if group != PRESET and without.get(group) != option:
                choices.append(_override(config_name, group, option, [*others, *choices]))
        wanted = dict(_values(hydra_compose(config_name, overrides=[group.input_line for group in groups])))
        found = dict(_values(hydra_compose(config_name, overrides=[*choices, *others])))
    values = {key: value for key, value in wanted.items() if key not in found or found[key] != value}
    return Changes(choices, values, wanted.keys() - found.keys())


def spelled_out(overrides: Sequence[str], cfg: DictConfig, changes: Changes) -> list[str]:
    """The overrides of a job, with what its preset changes in place of the preset. What is typed wins over it.

    Args:
        overrides: that can be parsed.
        cfg: what they compose to.
        changes: of the preset among them.
    """
    parsed = parse(overrides)
    typed = {override.key_or_group for override in parsed}
    if PRESET not in typed:
        return list(overrides)
    composed = dict(_values(cfg))
    values = [
        f"{'+' if key in changes.added else ''}{key}={as_typed(value)}"
        for key, value in changes.values.items()
        if key not in typed and key in composed and composed[key] == value
    ]
    spelled = []
    for text, override in zip(overrides, parsed, strict=True):
        if override.key_or_group == PRESET:
            spelled += [*changes.choices, *values]
        elif override.key_or_group in changes.added and not override.is_delete():
            spelled.append(f"+{text.lstrip('+')}")  # without the preset it is a new key
        else:
            spelled.append(text)
    return spelled


def _choices(config_name: str, overrides: Sequence[str]) -> dict[str, str | None]:
    """The file of each group that is chosen, of several `[a,b]`; without Hydra's own."""
    found = GlobalHydra.instance().config_loader().compute_defaults_list(config_name, list(overrides), RunMode.RUN)
    choices = found.overrides.known_choices
    several: dict[str, list[str]] = {}
    for file in found.defaults:  # it does not say which of them are one choice
        group, _, option = file.config_path.rpartition("/")
        if group and group not in choices and file.package == group.replace("/", "."):
            several.setdefault(group, []).append(option)
    choices = choices | {group: f"[{','.join(options)}]" for group, options in several.items()}
    return {group: option for group, option in choices.items() if not group.startswith("hydra")}


def _override(config_name: str, group: str, option: str | None, others: Sequence[str]) -> str:
    """What chooses a file beside others; a group with an empty list of files has its place, which `_choices` lacks."""
    try:
        _choices(config_name, [*others, f"{group}={option}"])
    except ConfigCompositionException:
        return f"+{group}={option}"
    return f"{group}={option}"


def _values(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    """The value at every dotted key of a job, lists as a whole; without what belongs to the sweep."""
    content = OmegaConf.to_container(cfg, resolve=False)
    return _leaves({key: value for key, value in content.items() if key != PRESET}, "")


def _leaves(node: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def as_typed(value: Any) -> str:
    """A value as Hydra reads it in an override."""
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{as_typed(item)}' for key, item in value.items())}}}"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value.lower() not in _NO_TEXT else quoted(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
