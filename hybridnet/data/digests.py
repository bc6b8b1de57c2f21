"""What is in the files: a digest of each, remembered as long as the file system says that the file is the same."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridnet.data.threads import in_threads
from hybridnet.files import read_if_whole, write_json

# A file that is changed again within the clock's resolution looks unchanged: of one that was as young as this when it
# was read, nothing is remembered.
SETTLED_SECONDS = 2.0
AT_ONCE = 64  # files that a thread looks at; most have not changed, which takes microseconds to see
DIGEST = re.compile("[0-9a-f]{32}")


def content_digests(files: Sequence[Path | str], *, memory: Path) -> list[str | OSError]:
    """The BLAKE2b digest of every file's content as text, or why it cannot be read.

    Args:
        files: in any order, also several times.
        memory: a JSON file with the digests of former calls; read if it is there, written if something changed.
    """
    known = _read(memory)
    settled = int((time.time() - SETTLED_SECONDS) * 1e9)
    distinct = list(dict.fromkeys(map(str, files)))
    entries_now = in_threads(lambda file: _entry(file, known.get(file)), distinct, at_once=AT_ONCE)
    found = dict(zip(distinct, entries_now, strict=True))
    entries = {
        file: entry for file, entry in found.items() if not isinstance(entry, OSError) and max(entry[1:3]) < settled
    }
    if any(known.get(file) != entry for file, entry in entries.items()):
        _write(memory, known | entries)
    return [entry if isinstance(entry := found[str(file)], OSError) else entry[-1] for file in files]


def fingerprint(classes: Sequence[str], digests: Sequence[str], labels: np.ndarray) -> str:
    """One digest of labelled pictures in their order: contents and class indices, not paths.

    Args:
        classes: labels in the order of their indices.
        digests: of the files' contents, all of one length.
        labels: class indices (N,).
    """
    content = hashlib.blake2b(json.dumps(list(classes)).encode("ascii"), digest_size=16)
    content.update("".join(digests).encode("ascii"))
    content.update(labels.astype("<i8").tobytes())
    return content.hexdigest()


def file_digest(file: Path) -> bytes:
    """The BLAKE2b digest of a file's content, 16 bytes."""
    return hashlib.blake2b(file.read_bytes(), digest_size=16).digest()


def _entry(file: str, known: list | None) -> list | OSError:
    """[size, times, place on the disk, digest]."""
    try:
        status = os.stat(file)  # noqa: PTH116 - half the time of a Path's, for every picture at every start
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            return OSError("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
        identity = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        if known and known[:-1] == identity:
            return known
        return [*identity, file_digest(Path(file)).hex()]
    except OSError as error:
        return error


def _read(memory: Path) -> dict[str, list]:
    return {file: entry for file, entry in read_if_whole(memory).items() if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 5 and bool(DIGEST.fullmatch(str(entry[-1])))


def _write(memory: Path, entries: dict[str, list]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_json(memory, entries)
    except OSError:  # a full or read-only disk: computed again next time
        pass
