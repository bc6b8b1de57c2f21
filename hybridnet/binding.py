"""Holds a composed configuration, as plain dictionaries, against the signatures of the targets it names."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from hybridnet import packages, settings
from hybridnet.errors import UNKNOWN_KEY, Fault

MISSING = "???"  # Hydra's word for a value that the user must give
PLACEHOLDER = "\0missing"  # stands for it where references are resolved
REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def nearest(word: str, choices: Sequence[str]) -> str:
    """The choice that `word` most likely meant, or an empty string.

    Of dotted keys the last parts are compared: `epochs` and `optim.epochs` both mean `trainer.epochs`. One that is the
    same comes before any that is similar, and one with the same parent before others.
    """

    def last(key: str) -> str:
        return key.rpartition(".")[2]

    wanted = last(word).replace("-", "_")
    siblings = [choice for choice in choices if choice.rpartition(".")[0] == word.rpartition(".")[0]]
    for pool, cutoff in ((siblings, 1.0), (choices, 1.0), (siblings, 0.6), (choices, 0.8)):
        by_last = {last(choice): choice for choice in reversed(pool)}
        if matches := difflib.get_close_matches(wanted, list(by_last), n=1, cutoff=cutoff):
            return by_last[matches[0]]
    return ""


def all_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of nested dictionaries, without Hydra's own (`_target_` …)."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if not str(key).startswith("_"):
                yield f"{prefix}{key}"
                yield from all_keys(value, f"{prefix}{key}.")


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of nested dictionaries, and of those in lists, that holds a plain value; and the value.

    A dictionary of several parts (`model.blocks`) has a value of its own: their names, since their order counts.
    """
    if isinstance(node, Mapping):
        if len(node) > 1 and all(isinstance(part, Mapping) and "_target_" in part for part in node.values()):
            yield path, list(node)
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        for index, value in enumerate(node):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path, node


def missing_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of nested dictionaries whose value the user must give."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from missing_keys(value, f"{prefix}{key}.")
        elif value == MISSING:
            yield f"{prefix}{key}"


