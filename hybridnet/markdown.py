"""Pieces of Markdown for any text: what would be markup in it is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def row(cells: Iterable[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(escaped(cell) for cell in cells)} |"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, and an empty one."""
    yield row(heading)
    yield row(["---"] * len(heading))
    yield from map(row, rows)
    yield ""


def escaped(text: str) -> str:
    """One line of text as it is to be read."""
    special = {character: f"\\{character}" for character in "\\`*_[]<>|#"}
    return text.replace("\n", " ").translate(str.maketrans(special))


def code(text: str) -> str:
    """Text between as many backticks as it needs."""
    fence = "`" * (max((len(run) for run in text.split("`") if not run), default=0) + 2) if "`" in text else "`"
    return f"{fence}{' ' if '`' in text else ''}{text}{' ' if '`' in text else ''}{fence}"


def block(text: str) -> list[str]:
    """The lines of a command or another text that is to be copied."""
    return [f"    {line}" for line in text.splitlines()]
