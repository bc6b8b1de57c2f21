"""Writing a large file past the system's page cache."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BLOCK = 4096  # bytes; what disks and file systems take is a divisor of it
BUFFER = 2**23  # few writes: after each, a thread waits until the others let it go on


class DirectFile:
    """A new file whose whole blocks go past the page cache, where system and file system allow it.

    A file that nobody reads soon would push others out of the cache, such as the pictures that are trained on, and
    filling pages takes time: a virtual machine that has to fetch them from its host writes six times as fast without.

    Args:
        path: of the file, which is made or emptied.

    Raises:
        OSError: here and in every method, as from any other file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._buffer = memoryview(mmap.mmap(-1, BUFFER))  # at a page's start, as such writes want it
        self._filled = 0
        self._is_direct = False
        if fcntl and hasattr(os, "O_DIRECT"):
            with suppress(OSError):
                self._set_direct(True)

    def __enter__(self) -> DirectFile:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._file.close()

    def fileno(self) -> int:
        """Of the open file."""
        return self._file.fileno()

    def write(self, data: bytes) -> int:
        """Add to the file; returns the number of bytes."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            part, left = left[: BUFFER - self._filled], left[BUFFER - self._filled :]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == BUFFER:
                self._write_out(self._buffer)
                self._filled = 0
        return size

    def flush(self) -> None:
        """Give what is left to the system. What follows goes through the page cache, for blocks begin elsewhere."""
        whole = self._filled // BLOCK * BLOCK
        self._write_out(self._buffer[:whole])
        self._set_direct(False)
        self._write_out(self._buffer[whole : self._filled])
        self._filled = 0

    def _write_out(self, data: memoryview) -> None:
        while data:
            try:
                data = data[self._file.write(data) :]
            except OSError:
                if not self._is_direct:
                    raise
                self._set_direct(False)  # a file system that allows it and then does not; or it fails again

    def _set_direct(self, is_direct: bool) -> None:
        if is_direct != self._is_direct:
            flags = fcntl.fcntl(self._file, fcntl.F_GETFL) & ~os.O_DIRECT
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags | (os.O_DIRECT if is_direct else 0))
            self._is_direct = is_direct
