"""Files of a trained model for others to run: one module for each format.

The graphs take `images`, float32 (B, 3, H, W) as `Preprocessing.normalized` makes them, and give `logits`, float32
(B, num_classes). What is needed to use them is in the file, as texts of JSON; see `about`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

from torch import Tensor

from hybridnet import packages
from hybridnet.errors import Fault
from hybridnet.inference.trained import TrainedModel

INPUT, OUTPUT = "images", "logits"

Exported = Callable[[Tensor], Tensor]  # float32 (B, 3, H, W) -> (B, num_classes), contiguous, on the CPU


class Format(Protocol):
    """A module of this package.

    Attributes:
        SUFFIX: of the file.
        PACKAGES: that it needs beside this project's own.
    """

    SUFFIX: str
    PACKAGES: tuple[str, ...]

    def write(self, stream: BinaryIO, model: TrainedModel, *, about: Mapping[str, Any]) -> tuple[int, int] | None:
        """Write the model, and what `about` says of it.

        Returns:
            The smallest height and width that the file takes; None where the file has no graph.
        """

    def load(self, path: str, *, extra_targets: Sequence[str] = ()) -> Exported:
        """What a file computes that `write` has just written; `extra_targets` as `load_trained`."""


def format_of(name: str) -> Format:
    """`onnx`, `torch_export` or `safetensors`."""
    return importlib.import_module(f"{__name__}.{name}")


def package_faults(form: Format, *, where: str) -> list[Fault]:
    """Of the format's packages those that are not installed, without importing them."""
    missing = packages.missing(*form.PACKAGES)
    if not missing:
        return []
    verb = "is" if len(missing) == 1 else "are"
    return [Fault("missing package", where, f"{', '.join(missing)} {verb} not installed", 'pip install -e ".[export]"')]
