"""What the runs of a group have cost, from their metrics and from `python -m hybridnet.benchmark`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hybridnet import config
from hybridnet.comparison.groups import Group
from hybridnet.data.rows import read_text
from hybridnet.errors import Fault, InputError
from hybridnet.files import read_if_whole, read_json
from hybridnet.sweep.outcome import is_finite

HINT = "python -m hybridnet.benchmark writes benchmark.csv and benchmark.json"
NEEDED = ("model", "size", "stage", "image_size", "batch_size", "parameters", "macs", "inference_p50_ms")
LAST_STAGE, STEM = 4, "imagenet"  # of benchmarks that do not say them
TOLERANCE = 0.05  # of parameters: another number of classes is within it, another backbone is not


@dataclass(frozen=True)
class Cost:
    """Of one group; None where it is not known.

    Attributes:
        parameters: of the model.
        images_per_second: of the training.
        memory: bytes at most.
        macs: multiplications with addition for one picture.
        latency: milliseconds for the smallest batch that was measured.
    """

    parameters: float | None = None
    images_per_second: float | None = None
    memory: float | None = None
    macs: float | None = None
    latency: float | None = None


class Benchmark(NamedTuple):
    """What a benchmark has measured.

    Attributes:
        path: of its file.
        rows: one for each model, image size, batch size and mode.
        device: where, or "".
    """

    path: Path
    rows: Sequence[Mapping[str, Any]]
    device: str


def read_benchmark(path: Path) -> Benchmark:
    """A `benchmark.csv` or `benchmark.json`.

    Raises:
        InputError: if the file is missing or something else.
    """
    if path.is_dir():
        path = path / "benchmark.json"
    text = read_text(path, "benchmark", hint=HINT, missing=HINT)
    where = f"benchmark={path}"
    beside = path.with_suffix(".json")
    try:
        content = read_json(beside) if beside.is_file() else {}
        is_json = path.suffix.lower() == ".json"
        rows = content["results"] if is_json else list(csv.DictReader(io.StringIO(text)))
        if missing := [name for name in NEEDED if not rows or name not in rows[0]]:
            raise ValueError(f"it has no column {', '.join(missing)}")
        rows = [{key: _value(value) for key, value in row.items()} for row in rows]
        environment = content.get("environment", {})
        device = str(environment.get("device_name", "")) if isinstance(environment, dict) else ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(Fault("not a benchmark", where, _cause(error), HINT)) from error
    return Benchmark(path, rows, device)


def costs(groups: Sequence[Group], benchmark: Benchmark | None) -> tuple[list[Cost], list[str]]:
    """Of every group, and notes about groups that the benchmark has not measured.

    With a benchmark speed, memory, multiply-adds and latency are its, of the same model, size, stem and image size:
    nothing is mixed. Parameters are always the runs'.
    """
    found, notes = [], []
    for group in groups:
        parameters = _mean(group, "num_parameters")
        if benchmark is None:
            speed, memory = (_mean(group, name) for name in ("train_images_per_second", "peak_memory_bytes"))
            found.append(Cost(parameters, speed, memory))
            continue
        cost, cause = _measured(group, benchmark, parameters)
        found.append(cost)
        if cause:
            notes.append(f"{benchmark.path.name} has nothing of {group.name}: {cause}.")
    return found, notes


def cost_notes(groups: Sequence[Group], benchmark: Benchmark | None) -> Iterator[str]:
    """Where the figures come from, and what is wrong with them."""
    if benchmark is not None:
        where = f" on {benchmark.device}" if benchmark.device else ""
        yield (
            f"Speed, memory, multiply-adds and latency are those of {benchmark.path.name}{where}: of a training at the "
            "batch size that is next to the runs', and of answering the smallest batch (median)."
        )
        return
    described = [read_if_whole(run.folder / "environment.json") for group in groups for run in group.runs]
    devices = dict.fromkeys(str(found["device_name"]) for found in described if found.get("device_name"))
    if len(devices) > 1:
        yield f"Speed and memory are of different hardware ({', '.join(devices)}) and not to be compared."
    elif devices:
        yield (
            f"Speed and memory are what the trainings have measured by the way ({', '.join(devices)}); "
            "python -m hybridnet.benchmark measures them side by side."
        )
    if any(found.get("device") == "cpu" for found in described):
        yield "On a CPU peak memory is the whole process's, also of the jobs that it had before."


def _measured(group: Group, benchmark: Benchmark, parameters: float | None) -> tuple[Cost, str]:
    run = group.runs[0]
    cfg = config.saved(run.folder)
    model = run.choices.get("model")
    if cfg is None or model is None:
        return Cost(parameters), "its settings are not known"
    stage, size, stem, side, batch = (
        config.select(cfg, key)
        for key in ("model.stage", "model.size", "model.stem", "data.image_size", "data.batch_size")
    )
    rows = [row for row in benchmark.rows if row["model"] == model and (row["size"] or None) == size]
    if not rows:
        return Cost(parameters), f"no model {model}{f' {size}' if size else ''}"
    rows = [row for row in rows if (row["stage"] or LAST_STAGE) == (stage or LAST_STAGE)]
    if rows and not (rows := [row for row in rows if (row.get("stem") or STEM) == (stem or STEM)]):
        measures = f"\"overrides=['model.stem={stem or STEM}']\" measures that"
        return Cost(parameters), f"it has the stem {stem or STEM}; {measures}"
    at_side = [row for row in rows if row["image_size"] == side]
    if not at_side:
        sides = ", ".join(dict.fromkeys(f"{row['image_size']:g}" for row in rows))
        return Cost(parameters), f"its pictures have {side} pixels, those of the benchmark {sides or 'another stage'}"
    if parameters and abs(at_side[0]["parameters"] / parameters - 1) > TOLERANCE:
        return Cost(parameters), f"it has {parameters:,.0f} parameters, and {at_side[0]['parameters']:,.0f} there"
    mode = at_side[0].get("compile")
    of_mode = [row for row in at_side if row.get("compile") == mode]
    trained = min(of_mode, key=lambda row: abs(row["batch_size"] - batch))
    answered = min(of_mode, key=lambda row: row["batch_size"])
    speed, memory = (trained.get(f"training_{name}") or None for name in ("images_per_second", "peak_bytes"))
    return Cost(parameters, speed, memory, at_side[0]["macs"], answered["inference_p50_ms"] or None), ""


def _mean(group: Group, name: str) -> float | None:
    values = [value for run in group.runs if is_finite(value := run.metrics.get(name)) and value]
    return sum(values) / len(values) if values else None


def _value(value: Any) -> Any:
    """A number where a CSV has its text."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _cause(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
