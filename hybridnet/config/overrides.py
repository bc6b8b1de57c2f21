"""What is typed: overrides, which choose files of conf/ or set values, and the faults in them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from hybridnet.binding import nearest
from hybridnet.config.session import CONF_DIR
from hybridnet.errors import UNKNOWN_KEY, Fault, InputError

# Values that Hydra reads as they are.
_PLAIN = re.compile(r"[\w./*?+:@%$|-]*", re.ASCII)
_WORDS = re.compile(r"[\w\s./+:-]+")
_FOLDERS = {"hydra.run.dir": "outputs/runs/<name>", "hydra.sweep.dir": "outputs/sweeps/<name>"}


def slug(text: str) -> str:
    """`model.heads=2,model/backbone=resnet34` -> `heads=2,backbone=resnet34`, safe as the name of a folder."""
    short = re.sub(r"(^|,)[^=,]*[./@]([^=,./@]+=)", r"\1\2", text)
    return re.sub(r"[^\w=.,+-]+", "-", short)[:100]


def quoted(text: str) -> str:
    """As a value of an override, whatever characters it has: `'a=b, c'`."""
    return "'" + re.sub(r"(\\*)(?='|\Z)", r"\1\1", text).replace("'", "\\'") + "'"


def readable(text: str) -> str:
    """An override as it was meant: in quotes, where Hydra would take characters of a path for its own syntax.

    These are values that name something that is there, also by a pattern (`run=sweep/0_model=plain,seed=0`), and words
    that are not all ASCII (`out=水稻`). A `~` in front is the home folder: shells do not replace it in
    `data.root=~/photos`, nor in a list or a sweep of paths.
    """
    key, is_set, value = text.partition("=")
    if (expanded := _at_home(value)) != value:
        return f"{key}={expanded}"
    if not is_set or _PLAIN.fullmatch(value) or value.startswith(("[", "{", "'", '"')):
        return text
    is_path = os.path.lexists(value) or any(True for _ in glob.iglob(value, recursive=True))  # noqa: PTH207
    is_of_words = _WORDS.fullmatch(value) and not value.isascii()
    return f"{key}={quoted(value)}" if is_path or is_of_words else text


def _at_home(value: str) -> str:
    is_list = value.startswith("[") and value.endswith("]")
    is_one = not is_list and (",~" not in value or os.path.lexists(os.path.expanduser(value)))  # noqa: PTH111
    paths = [value] if is_one else value[is_list : len(value) - is_list].split(",")
    expanded = [os.path.expanduser(path.strip()) for path in paths]  # noqa: PTH111
    if expanded == [path.strip() for path in paths]:
        return value
    joined = ",".join(quoted(new) if new != path.strip() else path for new, path in zip(expanded, paths, strict=True))
    return f"[{joined}]" if is_list else joined


def keys_of(overrides: Sequence[str]) -> list[str]:
    """The key or group that each override sets."""
    return [override.key_or_group for override in OverridesParser.create().parse_overrides(list(overrides))]


def group_choices(overrides: Sequence[str], *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Only those overrides that choose a file of conf/ (`model=ca`), without those that set a value."""
    homes = [CONF_DIR, *map(Path, config_dirs)]
    typed = zip(overrides, keys_of(overrides), strict=True)
    return [text for text, key in typed if any((home / key).is_dir() for home in homes)]


def merged(older: Sequence[str], newer: Sequence[str]) -> list[str]:
    """Both lists of overrides; where both set a key, the newer one."""
    given = {override.key_or_group for override in parse(newer)}
    kept = [text for text, override in zip(older, parse(older), strict=True) if override.key_or_group not in given]
    return [*kept, *newer]


def parse(overrides: Sequence[str]) -> list[Override]:
    """As Hydra reads them, with the resolvers of the configuration it is over.

    Raises:
        InputError: for one that cannot be read.
    """
    hydra = GlobalHydra.instance()
    parser = OverridesParser.create(hydra.config_loader() if hydra.is_initialized() else None)
    parsed = []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except OverrideParseException as error:
            cause = str(error).splitlines()[0]
            if cause.startswith("Lexer"):  # and then the override once more
                cause = "Hydra cannot read one of its characters"
            hint = (
                "overrides are written key=value; put a value with commas, =, # or brackets into quotes, unless it is "
                "a path that exists: 'key=\"a, b\"'"
            )
            raise InputError(Fault("unreadable override", text, cause, hint)) from error
        if not parsed[-1].key_or_group:
            raise InputError(Fault("unreadable override", text, "it has no key", "overrides are written key=value"))
    return parsed


def is_of_hydra(override: Override) -> bool:
    """Whether it sets something of Hydra's own."""
    return override.key_or_group.startswith(("hydra.", "hydra/"))


def groups_of(overrides: Sequence[Override]) -> list[Override]:
    """Those that choose a file of conf/, without those that set a value."""
    return [override for override in overrides if _listed(override.key_or_group, kind=None)]


def options_of(group: str) -> list[str]:
    """The files of a group of conf/; none where there is no such group."""
    return _listed(group, kind=ObjectType.CONFIG)


def _listed(group: str, *, kind: ObjectType | None) -> list[str]:
    """Files and groups in a group, as the loader's `get_group_options` has them, which takes 7 ms instead of 0.1.

    It copies all sources at each call, to be able to change them; and every override asks three times.
    """
    return GlobalHydra.instance().config_loader().repository.get_group_options(group, kind)


def choices_of(groups: Sequence[Override]) -> Iterator[str]:
    """The choices as overrides, of a sweep the first one; without those of a file that does not exist."""
    for override in groups:
        options = options_of(override.key_or_group)
        values = _values(override)
        if values and values[0] is not None and all(name in options for value in values for name in _names(value)):
            yield f"{override.get_key_element()}={values[0]}"


