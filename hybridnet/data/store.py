"""Every picture decoded once: checked, reduced to what crops need, and kept in one memory-mapped file.

    <cache_dir>/<key>/pixels.bin      uint8 pixels of one picture after the other
                      index.json      size, place, checksum and group of copies of each, or why it cannot be used
                      verified.json   which state of pixels.bin the checksums were compared with

The key is a digest of the files' contents, the settings and the decoder's version, so runs, sweep jobs and processes
share a store, and a changed file leads to another one. A store is filled under a temporary name and renamed when it
is complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import PIL

from hybridnet.data.decoded import Entry, LivePictures, Pictures, Reduction, StoredPictures, map_pixels
from hybridnet.data.decoding import decode, room_hint
from hybridnet.data.digests import content_digests
from hybridnet.data.progress import Track
from hybridnet.data.threads import in_threads
from hybridnet.errors import Fault, InputError
from hybridnet.files import FULL, locked, read_json, try_lock, write_json

log = logging.getLogger(__name__)

FORMAT = 2  # of the files, and of how pictures are read


def user_cache() -> Path:
    """`hybridnet` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(home) / "hybridnet"


class Store:
    """The index, and the pixels if they are kept. Made by `open_store`."""

    def __init__(
        self,
        files: Sequence[Path | str],
        entries: dict[str, Entry],
        digests: Sequence[str | OSError],
        reduction: Reduction,
        pixels: Path | None,
    ) -> None:
        self.entries = entries
        self.reduction = reduction
        self._files = files
        self._digests = digests
        self._pixels = pixels

    def cause(self, index: int) -> str:
        """Why file `index` cannot be used, or ""."""
        digest = self._digests[index]
        return _why(digest) if isinstance(digest, OSError) else self.entries[digest].cause

    def group(self, index: int) -> int:
        """Number of the group of copies that usable file `index` belongs to."""
        return self.entries[self._digests[index]].group

    def content_digest(self, index: int) -> str:
        """Of the content of usable file `index`."""
        return self._digests[index]

    def pictures(self, indices: Sequence[int]) -> Pictures:
        """The usable pictures at `indices`: from the kept pixels, or decoded each time from their files."""
        entries = [self.entries[self._digests[index]] for index in indices]
        if self._pixels is None:
            files = [Path(self._files[index]) for index in indices]
            return LivePictures(files, [(entry.height, entry.width) for entry in entries], self.reduction)
        return StoredPictures(self._pixels, entries)


def open_store(
    files: Sequence[Path | str], reduction: Reduction, *, cache_dir: Path, table: Path, keep_pixels: bool, track: Track
) -> Store:
    """Open the store of these files, or build it.

    When several processes need the same store, one builds it and the others wait.

    Args:
        files: of pictures, in any order; unusable ones are noted in the index.
        reduction: how large the pictures are kept.
        cache_dir: folder of all stores.
        table: the digests of its files are remembered together.
        keep_pixels: False for the index alone: every picture is still decoded once, to check it.
        track: wraps an iterable (with a description and its length) to show the progress.

    Raises:
        InputError: if cache_dir cannot be written, or the disk has no room for the pixels; if a file changed, or could
            no longer be read, while the store was built.
    """
    memory = memory_of(table, cache_dir=cache_dir)
    digests = content_digests(files, memory=memory)
    sources = {digest: file for digest, file in zip(digests, files, strict=True) if not isinstance(digest, OSError)}
    sources = {digest: sources[digest] for digest in sorted(sources)}
    settings = {"format": FORMAT, "pillow": PIL.__version__, **vars(reduction), "keep_pixels": keep_pixels}
    key = _short_digest(json.dumps([settings, list(sources)]))
    folder = cache_dir / key
    pixels = folder / "pixels.bin" if keep_pixels else None
    entries = _read(folder, sources, pixels)
    try:
        if entries is None:
            cache_dir.mkdir(parents=True, exist_ok=True)
            waiting = "another process is decoding the same pictures; waiting for it"
            with locked(cache_dir / f".{key}.lock", on_wait=lambda: log.info(waiting)) as is_alone:
                entries = _read(folder, sources, pixels)  # another process may have been first
                if entries is None:
                    if folder.exists():
                        log.info(f"the decoded pictures in {folder} are damaged; they are decoded again")
                    entries = _build(
                        folder,
                        sources,
                        reduction,
                        keep_pixels=keep_pixels,
                        track=track,
                        memory=memory,
                        is_alone=is_alone,
                    )
    except OSError as error:
        if keep_pixels:
            raise _unusable(cache_dir, error) from error
        # Without pixels nothing must be kept.
        entries = decode(sources, reduction, None, track=track, folder=folder, memory=memory)
    return Store(files, entries, digests, reduction, pixels)


