"""Decodes pictures, each once: their pixels go to a file, their size, place, checksum and copies into an index."""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from hybridnet.data.copies import THUMBNAIL, find_copies, thumbnail
from hybridnet.data.decoded import Entry, Reduction
from hybridnet.data.digests import content_digests
from hybridnet.data.progress import Track
from hybridnet.data.threads import in_threads
from hybridnet.errors import Fault, InputError
from hybridnet.files import in_bytes

log = logging.getLogger(__name__)

SPARE_BYTES = 64 * 2**20  # left free on the disk, for the run itself


def decode(
    sources: Mapping[str, Path],
    reduction: Reduction,
    stream: BinaryIO | None,
    *,
    track: Track,
    folder: Path,
    memory: Path,
) -> dict[str, Entry]:
    """Decode every picture, in threads.

    Args:
        sources: a file for each digest of a content.
        reduction: how large the pictures are kept.
        stream: takes the pixels; None to check the pictures alone.
        track: shows the progress.
        folder: where the pixels will be, for messages; its parent must have room for them.
        memory: of the digests.

    Returns:
        An entry for each digest, in the same order.

    Raises:
        InputError: if the disk has no room for the pixels; if a file changed, or could no longer be read, meanwhile.
        OSError: if the stream cannot be written.
    """
    files = list(sources.values())
    writing = threading.Lock()
    thumbnails = np.zeros((len(files), THUMBNAIL, THUMBNAIL, 3), dtype=np.uint8)

    def load(numbered: tuple[int, Entry]) -> Entry:
        number, planned = numbered
        if planned.cause:
            return planned
        try:
            pixels = reduction.load(files[number])
            if pixels.shape[:2] != planned[:2]:
                return planned._replace(cause="has other pixels than its header says")
        except InputError as error:
            return planned._replace(cause=_lasting_cause(error))
        thumbnails[number] = thumbnail(Image.fromarray(pixels))
        if stream:
            with writing:
                stream.seek(planned.offset)
                stream.write(pixels)
        return planned._replace(checksum=zlib.crc32(pixels))

    planned = _placed(list(in_threads(lambda file: _planned(reduction, file), files)))
    num_bytes = sum(entry.num_bytes for entry in planned)
    if stream:
        _require_room(folder.parent, num_bytes)
        log.info(f"decoding {len(files):,} pictures once, {in_bytes(num_bytes)} in {folder}")
    with closing(in_threads(load, enumerate(planned))) as decoded:  # if it is stopped, the rest is not done
        entries = list(track(decoded, "Decoding pictures", len(files)))
    if stream:
        stream.truncate(num_bytes)
    _require_unchanged(sources, memory)
    groups = find_copies(thumbnails, [bytes.fromhex(digest) for digest in sources])
    return {d: e._replace(group=int(g)) for d, e, g in zip(sources, entries, groups, strict=True)}


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


def _require_unchanged(sources: Mapping[str, Path], memory: Path) -> None:
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
