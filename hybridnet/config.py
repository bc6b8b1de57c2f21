"""Composes the configuration, finds every fault in it before any data are read, and builds what it describes.

The only module besides the entry points that imports hydra or omegaconf. Neither torch nor the data packages are
imported here: a misspelt override is answered before they are.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from hybridnet import binding
from hybridnet.binding import nearest
from hybridnet.errors import Fault, FaultsError, InputError

_PACKAGE = Path(__file__).parent
CONF_DIR = next((p for p in (_PACKAGE.parent / "conf", _PACKAGE / "conf") if p.is_dir()), _PACKAGE / "conf")
ALLOWED_TARGETS = ("hybridnet.", "torch.", "torchvision.", "timm.")


def slug(text: str) -> str:
    """`model.heads=2,model/backbone=resnet34` -> `heads=2,backbone=resnet34`, safe as the name of a folder."""
    short = re.sub(r"(^|,)[^=,]*[./@]([^=,./@]+=)", r"\1\2", text)
    return re.sub(r"[^\w=.,+-]+", "-", short)[:100]


# What was composed of choices of groups alone, without any value, by those choices.
Known = dict[tuple[str, ...], DictConfig]


def compose(
    config_name: str, overrides: Sequence[str] = (), *, config_dirs: Sequence[str] = (), known: Known | None = None
) -> DictConfig:
    """Compose `conf/<config_name>.yaml` with overrides as they are typed on the command line.

    Args:
        config_name: of the yaml.
        overrides: as typed.
        config_dirs: the user's own folders, which come before conf/.
        known: of former calls that differ in their overrides only; grows. Most jobs of a sweep choose the same groups.

    Raises:
        InputError: for every override whose group, option or key does not exist, naming the nearest one.
    """
    known = {} if known is None else known
    with _hydra(config_dirs):
        parsed = _parse(overrides)
        if faults := _override_faults(config_name, parsed, known=known):
            raise InputError(*faults)
        return _with_overrides(parsed, known) or _compose(config_name, overrides)


def expand(config_name: str, overrides: Sequence[str], *, config_dirs: Sequence[str] = ()) -> list[list[str]]:
    """The overrides of every job of a multirun, in the order in which Hydra's basic sweeper runs them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with _hydra(config_dirs):
        parsed = _parse(overrides)
        if faults := _override_faults(config_name, parsed, known={}):
            raise InputError(*faults)
        try:
            return [list(job) for job in BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]]
        except HydraException as error:
            raise InputError(Fault("wrong sweep", "the command line", str(error))) from error


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


def multirun(config_name: str, overrides: Sequence[str], *, config_dirs: Sequence[str] = ()) -> Multirun:
    """What a command with `-m` asks for. Axes that a preset (`+sweep=…`) names are overridden by those that are typed.

    Raises:
        InputError: for every override whose group, option or key does not exist.
    """
    with _hydra(config_dirs):
        parsed = _parse(overrides)
        if faults := _override_faults(config_name, parsed, known={}):
            raise InputError(*faults)
        fixed = [text for text, override in zip(overrides, parsed, strict=True) if not override.is_sweep_override()]
        try:
            cfg = hydra_compose(config_name, overrides=fixed, return_hydra_config=True).hydra
            folder = Path(str(cfg.sweep.dir))
            sweeper = OmegaConf.to_container(cfg.sweeper, resolve=True)
            launcher = OmegaConf.to_container(cfg.launcher, resolve=False)  # may refer to what only a job has
        except (HydraException, OmegaConfBaseException) as error:
            raise _wrong_configuration(error) from error
        given = {override.key_or_group for override in parsed}
        of_preset = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items() if key not in given]
        of_jobs = [text for text, override in zip(overrides, parsed, strict=True) if not _is_of_hydra(override)]
        of_jobs += of_preset
        swept = {override.key_or_group for override in _parse(of_jobs) if override.is_sweep_override()}
        again = [
            t for t, o in zip(overrides, parsed, strict=True) if o.key_or_group not in ("resume", "hydra.sweep.dir")
        ]
        return Multirun(again, of_jobs, swept, folder, sweeper, launcher)