def each_choice(overrides: Sequence[Override]) -> Iterator[tuple[str, list[Override]]]:
    """Of every sweep over the files of a group: each of them as it is typed alone, and all overrides with it."""
    for place, override in enumerate(overrides):
        if override.is_sweep_override() and groups_of([override]):
            for value in _values(override):
                text = f"{override.get_key_element()}={'null' if value is None else value}"
                yield text, [*overrides[:place], *parse([text]), *overrides[place + 1 :]]


def _values(override: Override) -> list[Any]:
    """The value of an override, or all of them in a sweep."""
    if not override.is_sweep_override():
        return [override.value()]
    texts = [] if override.is_interval_sweep() else override.sweep_string_iterator()
    return [None if text == "null" else text.strip("'\"") for text in texts]


def _names(choice: Any) -> list[str]:
    """The files that a choice of a group names: one, or several, as a list or as its text."""
    if isinstance(choice, str):
        names = choice[1:-1].split(",") if choice.startswith("[") else [choice]
        return [name.strip(" '\"") for name in names if name.strip()]
    return choice if isinstance(choice, list) else []


def option_faults(groups: Sequence[Override], *, defaults: Mapping[str, Any]) -> list[Fault]:
    """Files of conf/ that are chosen and do not exist, and choices of none.

    Args:
        groups: the overrides.
        defaults: by group, the choice without them.
    """
    faults = []
    for override in groups:
        options = options_of(override.key_or_group)
        wrong = [name for value in _values(override) for name in _names(value) if name not in options]
        faults += [_option_fault(override, name, options) for name in wrong]
        if not override.is_delete() and any(value in ("", None) for value in _values(override)):
            faults.append(_none_fault(override, options, default=defaults.get(override.key_or_group, "")))
    return faults


def _none_fault(override: Override, options: Sequence[str], *, default: Any) -> Fault:
    may_be_none = default is None or isinstance(default, list)
    none = f"{override.key_or_group}=[] for none of them" if may_be_none else "leave it out"
    hint = f"{none}, or choose from {', '.join(options)}"
    return Fault("wrong value", override.input_line.lstrip("+"), "it names no file of conf", hint)


def key_faults(overrides: Sequence[Override], keys: Sequence[str], *, groups: Sequence[Override] = ()) -> list[Fault]:
    """Values that are set at none of the `keys` of the configuration, or at one of a group that is left out."""
    left_out = {group.key_or_group.replace("/", "."): group.input_line for group in groups if group.is_delete()}
    return [fault for override in overrides for fault in _key_faults(override, keys, left_out)]


def _key_faults(override: Override, keys: Sequence[str], left_out: Mapping[str, str]) -> list[Fault]:
    key, value = override.key_or_group, override.value()
    if key.endswith("._target_") and not override.is_add():
        return [_target_fault(key)]
    for group, typed in left_out.items():
        if key.startswith(f"{group}."):
            return [Fault(UNKNOWN_KEY, key, f"{typed} leaves out all of it", f"leave out {typed}")]
    group = key.replace(".", "/")
    if isinstance(value, str) and options_of(group):
        cause, hint = f"a file of conf/{group} is chosen with /", f"did you mean {group}={value}?"
        return [Fault("wrong value", f"{key}={value}", cause, hint)]
    if key in keys:
        return []
    group, name = [*key.split("."), ""][:2]
    is_left_out = group in keys and name in options_of(group)  # such as logger.mlflow.uri without logger=mlflow
    return _unknown_key(override, keys, group_hint=f"choose {group}={name} too" if is_left_out else "")


def hydra_faults(overrides: Sequence[Override]) -> list[Fault]:
    """Settings of Hydra's own with a value that it would take, to do something else than what was meant."""
    faults = []
    for override in overrides:
        key = override.key_or_group
        if key == "hydra.searchpath":
            cause = "own yamls are looked for in one folder, which is no setting"
            faults.append(Fault("wrong value", key, cause, "--config-dir <folder>"))
        if key in _FOLDERS and not str(override.value() or "").strip():
            hint = f"for instance {key}={_FOLDERS[key]}"
            faults.append(Fault("wrong value", override.input_line, "must name a folder", hint))
    return faults


def _target_fault(key: str) -> Fault:
    """Settings belong to their target: another one comes with its own, in a file of the group."""
    parts = key.split(".")[:-1]
    groups = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    group = next((group for group in groups if options_of(group)), "")
    chosen = f"choose another file with {group}={' or '.join(options_of(group))}, or " if group else ""
    hint = f"{chosen}name the class in a yaml of your own, with --config-dir <folder>"
    return Fault("wrong value", key, "a class comes with its settings, in a yaml", hint)


def _option_fault(override: Override, value: str, options: Sequence[str]) -> Fault:
    group = override.key_or_group
    match = nearest(value, list(options))
    meant = f"did you mean {group}={match}? " if match else ""
    return Fault(
        "unknown option", f"{group}={value}", "no such file in conf", f"{meant}choose from {', '.join(options)}"
    )


def _unknown_key(override: Override, keys: Sequence[str], *, group_hint: str) -> list[Fault]:
    key = override.key_or_group
    match = nearest(key, keys)
    parent, _, name = key.rpartition(".")
    if override.is_add() and not (match and match.rpartition(".")[0] == parent):
        return []  # a new key: whether its target takes it is seen when the configuration is bound
    siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
    hint = f"did you mean {match}?" if match else f"choose from {', '.join(siblings)}" if siblings else group_hint
    return [Fault(UNKNOWN_KEY, key, f"{parent or 'the configuration'} has no '{name}'", hint)]
