"""torch.export: a program that PyTorch runs without this project, or compiles ahead of time."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hybridnet.inference.formats import Exported
from hybridnet.inference.formats.program import exported_program
from hybridnet.inference.trained import TrainedModel

SUFFIX = ".pt2"
PACKAGES = ()
ABOUT = "hybridnet.json"  # one of the file's extra files


def write(stream: BinaryIO, model: TrainedModel, *, about: Mapping[str, Any]) -> tuple[int, int]:
    """Write the network as a program; see `Format.write`. What is known of it is the extra file hybridnet.json."""
    program, smallest = exported_program(model.network)
    content = json.dumps({**about, "smallest_size": list(smallest)}, ensure_ascii=False)
    torch.export.save(program, stream, extra_files={ABOUT: content})
    return smallest


def load(path: str, *, extra_targets: Sequence[str] = ()) -> Exported:
    """The program.

    torch.export.load unpickles parts of a file, which runs code that a stranger may have put there: this is called for
    the file that was just written, and no other.
    """
    with Path(path).open("rb") as stream, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")  # nobody writes there
        module = torch.export.load(stream).module()

    def exported(images: Tensor) -> Tensor:
        with torch.no_grad():
            return module(images)

    return exported
