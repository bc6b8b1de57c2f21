"""What is in a composed configuration, and copies of it with other values."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hybridnet import binding
from hybridnet.config.session import CONF_DIR
from hybridnet.errors import UNKNOWN_KEY, Fault, InputError


def select(cfg: DictConfig, key: str) -> Any:
    """The value at a dotted key, or None."""
    return OmegaConf.select(cfg, key)


def keys(cfg: DictConfig) -> list[str]:
    """Every dotted key."""
    return list(binding.all_keys(OmegaConf.to_container(cfg, resolve=False)))


def identity(cfg: DictConfig, *, without: Sequence[str] = ()) -> str:
    """The same for two configurations with the same keys, values and references, else another text.

    Args:
        cfg: the configuration.
        without: keys at its top that do not count.
    """
    content = OmegaConf.to_container(cfg, resolve=False)
    return repr({key: value for key, value in content.items() if key not in without})


def plain(node: DictConfig) -> dict[str, Any]:
    """The node as nested dictionaries and lists of plain values."""
    return OmegaConf.to_container(node, resolve=True)


def top_level(cfg: DictConfig) -> dict[str, Any]:
    """The settings that belong to no part, in plain types; references in parts may be broken."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    return {key: value for key, value in raw.items() if not isinstance(value, dict)}


@functools.cache
def own_keys(config_name: str) -> frozenset[str]:
    """The keys at the top of `conf/<config_name>.yaml`, the groups that it chooses among them."""
    return frozenset({*default_choices(config_name), *_file(config_name)} - {"defaults", "hydra", "experiment"})


@functools.cache
def default_choices(config_name: str) -> dict[str, Any]:
    """Of each group that `conf/<config_name>.yaml` chooses from: the file, a list of several, or None."""
    entries = [entry for entry in _file(config_name).get("defaults", []) if isinstance(entry, dict)]
    return {group: choice for entry in entries for group, choice in entry.items()}


def _file(config_name: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(CONF_DIR / f"{config_name}.yaml"), resolve=False)


def references(cfg: DictConfig) -> set[str]:
    """Every key that a value refers to."""
    return set(binding.references(OmegaConf.to_container(cfg, resolve=False)))


def flat(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """The value at every dotted key, in plain types, and for each key that refers to another one: that key."""
    values = dict(binding.leaves(OmegaConf.to_container(cfg, resolve=True)))
    references = {}
    for place, text in binding.leaves(OmegaConf.to_container(cfg, resolve=False)):
        if isinstance(text, str) and (reference := binding.REFERENCE.fullmatch(text)):
            # A reference to a whole node has several values.
            below = [key for key in values if key == place or key.startswith((f"{place}.", f"{place}["))]
            references |= {key: reference.group(1) + key.removeprefix(place) for key in below}
    return values, references


def as_written(cfg: DictConfig) -> dict[str, Any]:
    """The value at every dotted key, in plain types; references stay as they are."""
    return dict(binding.leaves(OmegaConf.to_container(cfg, resolve=False)))


def resolved(cfg: DictConfig) -> DictConfig:
    """A copy of `cfg` without references, which says the same in another process."""
    plain = cfg.copy()
    OmegaConf.resolve(plain)
    return plain


def with_values(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy of `cfg` with other values at some dotted keys."""
    changed = cfg.copy()
    for key, value in values.items():
        OmegaConf.update(changed, key, value, force_add=True)
    return changed


def replaced(cfg: DictConfig, names: Iterable[str], *, by: DictConfig) -> DictConfig:
    """A copy of `cfg` in which the keys `names` have the values that they have in `by`."""
    return with_values(cfg, {key: OmegaConf.select(by, key) for key in names})


def shown(cfg: DictConfig, *, package: str | None, resolve: bool) -> str:
    """What Hydra's `--cfg job` prints of a configuration, with its `--package` and `--resolve`.

    Raises:
        InputError: if there is no such package.
    """
    is_whole = package in (None, "_global_")
    node = cfg if is_whole else OmegaConf.select(cfg, package)
    if node is None:
        match = binding.nearest(package, keys(cfg))
        hint = f"did you mean {match}?" if match else f"choose from {', '.join(map(str, cfg))}"
        raise InputError(Fault(UNKNOWN_KEY, f"--package={package}", "the configuration has no such key", hint))
    if not OmegaConf.is_config(node):
        return f"{node}\n"
    if resolve:
        OmegaConf.resolve(node)
    return ("" if is_whole else f"# @package {package}\n") + OmegaConf.to_yaml(node)


def nested_yaml(values: Mapping[str, Any]) -> str:
    """Values at dotted keys as a yaml of nested keys, or nothing."""
    nested = OmegaConf.create({})
    for key, value in values.items():
        OmegaConf.update(nested, key, value, force_add=True)
    return OmegaConf.to_yaml(nested) if values else ""
