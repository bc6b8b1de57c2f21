"""The one place that reads and writes checkpoints. Reading one never runs code: tensors and plain types only."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from hybridnet.errors import Fault, InputError
from hybridnet.files import replacing


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain types, whole or not at all."""
    with replacing(path) as stream:
        torch.save(content, stream)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        InputError: if there is no such file, it is damaged, or it holds more than tensors and plain types.
    """
    if not path.is_file():
        raise InputError(Fault("missing checkpoint", str(path), "no such file"))
    _verify(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise many kinds for a damaged or a refused file
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(Fault("unusable checkpoint", str(path), cause)) from error
    if not isinstance(content, dict):
        raise InputError(Fault("unusable checkpoint", str(path), f"holds a {type(content).__name__}, not a dictionary"))
    return content


def best_model_file(path: Path) -> Path:
    """`path` itself, or the best model inside it when it is a run folder."""
    return path / "best_model.pt" if path.is_dir() else path


def _verify(path: Path) -> None:
    """Compare the checksums of a zip checkpoint, which torch does not do; older files are no zip and have none."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise InputError(Fault("damaged checkpoint", str(path), f"the checksum of its part {damaged} is wrong"))
