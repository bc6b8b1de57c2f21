"""Decodes pictures, each once: their pixels go to a file, their size, place, checksum and copies into an index."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from hybridnet.data.copies import THUMBNAIL, find_copies, thumbnail
from hybridnet.data.decoded import Entry, Reduction
from hybridnet.data.digests import content_digests
from hybridnet.data.processes import workforce
from hybridnet.data.progress import Track
from hybridnet.errors import Fault, InputError
from hybridnet.files import in_bytes

log = logging.getLogger(__name__)

SPARE_BYTES = 64 * 2**20  # left free on the disk, for the run itself


def decode(
    sources: Mapping[str, Path | str],
    reduction: Reduction,
    pixels: Path | None,
    *,
    track: Track,
    folder: Path,
    memory: Path,
) -> dict[str, Entry]:
    """Decode every picture, on all processors.

    Args:
        sources: a file for each digest of a content.
        reduction: how large the pictures are kept.
        pixels: an empty file that takes them; None to check the pictures alone.
        track: shows the progress.
        folder: where the pixels will be, for messages; its parent must have room for them.
        memory: of the digests.

    Returns:
        An entry for each digest, in the same order.

    Raises:
        InputError: if the disk has no room for the pixels; if a file changed, or could no longer be read, meanwhile.
        OSError: if the pixels cannot be written.
    """
    files = [Path(file) for file in sources.values()]
    thumbnails = np.zeros((len(files), THUMBNAIL, THUMBNAIL, 3), dtype=np.uint8)
    entries: list[Entry] = []
    with workforce(len(files)) as mapped:
        planned = _placed(list(mapped(partial(_planned, reduction), files)))
        num_bytes = sum(entry.num_bytes for entry in planned)
        if pixels:
            _require_room(folder.parent, num_bytes)
            log.info(f"decoding {len(files):,} pictures once, {in_bytes(num_bytes)} in {folder}")
            os.truncate(pixels, num_bytes)
        load = partial(_loaded, reduction, pixels)
        placed = zip(files, planned, strict=True)
        with closing(mapped(load, placed)) as decoded:  # if it is stopped, the rest is not done
            for entry, small in track(decoded, "Decoding pictures", len(files)):
                if small is not None:
                    thumbnails[len(entries)] = small
                entries.append(entry)
    _require_unchanged(sources, memory)
    groups = find_copies(thumbnails, [bytes.fromhex(digest) for digest in sources])
    return {d: e._replace(group=int(g)) for d, e, g in zip(sources, entries, groups, strict=True)}


def _loaded(
    reduction: Reduction, pixels_file: Path | None, placed: tuple[Path, Entry]
) -> tuple[Entry, np.ndarray | None]:
    """Decode a file and write its pixels to their place; its entry and its thumbnail, if it can be used."""
    file, planned = placed
    if planned.cause:
        return planned, None
    try:
        pixels = reduction.load(file)
        if pixels.shape[:2] != planned[:2]:
            return planned._replace(cause="has other pixels than its header says"), None
    except InputError as error:
        return planned._replace(cause=_lasting_cause(error)), None
    if pixels_file:
        with pixels_file.open("r+b") as stream:
            stream.seek(planned.offset)
            stream.write(pixels)
    return planned._replace(checksum=zlib.crc32(pixels)), thumbnail(Image.fromarray(pixels))


def _planned(reduction: Reduction, file: Path) -> Entry:
    try:
        height, width = reduction.size(file)
    except InputError as error:
        return Entry(height=0, width=0, offset=0, checksum=0, group=0, cause=_lasting_cause(error))
    return Entry(height=height, width=width, offset=0, checksum=0, group=0, cause="")


def _lasting_cause(error: InputError) -> str:
    """Why this content is no picture; what may be different next time is raised, for the index would keep it."""
    reason = error.__cause__
    # Pillow's own errors have no number; a damaged file may lead it to an invalid place, which has one.
    if isinstance(reason, MemoryError) or getattr(reason, "errno", None) not in (None, errno.EINVAL):
        raise error
    return error.faults[0].cause


def _require_unchanged(sources: Mapping[str, Path | str], memory: Path) -> None:
    """The pixels are kept under the digests of the files: those must be the files that were decoded."""
    files = list(sources.values())
    now = content_digests(files, memory=memory)
    changed = [file for file, before, after in zip(files, sources, now, strict=True) if after != before]
    if changed:
        cause = f"{len(changed)} files were replaced or removed while they were decoded"
        raise InputError(Fault("changed images", f"{changed[0]} …", cause, "start again when nothing writes to them"))


def _placed(entries: Sequence[Entry]) -> list[Entry]:
    """One behind the other."""
    ends = np.cumsum([entry.num_bytes for entry in entries]).tolist()
    return [entry._replace(offset=end - entry.num_bytes) for entry, end in zip(entries, ends, strict=True)]


def _require_room(cache_dir: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(cache_dir).free
    if free < num_bytes + SPARE_BYTES:
        spare = f"besides {in_bytes(SPARE_BYTES)} for the run"
        cause = f"the decoded pictures need {in_bytes(num_bytes)} {spare}, {in_bytes(free)} are free"
        raise InputError(Fault("no room", f"data.cache_dir={cache_dir}", cause, room_hint(cache_dir)))


def room_hint(cache_dir: Path) -> str:
    """What to do where a cache folder has no room, or is no folder."""
    try:
        used = sum(file.stat().st_size for file in cache_dir.glob("*/pixels.bin"))
    except OSError:
        used = 0
    delete = f"; the {in_bytes(used)} of stores in it may be deleted when nothing is running" if used else ""
    return f"data.cache_dir=<folder on another disk>, or data.cache=none to decode every picture each time{delete}"
