"""Files that are whole or not there: written under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place when the block ends without an exception."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with \\n line ends, whole or not at all."""
    with replacing(path) as stream:
        stream.write(text.encode("utf-8"))


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """A CSV table as text, with \\n line ends."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON; a number that JSON cannot hold (NaN, infinity) becomes null."""
    write_text(path, json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8; a byte order mark is fine.

    Raises:
        ValueError: if the content is not JSON or not UTF-8.
    """
    return json.loads(path.read_text(encoding="utf-8-sig"))


def write_with(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill the file; for libraries that save to a stream."""
    with replacing(path) as stream:
        write(stream)


def try_lock(stream: IO) -> bool:
    """Lock an open file until it is closed; False if another process, or another place of this one, holds it.

    The system frees the lock of a process that was killed. Always True on Windows, which has no such locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock on `path`, a file that is made for it; calls `on_wait` before waiting for another holder."""
    with path.open("w", encoding="utf-8") as stream:
        if not try_lock(stream):
            on_wait()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder; its rename is durable enough without
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
