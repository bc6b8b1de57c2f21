"""All that a comparison has found, and the rows of its CSV files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hybridnet.comparison import wording
from hybridnet.comparison.by_class import ByClass
from hybridnet.comparison.costs import Cost
from hybridnet.comparison.differences import Comparison
from hybridnet.comparison.disagreement import Disputed
from hybridnet.files import shortened

OF_CLASS = ("precision", "recall", "f1")
COST_COLUMNS = ("num_parameters", "train_images_per_second", "peak_memory_bytes", "macs", "latency_ms")


@dataclass(frozen=True)
class Findings:
    """All that is written.

    Attributes:
        comparison: accuracies and differences.
        costs: of every group.
        classes: of every group.
        disputed: pictures of every pair, in the order of the pairs.
        subject: what was compared, in words.
        notes: sentences.
        command: that makes it again.
    """

    comparison: Comparison
    costs: Sequence[Cost]
    classes: Sequence[ByClass]
    disputed: Sequence[Sequence[Disputed]]
    subject: str
    notes: Sequence[str]
    command: str

    @property
    def names(self) -> list[str]:
        return [group.name for group in self.comparison.paired.groups]

    @property
    def baseline(self) -> str:
        return self.names[self.comparison.baseline]


def csv_rows(findings: Findings) -> list[list[Any]]:
    """`compare.csv`: one row for each group."""
    comparison = findings.comparison
    of_accuracy = ["setting", "n", "accuracy", "std", "low", "high"]
    of_difference = ["baseline", "difference", "difference_low", "difference_high", "p", "p_holm", "verdict"]
    rows: list[list[Any]] = [[*of_accuracy, *of_difference, *COST_COLUMNS]]
    for group, (name, accuracy) in enumerate(zip(findings.names, comparison.accuracies, strict=True)):
        row = [name, comparison.paired.groups[group].num_runs]
        row += [*map(_number, (accuracy.spread.mean, accuracy.spread.std, accuracy.low, accuracy.high))]
        pair = comparison.against_baseline(group)
        row.append(findings.baseline)
        row += [*map(_number, (pair.difference, pair.low, pair.high, pair.p, pair.p_holm))] if pair else [""] * 5
        row.append(wording.verdict(comparison, pair) if pair else "baseline")
        cost = findings.costs[group]
        row += [*map(_whole, (cost.parameters, cost.images_per_second, cost.memory, cost.macs, cost.latency))]
        rows.append(row)
    return rows


def pair_rows(findings: Findings) -> list[list[Any]]:
    """`pairs.csv`: one row for each comparison."""
    comparison, paired = findings.comparison, findings.comparison.paired
    heading = ["first", "second", "n_first", "n_second", "pictures", "independent", "difference", "low", "high"]
    heading += ["p", "p_holm", "test", "p_pictures", "p_runs", "t_test", "only_first", "only_second", "verdict"]
    rows: list[list[Any]] = [heading]
    for pair in comparison.pairs:
        groups = [paired.groups[place] for place in (pair.first, pair.second)]
        row: list[Any] = [*(group.name for group in groups), *(group.num_runs for group in groups)]
        row += [paired.num_pictures, paired.num_units, *map(_number, (pair.difference, pair.low, pair.high))]
        row += [_number(pair.p), _number(pair.p_holm), pair.test, _number(pair.p_pictures), _number(pair.p_runs)]
        rows.append([*row, pair.t_test, pair.only_first, pair.only_second, wording.verdict(comparison, pair)])
    return rows


def run_rows(findings: Findings) -> list[list[Any]]:
    """`runs.csv`: one row for each run."""
    rows: list[list[Any]] = [["setting", "fold", "seed", "accuracy", "folder"]]
    for group, name in enumerate(findings.names):
        for fold in findings.comparison.paired.folds:
            cell = fold.cells[group]
            for run, correct in zip(cell.runs, cell.correct, strict=True):
                rows.append([name, fold.name or "", run.seed or "", _number(correct.mean()), shortened(run.folder)])
    return rows


def class_rows(findings: Findings) -> list[list[Any]]:
    """`classes.csv`: one row for each group and class, with the differences to the baseline."""
    heading = ["setting", "class", "support", *OF_CLASS, *(f"{name}_difference" for name in OF_CLASS)]
    rows: list[list[Any]] = [heading]
    base = findings.classes[findings.comparison.baseline]
    for name, own in zip(findings.names, findings.classes, strict=True):
        for place, class_name in enumerate(findings.comparison.paired.classes):
            values = [getattr(own, key)[place] for key in OF_CLASS]
            differences = [getattr(own, key)[place] - getattr(base, key)[place] for key in OF_CLASS]
            rows.append([name, class_name, round(own.support[place]), *map(_number, [*values, *differences])])
    return rows


def disputed_rows(findings: Findings) -> list[list[Any]]:
    """`only_one.csv`: one row for each picture that only one of a pair gets right."""
    heading = ["right", "wrong", "path", "label", "prediction_of_wrong", "share_right", "share_wrong", "fold"]
    rows: list[list[Any]] = [heading]
    for pair, found in zip(findings.comparison.pairs, findings.disputed, strict=True):
        names = [findings.names[pair.first], findings.names[pair.second]]
        for one in found:
            order = (0, 1) if one.is_first else (1, 0)
            shares = [_number(one.shares[place]) for place in order]
            own = [names[place] for place in order]
            rows.append([*own, one.path, one.label, one.wrong, *shares, one.fold or ""])
    return rows


def _number(value: float | None) -> float | str:
    """Without the digits that are rounding alone."""
    return "" if value is None or math.isnan(value) else round(float(value), 10)


def _whole(value: float | None) -> float | str:
    return round(value) if value is not None and float(value).is_integer() else _number(value)
