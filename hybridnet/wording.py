"""Counts and lists, as every message words them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

LISTED = 20  # entries


def number_of(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `1,234 pictures`; `many` where an s is not the plural."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def spelt(path: Path | str) -> str:
    """The path as it can be printed and written: what is not UTF-8 in a name of a file becomes \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def listing(entries: Sequence[str], *, limit: int = LISTED) -> str:
    """The first entries in a line and, if there are more, how many there are."""
    rest = f" … ({len(entries):,} in all)" if len(entries) > limit else ""
    return ", ".join(entries[:limit]) + rest


def lines_of(entries: Sequence[str]) -> str:
    """The first 20 entries, each in a line of its own, and how many more there are."""
    more = [f"… and {len(entries) - LISTED:,} more"] if len(entries) > LISTED else []
    return "".join(f"\n  {entry}" for entry in [*entries[:LISTED], *more])
