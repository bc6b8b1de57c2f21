"""The tables that were made of one folder of pictures: each stays, for the runs that were trained with it.

The first lies where `data.metadata` says, later ones in numbered folders below: `photos_2`, `photos_3`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hybridnet.data.rows import read_rows
from hybridnet.errors import InputError
from hybridnet.files import read_if_whole
from hybridnet.wording import number_of

RECORD = "source.json"


def tables(metadata: Path) -> list[Path]:
    """The first table, which may be missing, and those that were made after it, in this order."""
    later = [table for table in metadata.parent.glob(f"*/{metadata.name}") if _number(table) and record_of(table)]
    return [metadata, *sorted(later, key=_number)]


def next_place(metadata: Path, *, name: str) -> Path:
    """Where the next table will be."""
    numbers = [_number(table) for table in metadata.parent.glob(f"*/{metadata.name}")]
    return metadata.parent / f"{name}_{max([1, *numbers]) + 1}" / metadata.name


def record_of(table: Path) -> dict[str, Any] | None:
    """What the table was made from; None for one that nobody has made, or not wholly."""
    return read_if_whole(table.parent / RECORD) or None


def change(earlier: Path, table: Path) -> str:
    """`3 new pictures, 1 gone; the 120 others stay in their splits`."""
    before, now = _places(earlier), _places(table)
    others = before.keys() & now.keys()
    moved = sum(before[path] != now[path] for path in others)
    stay = "the other stays in its split" if len(others) == 1 else f"the {len(others):,} others stay in their splits"
    if moved:
        stay = f"{moved:,} of the {len(others):,} others are in another split"
    return f"{number_of(len(now) - len(others), 'new picture')}, {len(before) - len(others):,} gone; {stay}"


def _places(table: Path) -> dict[Path, tuple[str, str | None]]:
    try:
        rows, _ = read_rows(table)
    except InputError:
        return {}
    return {table.parent / row.path: (row.split, row.fold) for row in rows}


def _number(table: Path) -> int:
    match = re.fullmatch(r"[^.].*_([1-9][0-9]*)", table.parent.name)
    return int(match[1]) if match else 0
