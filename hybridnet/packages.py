"""Which packages are installed, and what is said where one is missing that every command needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TypeVar

from hybridnet.errors import EXIT_WRONG_INPUT, Fault, InputError

T = TypeVar("T", bound=BaseException | None)

# By the name that is imported, the one that is installed: the dependencies in pyproject.toml.
NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "hydra": "hydra-core",
    "omegaconf": "omegaconf",
    "numpy": "numpy",
    "pandas": "pandas",
    "PIL": "pillow",
    "matplotlib": "matplotlib",
    "rich": "rich",
    "sklearn": "scikit-learn",
}


def require(*modules: str) -> None:
    """Refuse to begin without needed packages that are imported only at the end.

    Raises:
        InputError: with those that are missing.
    """
    if found := missing(*modules):
        raise InputError(*map(_fault, found))


def end_without(*modules: str) -> None:
    """End the process where needed packages are missing, without which nothing here can be imported to say so."""
    try:
        require(*modules)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_WRONG_INPUT)


def missing(*modules: str) -> list[str]:
    """Those that are not installed; they are looked for, not imported.

    A folder of this name in the working directory, such as wandb makes one, passes for a package without an origin.
    """
    specs = {module: find_spec(module) for module in modules}
    return [module for module, spec in specs.items() if spec is None or spec.origin is None]


def explained(error: T) -> T | InputError:
    """The error, or a clear one where it, or what led to it, is that a needed package is missing."""
    for cause in _causes(error):
        if isinstance(cause, ModuleNotFoundError) and cause.name in NEEDED:  # not a part that one which is there lacks
            return InputError(_fault(cause.name))
    return error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it; each once, as what a target raised is raised again from Hydra's error about it."""
    seen: set[int] = set()
    while error and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _fault(module: str) -> Fault:
    return Fault("missing package", NEEDED[module], f"there is no module {module}", "pip install -e .")