def memory_of(table: Path, *, cache_dir: Path) -> Path:
    """Where the digests of a table's files are remembered; see `content_digests`."""
    return cache_dir / f"files_{_short_digest(str(table.absolute()))}.json"


def _read(folder: Path, sources: dict[str, Path | str], pixels: Path | None) -> dict[str, Entry] | None:
    """The entries of a complete and undamaged store, else None."""
    try:
        checksum, rows = read_json(folder / "index.json")
        entries = {digest: Entry(*fields) for digest, *fields in rows}
    except (OSError, ValueError, TypeError):
        return None
    if checksum != _checksum(rows) or list(entries) != list(sources):
        return None
    return entries if pixels is None or _is_verified(pixels, list(entries.values())) else None


def _is_verified(pixels: Path, entries: Sequence[Entry]) -> bool:
    """Whether the pixels are those of the index; the checksums are compared whenever the file was touched."""
    memory = pixels.with_name("verified.json")
    try:
        if pixels.stat().st_size != sum(entry.num_bytes for entry in entries):
            return False
        identity = _identity(pixels)  # before the comparison: a change during it is noticed next time
        mapped = map_pixels(pixels)
    except OSError:
        return False
    with suppress(OSError, ValueError):  # never compared, or the note is damaged: they are compared now
        if read_json(memory) == identity:
            return True

    def is_intact(entry: Entry) -> bool:
        pixels = mapped[entry.offset : entry.offset + entry.num_bytes]
        return bool(entry.cause) or zlib.crc32(pixels) == entry.checksum

    if not all(in_threads(is_intact, entries)):
        return False
    _remember(pixels, identity)
    return True


def _build(
    folder: Path,
    sources: dict[str, Path | str],
    reduction: Reduction,
    *,
    keep_pixels: bool,
    track: Track,
    memory: Path,
    is_alone: bool,
) -> dict[str, Entry]:
    """Fill a new store, under the lock; where there are none (not `is_alone`), another process may do the same."""
    if is_alone:
        _remove_unfinished(folder)
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    unfinished.mkdir()
    try:
        pixels = unfinished / "pixels.bin"
        with pixels.open("wb") as stream:
            kept = pixels if keep_pixels else None
            entries = decode(sources, reduction, kept, track=track, folder=folder, memory=memory)
            os.fsync(stream.fileno())
        rows = [[digest, *entry] for digest, entry in entries.items()]
        write_json(unfinished / "index.json", [_checksum(rows), rows])
        _remember(pixels, _identity(pixels))
        if is_alone or _read(folder, sources, folder / pixels.name if keep_pixels else None) is None:
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return entries


def _remove_unfinished(folder: Path) -> None:
    """What builds of this and other stores left that were killed; they may be large."""
    for unfinished in folder.parent.glob(".*.*.tmp"):
        if unfinished.name.startswith(f".{folder.name}."):
            shutil.rmtree(unfinished, ignore_errors=True)
        elif unfinished.is_dir():
            with unfinished.with_name(f".{unfinished.name.split('.')[1]}.lock").open("w", encoding="utf-8") as stream:
                if try_lock(stream):  # else its build is going on
                    shutil.rmtree(unfinished, ignore_errors=True)


def _unusable(cache_dir: Path, error: OSError) -> InputError:
    what = "no room" if error.errno in FULL else "unusable folder"
    return InputError(Fault(what, f"data.cache_dir={cache_dir}", error.strerror or str(error), room_hint(cache_dir)))


def _remember(pixels: Path, identity: list[int]) -> None:
    try:
        write_json(pixels.with_name("verified.json"), identity)
    except OSError:  # a folder that somebody else shares, read only: the checksums are compared again next time
        log.debug("cannot write %s", pixels.with_name("verified.json"))


def _identity(file: Path) -> list[int]:
    """Differs when the file was touched in any way."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _why(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)


def _checksum(rows: list[list[Any]]) -> str:
    return _short_digest(json.dumps(rows))


def _short_digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
