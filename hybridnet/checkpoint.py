"""The one place that reads and writes checkpoints. Reading one never runs code: tensors and plain types only."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from hybridnet.errors import Fault, InputError, TrainingError
from hybridnet.files import replacing
from hybridnet.transfer import to_host

log = logging.getLogger(__name__)

LAST, PREVIOUS = "last.pt", "previous.pt"  # in a run folder: the state to continue from, and the one before it

# Attribute of an entry of a zip file. torch leaves the tensor of such an entry as the memory happens to be.
IS_FOLDER = 0x10


def largest_sizes(model: nn.Module, *, has_average: bool) -> tuple[int, int]:
    """How many bytes the weights of a model take, and the state of its training at most.

    That is the weights, the best ones, their average, and two moments of an optimizer such as AdamW.
    """
    of_model = sum(tensor.nbytes for tensor in model.state_dict().values())
    return of_model, of_model * (5 if has_average else 4)


def save_checkpoint(
    path: Path, content: dict[str, Any], *, previous: Path | None = None, is_read_soon: bool = True
) -> None:
    """Write tensors and plain types, whole or not at all; see `replacing`.

    Raises:
        OSError: if the disk is full, or the file cannot be written for another reason.
    """
    with replacing(path, previous=previous, is_read_soon=is_read_soon) as stream:
        watched = _WatchedStream(stream)
        try:
            torch.save(content, watched)
        except (OSError, RuntimeError):
            if watched.error is None:
                raise
        if watched.error is not None:  # torch hides it behind "unexpected pos … vs …", or does not pass it on
            raise watched.error


def snapshot(content: Any) -> Any:
    """What a checkpoint holds now, on the CPU, whatever happens to it later; what was one tensor stays one."""
    tensors: dict[int, Tensor] = {}
    _mapped(content, lambda tensor: tensors.setdefault(id(tensor), tensor))
    copies = dict(zip(tensors, to_host(tensors.values()), strict=True))
    return _mapped(content, lambda tensor: copies[id(tensor)])


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(entry, change) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(entry, change) for entry in value)
    return value


def load_checkpoint(path: Path, *, stays_in_file: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: of the file.
        stays_in_file: map the tensors into memory without a copy; nobody may write into the file meanwhile.

    Raises:
        InputError: if there is no such file, it is damaged, or it holds more than tensors and plain types.
    """
    if not path.is_file():
        raise InputError(Fault("missing checkpoint", str(path), "no such file"))
    if not path.stat().st_size:
        raise InputError(Fault("unusable checkpoint", str(path), "it is empty"))
    _verify(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=stays_in_file)
    except Exception as error:  # torch and pickle raise many kinds for a damaged or a refused file
        raise InputError(Fault("unusable checkpoint", str(path), *_cause_and_hint(error))) from error
    if not isinstance(content, dict):
        raise InputError(Fault("unusable checkpoint", str(path), f"holds a {type(content).__name__}, not a dictionary"))
    return content


def load_last(folder: Path) -> dict[str, Any] | None:
    """The state to continue the run in `folder` from; None if it has saved none.

    Where `last.pt` is damaged or gone, it is the one in `previous.pt`, and a warning says so; both files stay.

    Raises:
        InputError: if there are states, but none that can be used.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.exists() and not previous.exists():
        return None
    try:
        return load_checkpoint(last)
    except InputError as error:
        try:
            content = load_checkpoint(previous)
        except InputError as older:
            hint = "the run cannot be continued; start it anew in another folder"
            raise InputError(*error.faults, older.faults[0]._replace(hint=hint)) from older
        log.warning(f"{error.faults[0]._replace(hint='')}; continuing from {previous}, which was saved before it")
        return content


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Load weights and buffers into a model that must have the same.

    Raises:
        InputError: if it has others; the three lines of the cause say which are missing, left over, and of other shape.
    """
    own = model.state_dict()
    shapes = [
        f"{name} {_shape(weights[name])} for {_shape(own[name])}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    missing, left_over = own.keys() - weights.keys(), weights.keys() - own.keys()
    if missing or left_over or shapes:
        cause = (
            f"it was saved by another model\n  missing in the file: {_listed(sorted(missing))}"
            f"\n  not in this model:   {_listed(sorted(left_over))}\n  of another shape:    {_listed(shapes)}"
        )
        hint = "use the model settings that it was trained with"
        raise InputError(Fault("wrong checkpoint", source, cause, hint))
    model.load_state_dict(weights)


def require_saved(model: nn.Module, path: Path) -> None:
    """Read a checkpoint again, and compare its weights with the model's.

    Raises:
        InputError: if it cannot be read.
        TrainingError: if they differ.
    """
    saved = load_checkpoint(path, stays_in_file=True)["model"]
    own = model.state_dict()
    if saved.keys() != own.keys() or not all(torch.equal(saved[name], own[name].cpu()) for name in own):
        cause = "it does not hold the weights that were evaluated"
        raise TrainingError(Fault("damaged checkpoint", str(path), cause, "the disk or the memory may be faulty"))


def best_model_file(path: Path) -> Path:
    """`path` itself, or the best model inside it when it is a run folder."""
    return path / "best_model.pt" if path.is_dir() else path


class _WatchedStream:
    """Remembers the first exception while writing to a stream: of the disk, or of a signal that came in between."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.stream.write(data)
        except BaseException as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.stream.flush()


def _verify(path: Path) -> None:
    """Compare the checksums of a zip checkpoint, which torch does not do; older files are no zip and have none."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            folders = [entry.filename for entry in archive.infolist() if entry.external_attr & IS_FOLDER]
    except Exception as error:  # zipfile and what it unpacks with raise many kinds
        raise InputError(Fault("damaged checkpoint", str(path), str(error) or type(error).__name__)) from error
    if damaged:
        raise InputError(Fault("damaged checkpoint", str(path), f"the checksum of its part {damaged} is wrong"))
    if folders:
        raise InputError(Fault("damaged checkpoint", str(path), f"its part {folders[0]} is marked as a folder"))


def _cause_and_hint(error: Exception) -> tuple[str, str]:
    """Why torch does not read a file, and what to do; its own words for a file with code advise to run that."""
    text = str(error).strip()
    if code := re.search(r"GLOBAL (\S+)|(TorchScript)", text):
        cause = f"it holds more than tensors and plain types ({code[1] or code[2]}); nothing of it was run"
        return cause, "save the weights alone, where the model can be loaded: torch.save(model.state_dict(), …)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror, ""  # without its number, and the name, which stands there already
    if isinstance(error, OSError | RuntimeError) and text:
        return text.splitlines()[0], ""
    return "it was not written by torch.save, or it is damaged", ""


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "()"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - 3
    return (", ".join(names[:3]) or "none") + (f" and {rest} more" if rest > 0 else "")
