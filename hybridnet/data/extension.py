"""An earlier table that more pictures are added to: what it had keeps its split, its fold and its groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hybridnet.data.pictures import Named, Picture
from hybridnet.data.rows import Row
from hybridnet.data.table import SPLITS, assign, examine
from hybridnet.errors import Fault, InputError
from hybridnet.wording import listing


class Place(NamedTuple):
    """Where a picture is.

    Attributes:
        split: train, valid or test.
        fold: "" for testing, and where there are no folds.
    """

    split: str
    fold: str

    def __str__(self) -> str:
        return f"fold {self.fold}" if self.fold else self.split


class Earlier(NamedTuple):
    """What an earlier table says of the pictures of today.

    Attributes:
        table: as the user wrote it.
        num_rows: of the table.
        places: of each picture; None for one that it does not have.
        groups: of each picture; None for one that has none there.
    """

    table: Path
    num_rows: int
    places: Sequence[Place | None]
    groups: Sequence[str | None]


def read_earlier(table: Path, pictures: Sequence[Picture | Named], *, folds: int) -> Earlier:
    """Look the pictures up by where they lie, links resolved.

    Args:
        table: metadata.csv of before.
        pictures: of today.
        folds: how many are asked for; the table must have as many.

    Raises:
        InputError: if the table cannot be read or is wrong in itself, has other folds, or none of the pictures.
    """
    rows, splits, faults = examine(table, None, needs=(), option="extend")
    if faults:
        raise InputError(*faults)
    _require_folds(table, rows, folds=folds)
    if folds:
        splits, faults = assign(rows, fold=0, where=f"extend={table}")
        if faults:
            raise InputError(*faults)
    rows_of = {(table.parent / row.path).resolve(): (row, split) for row, split in zip(rows, splits, strict=True)}
    found = [rows_of.get(picture.file.resolve()) for picture in pictures]
    if not any(found):
        cause = f"none of its {len(rows)} pictures is among the {len(pictures)} of root"
        hint = "root must be the folder it was made from; its relative paths are relative to the folder it lies in"
        raise InputError(Fault("no pictures", f"extend={table}", cause, hint))
    places = [pair and Place(pair[1], (pair[0].fold or "") if folds else "") for pair in found]
    groups = [((pair[0].group or "").strip() or None) if pair else None for pair in found]
    return Earlier(table, len(rows_of), places, groups)


def _require_folds(table: Path, rows: Sequence[Row], *, folds: int) -> None:
    there = sorted({row.fold for row in rows if row.fold})
    if there == sorted(map(str, range(folds))):
        return
    cause = f"extend={table} has {f'the folds {listing(there)}' if there else 'no folds'}"
    raise InputError(Fault("wrong value", f"folds={folds}", cause, f"folds={len(there)}"))


def inherited(
    pictures: Sequence[Picture], together: Sequence[int], earlier: Earlier
) -> tuple[list[Place | None], dict[int, Fault]]:
    """The place of each picture: its own, or that of the earlier pictures of its group.

    Args:
        pictures: of today.
        together: the number of each one's group: of copies, the user's and the table's groups joined.
        earlier: see `read_earlier`.

    Returns:
        The places, None for those that may be drawn; and the new pictures whose group lies in several places, by their
        index: wherever these came, a picture of theirs would be elsewhere.
    """
    places_of: dict[int, set[Place]] = {}
    for group, place in zip(together, earlier.places, strict=True):
        if place is not None:
            places_of.setdefault(group, set()).add(place)
    places = list(earlier.places)
    torn = {}
    for index, (group, place) in enumerate(zip(together, places, strict=True)):
        there = sorted(map(str, places_of.get(group, ())))
        if place is None and len(there) > 1:
            cause = f"belongs to pictures that are in {' and in '.join(there)} of {earlier.table}"
            torn[index] = Fault("left out", pictures[index].name, cause)
        elif place is None and there:
            places[index] = next(iter(places_of[group]))
    return places, torn


def describe_extension(earlier: Earlier, splits: Sequence[str], indices: Sequence[int]) -> str:
    """How many pictures stayed where they were, and where the new ones came.

    Args:
        earlier: see `read_earlier`.
        splits: of the pictures of the new table.
        indices: of these pictures among those of today.
    """
    new = Counter(split for split, index in zip(splits, indices, strict=True) if earlier.places[index] is None)
    num_kept = len(splits) - new.total()
    told = ", ".join(f"{new[split]} {split}" for split in SPLITS if new[split])
    lost = earlier.num_rows - num_kept
    parts = [f"{num_kept:,} of its {earlier.num_rows:,} pictures stay where they are"]
    parts += [f"gone from root, or left out: {lost:,}"] if lost > 0 else []
    parts += [f"{new.total():,} are new: {told}" if told else "none is new"]
    return f"extends {earlier.table}; {'; '.join(parts)}"
