"""Every picture of a table, decoded once: what is wrong with each, what it looks like, and which are one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybridnet.data.copies import find_copies, thumbnail
from hybridnet.data.digests import file_digest
from hybridnet.data.image import Header, open_rgb, read_header
from hybridnet.data.processes import workforce
from hybridnet.data.progress import Track
from hybridnet.data.rows import Row
from hybridnet.data.table import file_keys
from hybridnet.errors import InputError

_JPEG = {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"}
SUFFIXES = {
    "JPEG": _JPEG,
    "MPO": _JPEG,  # two JPEGs in one file, as phones write
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
}


class Picture(NamedTuple):
    """What decoding a file showed."""

    header: Header
    digest: bytes
    thumbnail: np.ndarray  # uint8 (32, 32, 3)


class Album(NamedTuple):
    """The pictures of a table.

    Attributes:
        pictures: by row, None where there is none; rows of one file share it.
        causes: by row, why there is none; empty where there is one. Rows with an unsafe path have neither.
        again: rows whose file an earlier row has, with that row.
        copies: groups of rows whose files show one picture; of rows with the same file only the first is in a group.
    """

    pictures: dict[int, Picture]
    causes: dict[int, str]
    again: dict[int, int]
    copies: list[list[int]]


def look_at_all(rows: Sequence[Row], folder: Path, *, track: Track) -> Album:
    """Decode every file that a row names, on all processors.

    Args:
        rows: of the table.
        folder: of the table.
        track: called with an iterable, a description and a length; shows the progress.
    """
    first: dict[str, int] = {}
    again: dict[int, int] = {}
    for number, key in enumerate(file_keys(folder, [row.path for row in rows])):
        if key is not None and first.setdefault(key, number) != number:
            again[number] = first[key]
    numbers = list(first.values())
    files = [folder / rows[number].path for number in numbers]
    with workforce(len(files)) as mapped:
        looks = dict(zip(numbers, track(mapped(_look, files), "Reading pictures", len(files)), strict=True))
    looks |= {number: looks[before] for number, before in again.items()}
    pictures = {number: look for number, look in looks.items() if isinstance(look, Picture)}
    causes = {number: look for number, look in looks.items() if isinstance(look, str)}
    return Album(pictures, causes, again, _copies({n: look for n, look in pictures.items() if n not in again}))


def disguised(rows: Sequence[Row], album: Album) -> Iterator[str]:
    """Files whose extension says something else than their content, which decides."""
    for number, picture in sorted(album.pictures.items()):
        suffix, kind = Path(rows[number].path).suffix.lower(), picture.header.format
        is_known = any(suffix in suffixes for suffixes in SUFFIXES.values())
        if is_known and suffix not in SUFFIXES[kind] and number not in album.again:
            yield f"line {rows[number].line} {rows[number].path!r} is {kind}"


def _copies(pictures: dict[int, Picture]) -> list[list[int]]:
    if not pictures:
        return []
    found = [pictures[number] for number in sorted(pictures)]
    groups: dict[int, list[int]] = {}
    shared = find_copies(np.stack([p.thumbnail for p in found]), [p.digest for p in found])
    for number, group in zip(sorted(pictures), shared.tolist(), strict=True):
        groups.setdefault(group, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def _look(file: Path) -> Picture | str:
    try:
        header = read_header(file)
        image = open_rgb(file)
        digest = file_digest(file)
    except InputError as error:
        return error.faults[0].cause
    except OSError as error:
        return error.strerror or str(error)
    size = {"width": image.width, "height": image.height}  # what was decoded, whatever the header says
    return Picture(header._replace(**size), digest, thumbnail(image))