def sample_values(overrides: Sequence[str]) -> list[list[str]]:
    """For a search: the overrides of jobs in which every choice stands at least once, of intervals their lower end.

    One choice after the other is varied, the others are the first ones.
    """
    choices = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices.append([f"{key}={override.get_value_element_as_str()}"])
        elif override.is_interval_sweep():
            choices.append([f"{key}={override.value().start}"])
        else:
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    first = [values[0] for values in choices]
    varied = [[*first[:i], value, *first[i + 1 :]] for i, values in enumerate(choices) for value in values[1:]]
    return [first, *varied]


def trust_jobs() -> None:
    """Let Hydra's basic sweeper start the jobs without composing all of them to see if it can: it was seen."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    BasicSweeper.validate_batch_is_legal = lambda self, batch: None


def keys_of(overrides: Sequence[str]) -> list[str]:
    """The key or group that each override sets."""
    return [override.key_or_group for override in OverridesParser.create().parse_overrides(list(overrides))]


def group_choices(overrides: Sequence[str], *, config_dirs: Sequence[str] = ()) -> list[str]:
    """Only those overrides that choose a file of conf/ (`model=ca`), without those that set a value."""
    keys = [o.key_or_group for o in OverridesParser.create().parse_overrides(list(overrides))]
    homes = [CONF_DIR, *map(Path, config_dirs)]
    return [text for text, key in zip(overrides, keys, strict=True) if any((home / key).is_dir() for home in homes)]


def build(node: DictConfig | Mapping[str, Any], *, extra_targets: Sequence[str] = (), **arguments: Any) -> Any:
    """Instantiate a node with a `_target_`; keys that only feed interpolations (`heads`) are left out.

    Args:
        node: its own and every nested `_target_` must be allowed.
        extra_targets: prefixes that are allowed besides those of the project and of the node's configuration.
        arguments: plain values that are known only now, such as the number of classes.

    Raises:
        InputError: if a target is not allowed or cannot be imported.
        ValueError: if the target refuses a setting.
        FaultsError: of the target.
    """
    container = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    faults = list(binding.target_faults(container, allowed=(*_allowed(node), *extra_targets)))
    if faults:
        raise InputError(*faults)
    try:
        return instantiate(binding.without_knobs(container), _convert_="all", **arguments)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause and not isinstance(cause, ValueError | FaultsError):
            cause = cause.__cause__
        if cause:
            raise cause from error
        raise


def build_modules(node: Mapping[str, Any], *, extra_targets: Sequence[str] = (), **arguments: Any) -> Any:
    """`build` for a node from a file: every target must be a torch module class, so that nothing else can run.

    A package that `extra_targets` names is imported; nothing in the file can name one.

    Raises:
        InputError: if a target is something else.
    """
    if faults := list(binding.module_faults(node, extra_targets=extra_targets)):
        raise InputError(*faults)
    return build(node, extra_targets=extra_targets, **arguments)


def find_faults(cfg: DictConfig) -> dict[str, Fault]:
    """Every key of the composed configuration that its target does not take, that is missing, or of a wrong value.

    Returns:
        The fault of each key. Where a value comes from a knob by interpolation, the key is the knob's.
    """
    known = cfg.copy()
    for key in binding.references(OmegaConf.to_container(cfg, resolve=False)):
        # What others refer to must be there: `~trainer.epochs` is missing, not a broken reference of the data's.
        if OmegaConf.select(known, key, default=binding.MISSING, throw_on_resolution_failure=False) == binding.MISSING:
            OmegaConf.update(known, key, binding.MISSING, force_add=True)
    raw = OmegaConf.to_container(known, resolve=False)
    for key in binding.missing_keys(raw):
        OmegaConf.update(known, key, binding.PLACEHOLDER)  # a reference to a missing value could not be resolved
    try:
        resolved = OmegaConf.to_container(known, resolve=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key) if error.full_key else "the configuration"
        return {key: Fault("broken reference", key, str(error).splitlines()[0])}
    found = {fault.where: fault for fault in binding.target_faults(resolved, allowed=_allowed(cfg))}
    return found or binding.setting_faults(raw, resolved)


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


def hydra_files(cfg: DictConfig, hydra_cfg: DictConfig, *, without: Sequence[str]) -> dict[str, str]:
    """What Hydra keeps in `.hydra` of an output folder: name and text of each file.

    Hydra itself would write them before the folder is known to be free, and not whole or not at all.

    Args:
        cfg: of the job.
        hydra_cfg: Hydra's own.
        without: keys, and groups of keys, whose overrides were meant for one start only.
    """
    typed = OmegaConf.to_container(hydra_cfg.overrides.task, resolve=False)  # a reference stays one
    overrides = [text for text in typed if re.split(r"[=.]", text.lstrip("+~"), maxsplit=1)[0] not in without]
    return {
        "config.yaml": OmegaConf.to_yaml(cfg),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra_cfg})),
        "overrides.yaml": OmegaConf.to_yaml(overrides),
    }


def read_overrides(folder: Path) -> list[str]:
    """The overrides that the run in `folder` began with.

    Raises:
        InputError: if there is no run, or its file is damaged.
    """
    file = folder / ".hydra" / "overrides.yaml"
    if not file.is_file():
        hint = "resume=<run folder>; hydra.run.dir=<folder> resume=auto starts a run where there is none"
        raise InputError(Fault("no run to continue", f"resume={folder}", f"there is no {file}", hint))
    try:
        overrides = OmegaConf.to_container(OmegaConf.load(file))
        if not isinstance(overrides, list):
            raise ValueError("it holds no list")
        OverridesParser.create().parse_overrides(overrides)
    except Exception as error:  # whatever the parsers make of a damaged file
        cause = str(error).strip().partition("\n")[0]
        raise InputError(Fault("unreadable overrides", str(file), cause)) from error
    return overrides


def saved_settings(folder: Path, keys: Sequence[str]) -> dict[str, str]:
    """What the run in `folder` had at these keys, as text: a value, or the choice of a group; without unknown ones."""
    try:
        cfg = OmegaConf.load(folder / ".hydra" / "config.yaml")
        values = {key: OmegaConf.select(cfg, key.replace("/", "."), default=binding.MISSING) for key in keys}
        found = {key: _text(v) for key, v in values.items() if v != binding.MISSING and not isinstance(v, DictConfig)}
        if len(found) < len(keys):
            choices = OmegaConf.load(folder / ".hydra" / "hydra.yaml").hydra.runtime.choices
            found |= {key: _text(choices[key]) for key in keys if key not in found and key in choices}
    except (OSError, OmegaConfBaseException, YAMLError):  # a job that did not come so far, or was cut off
        return {}
    return found


def _text(value: Any) -> str:
    """As it would be typed."""
    if isinstance(value, ListConfig):
        return f"[{','.join(map(_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def taken_apart(
    config_name: str, overrides: Sequence[str], *, config_dirs: Sequence[str]
) -> tuple[list[tuple[str, Any, bool]], dict[str, Any]]:
    """What overrides choose and set.

    Returns:
        Of each choice of a group the group, the option (or several), and whether the group is added to the defaults;
        and the value at each dotted key.

    Raises:
        InputError: for overrides that remove something, or cannot be read.
    """
    with _hydra(config_dirs):
        parsed = _parse(overrides)
        groups, choices, values = _groups(parsed), [], {}
        for text, override in zip(overrides, parsed, strict=True):
            if override.is_delete():
                hint = "what it removes must be left out in a yaml that is written by hand"
                raise InputError(Fault("no value", text, "it removes a key, which no setting does", hint))
            if override in groups and not isinstance(override.value(), dict):
                choices.append((override.get_key_element().lstrip("+"), override.value(), override.is_add()))
            else:
                values[override.key_or_group] = override.value()
    return choices, values


def nested_yaml(values: Mapping[str, Any]) -> str:
    """Values at dotted keys as a yaml of nested keys, or nothing."""
    nested = OmegaConf.create({})
    for key, value in values.items():
        OmegaConf.update(nested, key, value, force_add=True)
    return OmegaConf.to_yaml(nested) if values else ""


def saved(folder: Path) -> DictConfig | None:
    """The configuration of the run in `folder`; None where it is missing or damaged."""
    try:
        cfg = OmegaConf.load(folder / ".hydra" / "config.yaml")
    except (OSError, OmegaConfBaseException, YAMLError):
        return None
    return cfg if isinstance(cfg, DictConfig) else None


def as_written(cfg: DictConfig) -> dict[str, Any]:
    """The value at every dotted key, in plain types; references stay as they are."""
    return dict(binding.leaves(OmegaConf.to_container(cfg, resolve=False)))


def merged(older: Sequence[str], newer: Sequence[str]) -> list[str]:
    """Both lists of overrides; where both set a key, the newer one."""
    keys_of = [override.key_or_group for override in _parse(newer)]
    kept = [text for text, override in zip(older, _parse(older), strict=True) if override.key_or_group not in keys_of]
    return [*kept, *newer]


def quoted(text: str) -> str:
    """As a value of an override, whatever characters it has: `'a=b, c'`."""
    return "'" + re.sub(r"(\\*)(?='|\Z)", r"\1\1", text).replace("'", "\\'") + "'"


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


@contextmanager
def _hydra(config_dirs: Sequence[str]) -> Iterator[None]:
    """Hydra over conf/ and, before it, the user's own folders; what was initialised before comes back at the end."""
    outer = GlobalHydra.instance().hydra  # of a search, whose jobs are composed while it runs
    GlobalHydra.instance().clear()
    with ExitStack() as on_exit:
        on_exit.callback(lambda: setattr(GlobalHydra.instance(), "hydra", outer))
        on_exit.enter_context(initialize_config_dir(str(CONF_DIR), version_base="1.3"))
        if config_dirs:
            search_path = create_config_search_path(str(CONF_DIR))
            for folder in config_dirs:
                search_path.prepend("command-line", f"file://{Path(folder).resolve()}")
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2(task_name="app", config_search_path=search_path)
        _prefer_own_files()
        yield


