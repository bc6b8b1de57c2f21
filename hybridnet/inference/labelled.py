"""Labelled pictures to judge a model on: those of the run's own table, or of another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybridnet.data import table
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
        table.require_file(path, "data.metadata")
    else:
        path = _own_table(settings)
        fold = settings.get("data.fold") if fold is None else fold
    label2id = {name: index for index, name in enumerate(classes)}
    splits = table.read_metadata(path, label2id, fold=fold, needs=(split,))
    chosen = splits[split]
    limit = settings.get(LIMITS[split]) if metadata is None and LIMITS[split] else None
    return path, table.choose(chosen, limit, seed=settings.get("data.seed") or 0)


def _own_table(settings: RunSettings) -> Path:
    path = settings.file("data.metadata")
    if path is not None:
        return path
    named = settings.get("data.metadata")
    cause = f"the table that it was trained with ({named}) is not there" if named else "it does not say its table"
    raise InputError(Fault("missing file", str(settings.folder), cause, "name one with data.metadata=<metadata.csv>"))
