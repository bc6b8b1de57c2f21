"""From a composed configuration to what it describes, and the faults that can be seen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hybridnet import binding
from hybridnet.config.spelled_out import as_typed
from hybridnet.errors import Fault, FaultsError, InputError

ALLOWED_TARGETS = ("hybridnet.", "torch.", "torchvision.", "timm.")


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

    A package that `extra_targets` names is imported; nothing in the file can name one. What is judged is what is built:
    the file may hold nothing that Hydra would turn into something else.

    Raises:
        InputError: if a target is something else, or there is more than plain values.
    """
    node, arguments = _plain(node, "model"), _plain(arguments, "")
    if faults := list(binding.module_faults({**node, **arguments}, extra_targets=extra_targets)):
        raise InputError(*faults)
    return build(node, extra_targets=extra_targets, **arguments)


def module_faults(node: DictConfig, *, extra_targets: Sequence[str] = ()) -> list[Fault]:
    """What `build_modules` would refuse when the same node comes from a file."""
    return list(binding.module_faults(OmegaConf.to_container(node, resolve=True), extra_targets=extra_targets))


def _plain(value: Any, where: str) -> Any:
    """Dictionaries, lists, numbers and text without references, which Hydra would resolve after they were judged."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{where}.{key}".strip(".")) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        raise InputError(Fault("reference in a file", where, f"{value!r}; a saved model has values only"))
    if value is not None and not isinstance(value, bool | int | float | str):
        raise InputError(Fault("wrong value", where, f"it is a {type(value).__name__}; a saved model has values only"))
    return value


def find_faults(cfg: DictConfig, *, defaults: DictConfig | None = None) -> dict[str, Fault]:
    """Every key of the composed configuration that its target does not take, that is missing, or of a wrong value.

    Args:
        cfg: with the user's values.
        defaults: the same without them: a knob as it is there may be one that nothing uses any longer, as
            `trainer.device` after `device=cpu`.

    Returns:
        The fault of each key. Where a value comes from a knob by interpolation, the key is the knob's.
    """
    known, given = cfg.copy(), OmegaConf.to_container(cfg, resolve=False)
    written = {*binding.all_keys(given)}
    for key in binding.references(given):
        # What others refer to must be there: `~trainer.epochs` is missing, not a broken reference of the data's.
        found = OmegaConf.select(known, key, default=binding.MISSING, throw_on_resolution_failure=False)
        if found == binding.MISSING and key not in written and _is_expected(key, defaults):
            OmegaConf.update(known, key, binding.MISSING, force_add=True)
    raw = OmegaConf.to_container(known, resolve=False)
    for key in binding.missing_keys(raw):
        OmegaConf.update(known, key, binding.PLACEHOLDER)  # a reference to a missing value could not be resolved
    try:
        resolved = OmegaConf.to_container(known, resolve=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key) if error.full_key else "the configuration"
        values = dict(binding.leaves(raw))
        if (knob := binding.source(values.get(key), key)) in values:
            key = knob  # of `data.seed=${seed}` it is the reference in `seed` that is broken
        return {key: Fault("broken reference", key, str(error).splitlines()[0])}
    found = {fault.where: fault for fault in binding.target_faults(resolved, allowed=_allowed(cfg))}
    return found or binding.setting_faults(raw, resolved, unused=_untouched_knobs(cfg, defaults))


def _is_expected(key: str, defaults: DictConfig | None) -> bool:
    """Whether a key that is referred to and not there was removed; else the reference names something else."""
    return defaults is None or key in binding.all_keys(OmegaConf.to_container(defaults, resolve=False))


def with_examples(faults: Mapping[str, Fault], defaults: DictConfig) -> dict[str, Fault]:
    """The faults of `find_faults`; those without a hint have the default value of their key as one."""
    raw = OmegaConf.to_container(defaults, resolve=False)
    given = set(binding.all_keys(raw)) - set(binding.missing_keys(raw))

    def with_example(key: str, fault: Fault) -> Fault:
        if fault.hint or key not in given:
            return fault
        value = OmegaConf.select(defaults, key)
        plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        return fault._replace(hint=f"for instance {key}={as_typed(plain)}")

    return {key: with_example(key, fault) for key, fault in faults.items()}


def _untouched_knobs(cfg: DictConfig, defaults: DictConfig | None) -> set[str]:
    """Keys that others refer to in `defaults`, and that still have their value."""
    if defaults is None:
        return set()

    def value(of: DictConfig, key: str) -> Any:
        return OmegaConf.select(of, key, throw_on_resolution_failure=False)

    knobs = binding.references(OmegaConf.to_container(defaults, resolve=False))
    return {key for key in knobs if value(cfg, key) == value(defaults, key)}


def _allowed(cfg: Any) -> tuple[str, ...]:
    root = cfg._get_root() if isinstance(cfg, DictConfig) else {}
    extra = root.get("extra_targets") if isinstance(root, DictConfig) and "extra_targets" in root else []
    return (*ALLOWED_TARGETS, *(extra or []))