def _prefer_own_files() -> None:
    """Where conf/hydra has a file for a plugin, forget what the plugin has registered under the same name.

    Hydra would merge the two and warn that it will not do so in future.
    """
    for file in (CONF_DIR / "hydra").glob("*/*.yaml"):
        registered = ConfigStore.instance().repo.get("hydra", {}).get(file.parent.name, {})
        registered.pop(file.name, None)


def _parse(overrides: Sequence[str]) -> list[Override]:
    hydra = GlobalHydra.instance()
    parser = OverridesParser.create(hydra.config_loader() if hydra.is_initialized() else None)
    parsed = []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except OverrideParseException as error:
            cause = str(error).splitlines()[0]
            hint = "overrides are written key=value; put a value with blanks or commas into quotes: 'key=\"a, b\"'"
            raise InputError(Fault("unreadable override", text, cause, hint)) from error
    return parsed


def _compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    try:
        return hydra_compose(config_name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise _wrong_configuration(error) from error


def _with_overrides(overrides: Sequence[Override], known: Known) -> DictConfig | None:
    """What was composed of the same choices of files, with the values on top; None where it is not that simple.

    It takes a tenth of the time, and a sweep has many jobs of the same choices.
    """
    groups = _groups(overrides)
    values = [override for override in overrides if override not in groups and not _is_of_hydra(override)]
    base = known.get(tuple(_choices(groups)))
    is_simple = not any(override.is_sweep_override() or override.package for override in overrides)
    if base is None or not is_simple or any(override.is_delete() for override in groups):
        return None
    cfg = copy.deepcopy(base)
    try:
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise _wrong_configuration(error) from error
    return cfg


def _wrong_configuration(error: Exception) -> InputError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return InputError(Fault("wrong configuration", "the command line", " ".join(lines[:2])))


def _is_of_hydra(override: Override) -> bool:
    return override.key_or_group.startswith(("hydra.", "hydra/"))


def _override_faults(config_name: str, overrides: Sequence[Override], *, known: Known) -> list[Fault]:
    """Groups, options and keys that do not exist."""
    loader = GlobalHydra.instance().config_loader()
    groups = _groups(overrides)
    faults = []
    for override in groups:
        options = loader.get_group_options(override.key_or_group)
        values = _values(override)
        wrong = [name for value in values for name in _names(value) if name not in options]
        faults += [_option_fault(override, name, options) for name in wrong]
        if override.value() is None and not override.is_delete():
            hint = f"leave it out, or choose from {', '.join(options)}"
            faults.append(Fault("wrong value", f"{override.key_or_group}=null", "it names no file of conf", hint))
    choices = tuple(_choices(groups))
    if choices not in known:
        try:
            known[choices] = hydra_compose(config_name, overrides=list(choices))
        except (HydraException, OmegaConfBaseException):
            return faults  # for instance an optional package is missing: the full composition says so
    known_keys = keys(known[choices])
    for override in overrides:
        key = override.key_or_group
        if override in groups or key.startswith("hydra"):
            continue
        group = key.replace(".", "/")
        if group != key and isinstance(override.value(), str) and loader.get_group_options(group):
            hint = f"did you mean {group}={override.value()}?"
            faults.append(
                Fault("wrong value", f"{key}={override.value()}", f"a file of conf/{group} is chosen with /", hint)
            )
        elif key not in known_keys:
            group, name = [*key.split("."), ""][:2]
            is_left_out = name in loader.get_group_options(group)  # such as logger.mlflow.uri without logger=mlflow
            faults += _key_faults(override, known_keys, group_hint=f"choose {group}={name} too" if is_left_out else "")
    return faults


def _groups(overrides: Sequence[Override]) -> list[Override]:
    """Those that choose a file of conf/, without those that set a value."""
    loader = GlobalHydra.instance().config_loader()
    place = tuple(source.path for source in loader.get_search_path().get_path())
    return [override for override in overrides if _is_group(override.key_or_group, place)]


@functools.cache  # Hydra looks through all its sources, 10 ms for each key of each job
def _is_group(key: str, place: tuple[str, ...]) -> bool:
    """Whether `key` names a folder of the configuration, in the search path `place` of Hydra as it is now."""
    loader = GlobalHydra.instance().config_loader()
    return bool(loader.list_groups(key) or loader.get_group_options(key))


def _choices(groups: Sequence[Override]) -> Iterator[str]:
    """The choices as overrides, of a sweep the first one; without those of a file that does not exist."""
    loader = GlobalHydra.instance().config_loader()
    for override in groups:
        options = loader.get_group_options(override.key_or_group)
        values = _values(override)
        if values and values[0] is not None and all(name in options for value in values for name in _names(value)):
            chosen = f"[{','.join(values[0])}]" if isinstance(values[0], list) else values[0]
            yield f"{override.get_key_element()}={chosen}"


def _values(override: Override) -> list[Any]:
    """The value of an override, or all of them in a sweep."""
    if not override.is_sweep_override():
        return [override.value()]
    return [] if override.is_interval_sweep() else [text.strip("'\"") for text in override.sweep_string_iterator()]


def _names(choice: Any) -> list[str]:
    """The files that a choice of a group names: one, or several, as a list or as its text."""
    if isinstance(choice, str):
        names = choice[1:-1].split(",") if choice.startswith("[") else [choice]
        return [name.strip(" '\"") for name in names if name.strip()]
    return choice if isinstance(choice, list) else []


def _option_fault(override: Override, value: str, options: Sequence[str]) -> Fault:
    group = override.key_or_group
    match = nearest(value, list(options))
    meant = f"did you mean {group}={match}? " if match else ""
    return Fault(
        "unknown option", f"{group}={value}", "no such file in conf", f"{meant}choose from {', '.join(options)}"
    )


def _key_faults(override: Override, keys: Sequence[str], *, group_hint: str) -> list[Fault]:
    key = override.key_or_group
    match = nearest(key, keys)
    parent, _, name = key.rpartition(".")
    if override.is_add() and not (match and match.rpartition(".")[0] == parent):
        return []  # a new key: whether its target takes it is seen when the configuration is bound
    siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
    hint = f"did you mean {match}?" if match else f"choose from {', '.join(siblings)}" if siblings else group_hint
    return [Fault("unknown key", key, f"{parent or 'the configuration'} has no '{name}'", hint)]


def _allowed(cfg: Any) -> tuple[str, ...]:
    root = cfg._get_root() if isinstance(cfg, DictConfig) else {}
    extra = root.get("extra_targets") if isinstance(root, DictConfig) and "extra_targets" in root else []
    return (*ALLOWED_TARGETS, *(extra or []))
