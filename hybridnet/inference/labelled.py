"""Labelled pictures to judge a model on: those of the run's own table, or of another one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hybridnet.data import table
from hybridnet.data.digests import content_digests, fingerprint
from hybridnet.data.rows import require_file
from hybridnet.data.store import memory_of
from hybridnet.data.table import Split
from hybridnet.errors import Fault, InputError
from hybridnet.inference.runs import RunSettings

LIMITS = {"train": "data.train_limit", "valid": "data.valid_limit", "test": None}


def read_labelled(
    settings: RunSettings, classes: Sequence[str], *, split: str, metadata: str | None, fold: int | None
) -> tuple[Path, Split]:
    """The pictures of a split, in the order of the table.

    Args:
        settings: of the run; its table, fold and limits are used if no table is named.
        classes: labels in the order of the model's logits, which decide the class indices.
        split: `train`, `valid` or `test`.
        metadata: another table; null for the run's own.
        fold: as in training; null for the run's own with its own table.

    Returns:
        The path of the table, and the split.

    Raises:
        InputError: if there is no table, or it has faults, other labels, or no picture in the split.
    """
    if metadata is not None:
        path = Path(metadata)
        require_file(path, "data.metadata")
    else:
        path = _own_table(settings)
        fold = settings.get("data.fold") if fold is None else fold
    label2id = {name: index for index, name in enumerate(classes)}
    splits = table.read_metadata(path, label2id, fold=fold, needs=(split,))
    chosen = splits[split]
    table.warn_of_repeated(chosen, split)
    limit = settings.get(LIMITS[split]) if metadata is None and LIMITS[split] else None
    seed = table.VALID_SEED if split == "valid" else settings.get("data.seed") or 0
    return path, table.choose(chosen, limit, seed=seed)


def own_files(settings: RunSettings) -> tuple[Path, dict[str, str]]:
    """The run's own table, and every file in it by its path there, whatever its split and label are now.

    Raises:
        InputError: if there is no table, or it has no such columns.
    """
    path = _own_table(settings)
    rows, _, _ = table.examine(path, None)
    return path, {row.path: os.path.join(path.parent, row.path) for row in rows}  # noqa: PTH118 - see Split.file_names


def is_of_training(
    settings: RunSettings, rows: Split, split: str, classes: Sequence[str], *, table: Path
) -> bool | None:
    """Whether rows are those that a training has used for a split: the same contents and labels in the same order.

    Args:
        settings: of the run.
        rows: from `read_labelled`.
        split: of the training.
        classes: as for `read_labelled`.
        table: that the rows are of.

    Returns:
        None where it is not known what the training has used, as of runs of former versions.
    """
    expected = settings.fingerprint(split)
    if expected is None:
        return None
    rows = used(settings, rows, split)
    digests = content_digests(rows.file_names, memory=memory_of(table, cache_dir=settings.cache_dir()))
    if any(isinstance(digest, OSError) for digest in digests):
        return False
    return fingerprint(classes, digests, rows.labels) == expected


def used(settings: RunSettings, rows: Split, split: str) -> Split:
    """Without the rows that the training has left out, such as training pictures that are copies."""
    left_out = settings.lines_left_out(split)
    return rows.take(np.array([i for i, line in enumerate(rows.lines) if line not in left_out], dtype=int))


def _own_table(settings: RunSettings) -> Path:
    path = settings.file("data.metadata")
    if path is not None:
        return path
    named = settings.get("data.metadata")
    cause = f"the table that it was trained with ({named}) is not there" if named else "it does not say its table"
    raise InputError(Fault("missing file", str(settings.folder), cause, "name one with data.metadata=<metadata.csv>"))
