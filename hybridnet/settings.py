"""Types and ranges of settings, written once, on the signature that takes them.

    class Trainer:
        @checked
        def __init__(self, *, epochs: Count, patience: int, device: str) -> None: ...

`@checked` refuses a wrong value for whoever calls the class from Python; `hybridnet.config` asks the same annotations
before anything is built, so that one message names every wrong key of a configuration.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union


@dataclass(frozen=True)
class Range:
    """The interval a number must lie in; `above` and `below` exclude their end."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        ends = {">=": self.minimum, ">": self.above, "<=": self.maximum, "<": self.below}
        return " and ".join(f"{sign} {end}" for sign, end in ends.items() if end is not None)


Count = Annotated[int, Range(minimum=1)]
Natural = Annotated[int, Range(minimum=0)]
Seed = Annotated[int, Range(minimum=0, maximum=2**63 - 1)]  # the largest that torch and numpy both take
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(minimum=0)]
Probability = Annotated[float, Range(minimum=0, maximum=1)]
Rate = Annotated[float, Range(minimum=0, below=1)]


@functools.cache  # resolving annotations costs a third of what checking a configuration does
def parameters(target: Callable) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function or of a class's constructor, without `self`, annotations resolved."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function, include_extras=True)
    found = inspect.signature(target).parameters.values()
    return {p.name: p.replace(annotation=hints.get(p.name, Any)) for p in found}


def fault(annotation: Any, value: Any) -> str:
    """Why `value` does not fit `annotation`, or an empty string. Modules and callables are not judged."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return fault(arguments[0], value) or _range_fault(arguments[1:], value)
    if origin in (Union, UnionType):
        faults = [fault(argument, value) for argument in arguments]
        return "" if "" in faults else f"expected {_words(annotation)}, got {_show(value)}"
    if origin is Literal:
        matches = any(value == choice and type(value) is type(choice) for choice in arguments)
        return "" if matches else f"expected {_words(annotation)}, got {_show(value)}"
    if origin in (tuple, list, Sequence):
        return _sequence_fault(annotation, arguments, value)
    fits = _SIMPLE_TYPES.get(annotation, lambda _: True)(value)
    return "" if fits else f"expected {_words(annotation)}, got {_show(value)}"


def faults(target: Callable, values: Mapping[str, Any]) -> dict[str, str]:
    """For each name in `values` that is a parameter of `target`: why its value does not fit, where it does not."""
    known = parameters(target)
    found = {name: fault(known[name].annotation, value) for name, value in values.items() if name in known}
    return {name: why for name, why in found.items() if why}


def checked(function: Callable) -> Callable:
    """Decorator: raise ValueError, naming every wrong argument, when a call does not fit the annotations."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(function).bind(*args, **kwargs)
        wrong = faults(wrapper, bound.arguments)
        if wrong:
            raise ValueError("; ".join(f"{name}: {why}" for name, why in wrong.items()))
        return function(*args, **kwargs)

    return wrapper


def _range_fault(metadata: Sequence[Any], value: Any) -> str:
    ranges = [item for item in metadata if isinstance(item, Range)]
    return next((f"must be {limits}, got {value}" for limits in ranges if value not in limits), "")


def _sequence_fault(annotation: Any, arguments: Sequence[Any], value: Any) -> str:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return f"expected {_words(annotation)}, got {_show(value)}"
    fixed = typing.get_origin(annotation) is tuple and Ellipsis not in arguments
    if fixed and len(value) != len(arguments):
        return f"expected {_words(annotation)}, got {len(value)} values"
    kinds = arguments if fixed else [arguments[0]] * len(value)
    return next((why for kind, item in zip(kinds, value, strict=True) if (why := fault(kind, item))), "")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)


_SIMPLE_TYPES: dict[Any, Callable[[Any], bool]] = {
    int: lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool),
    float: _is_number,
    bool: lambda value: isinstance(value, bool),
    str: lambda value: isinstance(value, str),
    NoneType: lambda value: value is None,
}
_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


def _words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        limits = [str(item) for item in arguments[1:] if isinstance(item, Range)]
        return " ".join([_words(arguments[0]), *limits])
    if origin in (Union, UnionType):
        return " or ".join(_words(argument) for argument in arguments)
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"[{', '.join(_words(argument) for argument in arguments)}]"
    if origin in (tuple, list, Sequence):
        return f"a list of {_words(arguments[0])}"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _show(value: Any) -> str:
    return "null" if value is None else repr(value)
