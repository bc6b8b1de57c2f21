"""Pictures of a table that cannot be used: which ones, and what to do about them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hybridnet.data.image import MISSING
from hybridnet.errors import Fault
from hybridnet.wording import lines_of

REPAIR = (
    "repair these files or remove their rows, or leave them out with data.on_bad_image=skip; "
    "python -m hybridnet.doctor data.metadata=<file> data.label2id=<file> lists all that is wrong"
)

MOVED = (
    "if the pictures have moved, change the paths, or make the table again with python -m hybridnet.prepare, as "
    "before: the division stays; with out=<a folder above the pictures> its paths are relative"
)

Entry = tuple[int, str, str]  # line of the table, path, cause


def unusable_images(entries: Sequence[Entry], table: Path, num_pictures: int, *, repair: str = REPAIR) -> Fault:
    """The fault that lists such pictures and says what to do.

    Args:
        entries: at least one.
        table: that has them.
        num_pictures: how many pictures were looked for.
        repair: the hint, unless most of the pictures are missing: then their paths are wrong, not the files.
    """
    lost = [path for _, path, cause in entries if cause == MISSING]
    hint = _why_missing(lost, table) if 2 * len(lost) > num_pictures else repair
    return Fault("unusable images", f"data.metadata={table}", told(entries), hint)


def told(entries: Sequence[Entry]) -> str:
    """How many there are, and the first 20 of them in the order of the table."""
    lines = [f"line {line} '{path}': {cause}" for line, path, cause in sorted(entries)]
    return f"{len(entries)} of them{lines_of(lines)}"


def _why_missing(paths: Sequence[str], table: Path) -> str:
    if all(map(os.path.isabs, paths)):
        return MOVED
    hints = [f"relative paths are relative to the table's folder, {os.path.abspath(table.parent)}"]  # noqa: PTH100
    if os.sep == "/" and any("\\" in path for path in paths):
        hints.append("folders are separated by /, not by \\")
    if os.sep == "/" and any(re.match(r"[A-Za-z]:[\\/]", path) for path in paths):
        hints.append("a drive such as C: is Windows's: make the paths relative")
    if any(path.startswith("~") for path in paths):
        hints.append("~ does not stand for the home folder: write it out")
    return "; ".join(hints)
