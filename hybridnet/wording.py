"""Counts and lists, as every message words them."""

from __future__ import annotations

from collections.abc import Sequence

LISTED = 20  # entries


def number_of(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `1,234 pictures`; `many` where an s is not the plural."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listing(entries: Sequence[str], *, limit: int = LISTED) -> str:
    """The first entries in a line and, if there are more, how many there are."""
    rest = f" … ({len(entries):,} in all)" if len(entries) > limit else ""
    return ", ".join(entries[:limit]) + rest


def lines_of(entries: Sequence[str]) -> str:
    """The first 20 entries, each in a line of its own, and how many more there are."""
    more = [f"… and {len(entries) - LISTED:,} more"] if len(entries) > LISTED else []
    return "".join(f"\n  {entry}" for entry in [*entries[:LISTED], *more])
