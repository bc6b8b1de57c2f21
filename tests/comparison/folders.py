"""Run folders as trainings would leave them, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hybridnet.comparison.by_class import by_class
from hybridnet.comparison.costs import Cost, costs
from hybridnet.comparison.differences import Comparison, Pairs, compared
from hybridnet.comparison.disagreement import disputed
from hybridnet.comparison.findings import Findings
from hybridnet.comparison.groups import baseline_of, grouped
from hybridnet.comparison.paired import Paired, paired
from hybridnet.comparison.trained import read_all
from hybridnet.files import csv_text, write_json, write_text

CLASSES = ("blast", "brown, spot", "healthy")


def write_predictions(
    path: Path, labels: Sequence[int], predictions: Sequence[int], *, classes: Sequence[str], paths: Sequence[str]
) -> None:
    """In the format of a run's `predictions.csv`."""
    rows: list[list[Any]] = [["path", "label", "prediction", *(f"probability_{name}" for name in classes)]]
    for name, label, prediction in zip(paths, labels, predictions, strict=True):
        shares = [0.8 if place == prediction else 0.2 / (len(classes) - 1) for place in range(len(classes))]
        rows.append([name, classes[label], classes[prediction], *(f"{share:.6f}" for share in shares)])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, csv_text(rows))


def write_run(
    folder: Path,
    labels: Sequence[int],
    predictions: Sequence[int],
    *,
    model: str = "plain",
    seed: int = 0,
    fold: int | None = None,
    typed: Mapping[str, Any] | None = None,
    classes: Sequence[str] = CLASSES,
    paths: Sequence[str] | None = None,
    metadata: str = "data/metadata.csv",
    **metrics: float,
) -> Path:
    """A run.

    Args:
        labels, predictions: of each picture, places in `classes`.
        typed: other settings, by dotted key.
        paths: of the pictures; numbered if not given.
        metrics: of `metrics.json`.
    """
    names = paths or [f"{number}.png" for number in range(len(labels))]
    write_predictions(folder / "predictions.csv", labels, predictions, classes=classes, paths=names)
    content: dict[str, Any] = {
        "model": {"_target_": f"hybridnet.model.{model}.Classifier", "dropout": 0.1},
        "data": {"metadata": metadata, "fold": fold, "image_size": 224, "batch_size": 32, "num_workers": seed},
        "trainer": {"epochs": 3},
        "logger": {},
        "seed": seed,
    }
    if model == "hybrid":
        content["model"] |= {"size": "full", "stage": 4}
    for key, value in (typed or {}).items():
        part, _, name = key.partition(".")
        content[part][name] = value
    files = {
        "config": content,
        "hydra": {"hydra": {"runtime": {"choices": {"model": model, "data": "metadata"}}}},
        "overrides": [f"model={model}", f"seed={seed}", *(f"{key}={value}" for key, value in (typed or {}).items())],
    }
    (folder / ".hydra").mkdir()
    for name, text in files.items():
        write_text(folder / ".hydra" / f"{name}.yaml", yaml.safe_dump(text))
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "environment.json", {"seed": seed, "device": "cpu", "device_name": "a test's machine"})
    return folder


def answers(labels: np.ndarray, accuracy: float, seed: int) -> np.ndarray:
    """Random answers of about this accuracy."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(labels)) >= accuracy
    return np.where(wrong, (labels + rng.integers(1, len(CLASSES), len(labels))) % len(CLASSES), labels)


def write_study(folder: Path, accuracies: Mapping[str, float], *, seeds: int = 3, num: int = 90) -> list[Path]:
    """Runs of several models over seeds."""
    labels = np.arange(num) % len(CLASSES)
    runs = []
    for number, (model, accuracy) in enumerate(accuracies.items()):
        for seed in range(seeds):
            told = answers(labels, accuracy, 100 * number + seed)
            costs = {"num_parameters": 11_000_000 + 10**6 * number, "train_images_per_second": 50.0 - number}
            costs |= {"peak_memory_bytes": 10**9 + 10**8 * number}
            runs.append(write_run(folder / f"{model}{seed}", labels, told, model=model, seed=seed, **costs))
    return runs


def read(runs: Sequence[Path], units: Mapping[str, str] | None = None) -> Paired:
    """The runs side by side."""
    return paired(grouped(read_all(runs, None))[0], units)[0]


def compare(
    runs: Sequence[Path], units: Mapping[str, str] | None = None, *, pairs: Pairs = "baseline", num_draws: int = 500
) -> Comparison:
    """The runs compared."""
    found = read(runs, units)
    return compared(found, baseline=baseline_of(found.groups, None), pairs=pairs, num_draws=num_draws, seed=0)


def find(runs: list[Path], of_groups: list[Cost] | None = None, *, pairs: Pairs = "baseline") -> Findings:
    """All that is written of a comparison of runs."""
    comparison = compare(runs, pairs=pairs)
    all_runs = comparison.paired
    return Findings(
        comparison,
        of_groups or costs(all_runs.groups, None)[0],
        [by_class(all_runs, group) for group in range(len(all_runs.groups))],
        [disputed(all_runs, pair) for pair in comparison.pairs],
        subject="what was compared",
        notes=["a note"],
        command="python -m x\npython -m y",
    )
