"""Pictures that are no independent witnesses: those of one group of the table (copies, a plant, a patient)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hybridnet.comparison.predictions import normal
from hybridnet.data.rows import read_rows
from hybridnet.errors import InputError
from hybridnet.inference.runs import RunSettings

TABLE = "data.metadata"


def find_table(runs: Iterable[Path]) -> Path | None:
    """The table that runs were trained with, if it is still where one of them says; what a folder of runs had alike."""
    return next((table for run in runs if (table := RunSettings(run).file(TABLE))), None)


def groups_in(table: Path) -> Mapping[str, str] | None:
    """The group of each path in a table; None where it has no such column, or can no longer be read."""
    try:
        rows, _ = read_rows(table)
    except InputError:
        return None
    if not rows or rows[0].group is None:
        return None
    return {normal(row.path): row.group.strip() for row in rows if row.group and row.group.strip()}


def unit_numbers(paths: Sequence[str], groups: Mapping[str, str] | None) -> np.ndarray:
    """int64 (N,): the same number for pictures of one group; a picture without a group is by itself."""
    numbers: dict[tuple[bool, str], int] = {}
    keys = [(True, groups[path]) if groups and path in groups else (False, path) for path in paths]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def file_of(path: str, table: Path | None) -> Path:
    """Where a picture of a table is; without a table only an absolute path leads anywhere."""
    return table.parent / path if table else Path(path)
