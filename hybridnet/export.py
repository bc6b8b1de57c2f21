"""`python -m hybridnet.export run=<folder> format=…`: the best model of a run as a file for others to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rich
import torch
from rich.table import Table
from torch import Tensor

from hybridnet.checkpoint import best_model_file
from hybridnet.console import show, track
from hybridnet.data.listed import ListedImages
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.errors import Fault, FaultsError, InputError, TrainingError, collected
from hybridnet.files import in_bytes, replacing, shortened, writable_folder
from hybridnet.inference.formats import Format, format_of, package_faults
from hybridnet.inference.formats.about import about
from hybridnet.inference.formats.trial import BATCH_SIZES, Trial, seconds_of, tried
from hybridnet.inference.pictures import Pictures, named_pictures, random_pictures, validation_pictures
from hybridnet.inference.runs import RunSettings, folders_of
from hybridnet.inference.trained import TrainedModel, load_trained
from hybridnet.settings import Count, Positive, checked

NUM_RANDOM = 32  # pictures, where there are no others
NUM_CALIBRATION = 128  # pictures that show an int8 graph the ranges of its activations
FEW = 3  # files in a note


@checked
def export(
    *,
    run: str | None,
    format: Literal["onnx", "torch_export", "safetensors"],
    out: str | None,
    images: str | Sequence[str] | None,
    num_images: Count | None,
    int8: bool,
    tolerance: Positive,
    extra_targets: Sequence[str],
) -> None:
    """Write the best model of a run as a file, if what the file computes is what the network computes; print a table.

    Args:
        run: a run folder, or its best_model.pt.
        format: `onnx`, `torch_export` or `safetensors`.
        out: the file; null is `model` with the format's suffix in the run's folder.
        images: files, folders or globs of pictures to compare on, and to calibrate int8 on; null is the validation
            pictures of the run's table, and its training pictures.
        num_images: compare on at most so many.
        int8: of `onnx`: write a quantised file beside it, whose accuracy is told and not judged.
        tolerance: largest difference of a probability.
        extra_targets: see `load_trained`.

    Raises:
        InputError: with all faults that can be found before anything is written.
        TrainingError: if the model cannot be exported, or the file computes something else; then there is none.
    """
    faults: list[Fault] = []
    form = format_of(format)
    folder, path, named, model = None, None, None, None
    with collected(faults):
        folder = folders_of(run)[0]
        path = _free_path(folder, out, form)
    faults += package_faults(form, where=f"format={format}")
    if int8 and format != "onnx":
        faults.append(Fault("wrong option", "int8=true", f"format={format} has none", "set format=onnx"))
    with collected(faults):
        named = named_pictures(images, limit=num_images) if images else None
    with collected(faults):
        model = load_trained(folder, extra_targets=extra_targets) if folder else None
    if faults:
        raise InputError(*faults)
    settings = RunSettings(folder)
    pictures = named or _own_pictures(settings, model, limit=num_images, is_real=int8)
    show(f"exporting {shortened(folder)}")
    known = about(model, settings)
    with _explained(format, path), replacing(path) as stream:
        smallest = form.write(stream, model, about=known)
        stream.flush()
        program = form.load(stream.name, extra_targets=extra_targets)
        trial = tried(program, model, pictures.items, smallest=smallest, tolerance=tolerance, track=track)
    trials, num_calibration = {path: trial}, 0
    if int8:
        quantised = path.with_suffix(f".int8{path.suffix}")
        known["smallest_size"] = smallest
        trials[quantised], num_calibration = _quantised(quantised, path, model, pictures, about=known)
    seconds = seconds_of(model, [trial.program for trial in trials.values()])
    show(_table(trials, pictures, seconds), *_lines(trials, pictures, seconds, num_calibration=num_calibration))


def _free_path(folder: Path, out: str | None, form: Format) -> Path:
    """Where the file goes, in a folder that is made if it is missing.

    Raises:
        InputError: if it has another format's suffix, or cannot be written.
    """
    path = Path(out) if out else best_model_file(folder).with_name(f"model{form.SUFFIX}")
    if path.suffix != form.SUFFIX:
        cause = f"expected a file with the suffix {form.SUFFIX}"
        raise InputError(Fault("wrong value", f"out={out}", cause, f"out={path.with_suffix(form.SUFFIX)}"))
    try:
        writable_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError("is a folder")
    except OSError as error:
        hint = "choose another place with out=<file>"
        raise InputError(Fault("unusable file", f"out={path}", error.strerror or str(error), hint)) from error
    return path


def _own_pictures(settings: RunSettings, model: TrainedModel, *, limit: int | None, is_real: bool) -> Pictures:
    """The run's validation pictures; random ones, with a word about it, where they are gone.

    Raises:
        InputError: if random ones will not do.
    """
    try:
        return validation_pictures(settings, model.classes, limit=limit)
    except InputError as error:
        fault = error.faults[0]
        if is_real:
            hint = "int8 needs pictures like those that it will see: images=<file, folder or glob>"
            raise InputError(fault._replace(hint=hint)) from error
        show(f"the run's pictures cannot be used ({fault.where}: {fault.cause.splitlines()[0]})")
        show("so random ones are compared; images=<file, folder or glob> compares yours")
        return random_pictures(model.preprocessing.image_size, min(limit or NUM_RANDOM, NUM_RANDOM))


@contextmanager
def _explained(format: str, path: Path) -> Iterator[None]:
    """What torch, onnx and the disk raise, as one line."""
    try:
        yield
    except FaultsError:
        raise
    except OSError as error:
        hint = "choose another place with out=<file>"
        raise InputError(Fault("unusable file", f"out={path}", error.strerror or str(error), hint)) from error
    except Exception as error:
        root = error
        while root.__cause__ is not None:
            root = root.__cause__
        cause = f"{type(root).__name__}: {' '.join(str(root).split())[:300]}"
        raise TrainingError(
            Fault("export failed", f"format={format}", cause, f"{path.name} was not written")
        ) from error


def _quantised(
    path: Path, graph: Path, model: TrainedModel, pictures: Pictures, *, about: dict[str, Any]
) -> tuple[Trial, int]:
    """Write the int8 form of an ONNX graph, and try it; also how many pictures it was calibrated on."""
    from hybridnet.inference.formats import int8, onnx

    images = ListedImages(_calibration(pictures.calibration), model.preprocessing)
    with _explained("onnx, int8=true", path), replacing(path) as stream:
        int8.write(stream, graph, _inputs(images, model.preprocessing), about=about)
        stream.flush()
        program = onnx.load(stream.name)
        trial = tried(program, model, pictures.items, smallest=about["smallest_size"], tolerance=1.0, track=track)
    return trial, len(images) - len(images.causes)


def _calibration(pictures: Sequence[Path | np.ndarray]) -> list[Path | np.ndarray]:
    """Some of them, of all parts of the list: a table may have its classes one after the other."""
    places = np.random.default_rng(0).permutation(len(pictures))[:NUM_CALIBRATION]
    return [pictures[place] for place in places]


def _inputs(images: ListedImages, preprocessing: Preprocessing) -> Iterator[Tensor]:
    """Batches of the model's input, without what cannot be decoded."""
    batches = images.batches(batch_size=BATCH_SIZES[0], device=torch.device("cpu"))
    for batch in track(batches, "calibrating", -(-len(images) // BATCH_SIZES[0])):
        if len(batch):
            yield preprocessing.normalized(batch.images).contiguous()


def _table(trials: Mapping[Path, Trial], pictures: Pictures, seconds: Sequence[float]) -> Table:
    """The files beside the network, whose seconds come first."""
    table = Table(box=rich.box.SIMPLE, pad_edge=False)
    for name in ("", "size", "max error", "same label", "accuracy", "ms per picture"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    accuracy, _ = _accuracies(next(iter(trials.values())), pictures)
    table.add_row("PyTorch, float32", "", "", "", accuracy, f"{1000 * seconds[0]:.1f}")
    for (path, trial), own_seconds in zip(trials.items(), seconds[1:], strict=True):
        num, num_other = len(trial.agreements[0].indices), max(agreement.num_other for agreement in trial.agreements)
        cells = [in_bytes(path.stat().st_size), f"{trial.max_error:.1e}", f"{num - num_other} of {num}"]
        table.add_row(path.name, *cells, _accuracies(trial, pictures)[1], f"{1000 * own_seconds:.1f}")
    return table


def _accuracies(trial: Trial, pictures: Pictures) -> tuple[str, str]:
    """Of the network and of the program, in the run's own image size."""
    if pictures.labels is None:
        return "", ""
    ours, theirs = trial.agreements[0].accuracies(pictures.labels)
    return f"{ours:.4f}", f"{theirs:.4f}"


def _lines(
    trials: Mapping[Path, Trial], pictures: Pictures, seconds: Sequence[float], *, num_calibration: int = 0
) -> Iterator[str]:
    """What the table does not say."""
    paths, first = list(trials), next(iter(trials.values()))
    sizes = list(dict.fromkeys(_size(agreement.image_size) for agreement in first.agreements))
    where = f"at {' and '.join(sizes[:2])} pixels, in batches of {' and '.join(map(str, BATCH_SIZES))}"
    yield f"compared on {pictures.words}, {where}: the worst counts"
    if first.smallest:
        yield f"takes any number of pictures of {_size(first.smallest)} pixels and larger"
    causes = first.agreements[0].causes
    for place, cause in sorted(causes.items())[:FEW]:
        yield f"left out: {pictures.items[place]}: {cause}"
    if (num_more := len(causes) - FEW) > 0:
        yield f"left out: {num_more} more"
    if len(paths) > 1:
        smaller = paths[0].stat().st_size / paths[1].stat().st_size
        calibration = f"{num_calibration} {pictures.calibration_words}"
        faster = f"{seconds[1] / seconds[2]:.1f} times as fast"
        yield f"int8: {faster}, {smaller:.1f} times as small; calibrated on {calibration}"
    for path in paths:
        yield f"written: {shortened(path.resolve())}"


def _size(size: tuple[int, int]) -> str:
    height, width = size
    return f"{height}×{width}"


if __name__ == "__main__":
    from hybridnet.launch import call

    call("export")
