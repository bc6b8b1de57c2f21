"""Fonts for the names of all classes: matplotlib's own, and for letters that it lacks those of this machine."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator
from contextlib import suppress

from matplotlib import font_manager
from matplotlib.font_manager import FontEntry
from PIL import ImageFont

log = logging.getLogger(__name__)

USUAL = "DejaVu Sans"  # comes with matplotlib
PLACEHOLDERS = "Last Resort"  # so does this one, in which every letter of a script is the same box

_told: set[int] = set()  # the letters of which no font was found


def families(text: str) -> list[str]:
    """The fonts that a text needs: the usual one and, only where it lacks letters, others that have these."""
    return [USUAL, *(entry.name for entry in _others(_lacking(text)))]


def width(text: str, size: float) -> float:
    """Of a text, in inches; matplotlib would trace every letter, which takes sixty times as long.

    Args:
        text: of one line or several, of which the longest counts.
        size: of the letters, in points.
    """
    scale = 16  # to units in which the rounding of each letter's width does not show
    files = [_usual(), *(entry.fname for entry in _others(_lacking(text)))]

    def file_of(letter: str) -> str:
        return next((file for file in files if ord(letter) in _letters(file)), files[0])

    def length(line: str) -> float:
        parts = itertools.groupby(line, file_of) if len(files) > 1 else [(files[0], line)]
        return sum(ImageFont.truetype(file, scale * size).getlength("".join(part)) for file, part in parts)

    return max(map(length, text.splitlines()), default=0.0) / scale / 72


def _usual() -> str:
    return font_manager.findfont(USUAL)


def _lacking(text: str) -> frozenset[str]:
    """The letters that the usual font does not have."""
    if text.isascii():
        return frozenset()
    return frozenset(c for c in text if ord(c) not in _letters(_usual()) and c.isprintable() and not c.isspace())


@functools.cache
def _letters(file: str) -> frozenset[int]:
    font = font_manager.get_font(file)
    return frozenset(font.get_charmap()) if font.scalable else frozenset()  # pictures, as of emoji, cannot be drawn


@functools.cache
def _others(letters: frozenset[str]) -> tuple[FontEntry, ...]:
    """As few fonts as have these letters between them; a letter that none has is told, once."""
    left, found = {ord(letter) for letter in letters}, []
    for entries in _known_and_new() if left else ():
        while left and (best := _best(entries, left)):
            found.append(best)
            left -= _letters(best.fname)
    if untold := left - _told:
        named = "".join(sorted(map(chr, untold)))
        log.warning(f"no font on this machine has {named}: boxes stand for these letters in the pictures")
        _told.update(untold)
    return tuple(found)


def _known_and_new() -> Iterator[list[FontEntry]]:
    """The fonts in matplotlib's list, which it has made once, and then with those that were installed since."""
    manager = font_manager.fontManager
    yield manager.ttflist
    known = {entry.fname for entry in manager.ttflist}
    for file in font_manager.findSystemFonts():
        if file not in known:
            with suppress(Exception):  # whatever is wrong with it: matplotlib does not use it either
                manager.addfont(file)
    yield manager.ttflist


def _best(entries: list[FontEntry], letters: set[int]) -> FontEntry | None:
    """The font with the most of these letters; of several a plain one."""
    having = []
    for entry in entries:
        with suppress(OSError, RuntimeError):  # was removed, or is damaged
            if not entry.name.startswith(PLACEHOLDERS) and (count := len(letters & _letters(entry.fname))):
                is_odd = (entry.style != "normal", entry.weight not in (400, "normal"), "Sans" not in entry.name)
                having.append((-count, is_odd, entry.name, entry.fname, entry))
    return min(having, key=lambda item: item[:-1])[-1] if having else None