def _nodes(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dictionary with a `_target_`, with its dotted path."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _nodes(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _nodes(value, f"{path}[{index}]")


def target_faults(container: Any, *, allowed: Sequence[str]) -> Iterator[Fault]:
    """Every `_target_` that is not below an allowed prefix, or cannot be imported."""
    for where, node in _nodes(container, ""):
        target = node["_target_"]
        if not isinstance(target, str) or not target.startswith(tuple(allowed)):
            hint = f"a _target_ may start with {', '.join(allowed)}; extra_targets=[my_package.] allows another"
            yield Fault("target not allowed", f"{where}._target_", f"'{target}'", hint)
        elif _locate(target) is None:
            yield Fault("unknown target", f"{where}._target_", f"cannot import '{target}'{_why_not(target)}")


def _locate(target: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        if (explained := packages.explained(error)) is not error:
            raise explained from error  # the target is fine
        return None
    except Exception:  # of a module of the user's own
        return None


def _why_not(target: str) -> str:
    """Of a target that is not found: ` (what Python says)`."""
    module, _, name = target.rpartition(".")
    try:
        importlib.import_module(module)
    except (ImportError, SyntaxError) as error:  # which say where
        return f" ({error})"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = next((frame for frame in reversed(frames) if frame.name == "<module>"), frames[-1])
        return f" ({type(error).__name__}: {error}; {place.filename}, line {place.lineno})"
    return f" ({module} has no {name})"


def module_faults(container: Any, *, extra_targets: Sequence[str] = ()) -> Iterator[Fault]:
    """Every `_target_` that is not a class of torch modules; others than those of `extra_targets` are not imported."""
    from torch import nn

    known = ("hybridnet.model.", "torch.nn.", "torchvision.", "timm.", *extra_targets)
    for where, node in _nodes(container, ""):
        target, key = node["_target_"], f"{where}._target_".lstrip(".")
        if not isinstance(target, str) or not target.startswith(known):
            package = str(target).partition(".")[0]
            cause = f"'{target}' is not below {', '.join(known)}, and nothing else is imported for a saved model"
            yield Fault("target not allowed", key, cause, f"if you trust it: extra_targets=[{package}.]")
        elif (found := _locate(target)) is None:
            hint = "its package must be installed, or be in a folder of PYTHONPATH"
            yield Fault("unknown target", key, f"cannot import '{target}'{_why_not(target)}", hint)
        elif not (inspect.isclass(found) and issubclass(found, nn.Module)):
            hint = "a model is made of classes derived from torch.nn.Module: only these are built from a saved model"
            yield Fault("target not allowed", key, f"'{target}' is not a class of torch modules", hint)


def without_knobs(node: Any) -> Any:
    """The node without keys that its target does not take: they only feed interpolations further down."""
    if isinstance(node, Mapping):
        taken = settings.parameters(_locate(node["_target_"])) if "_target_" in node else node
        return {k: without_knobs(v) for k, v in node.items() if k in taken or str(k).startswith("_")}
    return [without_knobs(item) for item in node] if isinstance(node, list) else node


def setting_faults(raw: Any, resolved: Any, *, unused: Set[str] = frozenset()) -> dict[str, Fault]:
    """By key: unknown keys, missing ones, and values that do not fit the target's annotation.

    Args:
        raw: the configuration with its interpolations.
        resolved: the same with their values, and PLACEHOLDER for missing ones.
        unused: knobs that need not be taken by anything.
    """
    sources = {*references(raw), *unused}
    found: dict[str, Fault] = {}
    for fault in _binding_faults(raw, resolved, "", sources=sources, is_partial=False):
        found.setdefault(fault.where.partition("=")[0], fault)
    known = [key for key in all_keys(resolved) if key not in found]
    return {key: _meaning_another(fault, known) for key, fault in found.items()}


def _meaning_another(fault: Fault, known: Sequence[str]) -> Fault:
    """With a hint of a key of the same name elsewhere: by `+trainer.heads=8` somebody means `model.heads`."""
    name = fault.where.rpartition(".")[2]
    same = [key for key in known if key.rpartition(".")[2] == name]
    if fault.what != UNKNOWN_KEY or not same:
        return fault
    return fault._replace(hint=f"did you mean {min(same, key=lambda key: key.count('.'))}?")


def references(raw: Any) -> Iterator[str]:
    """Every key that a value of the configuration with its interpolations refers to."""
    if isinstance(raw, str):
        yield from REFERENCE.findall(raw)
    elif isinstance(raw, Mapping | list):
        for value in raw.values() if isinstance(raw, Mapping) else raw:
            yield from references(value)


def _binding_faults(raw: Any, resolved: Any, path: str, *, sources: set[str], is_partial: bool) -> Iterator[Fault]:
    if isinstance(raw, str):
        return  # a reference to a list or a node, which is judged where it stands
    if isinstance(resolved, list):
        for index, (raw_item, item) in enumerate(zip(raw, resolved, strict=True)):
            yield from _binding_faults(raw_item, item, f"{path}[{index}]", sources=sources, is_partial=is_partial)
    if not isinstance(resolved, Mapping):
        return
    if "_target_" in resolved:
        yield from _node_faults(raw, resolved, path, sources=sources, is_partial=is_partial)
        is_partial = bool(resolved.get("_partial_", False))
    for key, value in resolved.items():
        child = f"{path}.{key}" if path else str(key)
        yield from _binding_faults(raw[key], value, child, sources=sources, is_partial=is_partial)


def _node_faults(
    raw: Mapping[str, Any], resolved: Mapping[str, Any], path: str, *, sources: set[str], is_partial: bool
) -> Iterator[Fault]:
    """Faults of one node with a `_target_`, without its children's."""
    prefix = f"{path}." if path else ""
    taken = settings.parameters(_locate(resolved["_target_"]))
    given = {key: value for key, value in resolved.items() if not str(key).startswith("_")}
    if is_partial and not resolved.get("_partial_", False):
        cause = "a target inside a partial one must be partial too, or blocks would share its parameters"
        yield Fault("wrong value", f"{prefix}_partial_=false", cause, f"set {prefix}_partial_=true")
    for key, value in given.items():
        if key not in taken and f"{prefix}{key}" not in sources:
            yield from _unknown_key_faults(f"{prefix}{key}", value, resolved["_target_"], sources=sources)
    for name, parameter in taken.items():
        # By the style of this project settings are keyword-only, and what comes before them is given at build time.
        needed = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        if given.get(name) == PLACEHOLDER or (needed and name not in given):
            key = source(raw.get(name), f"{prefix}{name}")
            yield Fault("missing value", key, "must be given", f"{key}=<value>")
    judged = {key: value for key, value in given.items() if value != PLACEHOLDER and not _has_target(value)}
    for name, why in settings.faults(_locate(resolved["_target_"]), judged).items():
        key = source(raw[name], f"{prefix}{name}")
        shown = "null" if given[name] is None else given[name]
        yield Fault("wrong value", f"{key}={shown}", why)


def source(raw: Any, key: str) -> str:
    """The knob that a value comes from, or else the value's own key."""
    found = REFERENCE.fullmatch(raw) if isinstance(raw, str) else None
    return found.group(1) if found else key


def _unknown_key_faults(key: str, value: Any, target: str, *, sources: set[str]) -> Iterator[Fault]:
    """A key that the target does not take; of a group of knobs (the doctor's `data`) those that nobody uses."""
    children = [f"{key}.{child}" for child in value] if isinstance(value, Mapping) else []
    knobs = [child for child in children if child in sources]
    prefix = key.removesuffix(key.rpartition(".")[2])
    choices = knobs or [f"{prefix}{name}" for name in settings.parameters(_locate(target))]
    for unused in [child for child in children if child not in sources] if knobs else [key]:
        match = nearest(unused, choices)
        names = ", ".join(choice.rpartition(".")[2] for choice in choices)
        hint = f"did you mean {match}?" if match else f"choose from {names}"
        yield Fault(UNKNOWN_KEY, unused, f"{target} does not take it", hint)


def _has_target(value: Any) -> bool:
    return any(True for _ in _nodes(value, ""))
