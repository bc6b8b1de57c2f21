"""Files that are whole or not there: written under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

from hybridnet.direct import DirectFile
from hybridnet.errors import Fault, InputError

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None

T = TypeVar("T", dict, list)

NUMBERS = re.compile(r"\[\n[-+.,\de\s]+\]")  # a list in indented JSON: no text in it has a line end
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or one's share of it
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def replacing(
    path: Path, *, previous: Path | None = None, is_read_soon: bool = True
) -> Iterator[BinaryIO | DirectFile]:
    """Open a temporary file beside `path` that takes its place when the block ends without an exception.

    Args:
        path: of the file.
        previous: keeps what `path` was before, if given; in the same folder.
        is_read_soon: without it the file goes past the page cache, which is faster for large ones.

    Raises:
        OSError: if the file cannot be written; names `path` also where the system does not, as with a full disk.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") if is_read_soon else DirectFile(temporary) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if previous and path.exists():
            _keep(path, previous)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # it is gone, or what went wrong before says more
            temporary.unlink()


def writable_folder(path: Path) -> Path:
    """The folder, which is made if it is missing.

    Raises:
        OSError: if it cannot be made or written to.
    """
    path.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path).close()  # its permissions alone do not tell, as of a disk that is read-only
    return path


def output_folder(out: str | Path) -> Path:
    """The folder that a command writes into, which is made if it is missing.

    Raises:
        InputError: if it cannot be made or written to, or none is named.
    """
    require_named(out)
    try:
        return writable_folder(Path(out))
    except OSError as error:
        hint = "choose another one with out=<folder>"
        raise InputError(Fault("unusable folder", f"out={out}", error.strerror or str(error), hint)) from error


def require_named(out: str | Path) -> None:
    """Raises InputError for an empty text, which would be the working directory."""
    if not str(out):
        raise InputError(Fault("missing value", "out=", "no folder is named", "out=. is the working directory"))


def will_not_need(path: Path) -> None:
    """Let the system give the memory that holds a file's content to others, once it is on the disk."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError), path.open("rb") as stream:  # it is no more than advice
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def remove_temporaries(folder: Path) -> None:
    """Remove what writers left in `folder` that were killed. Nobody may be writing there."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with \\n line ends, whole or not at all.

    What is no character, as in names of files from systems with other encodings, becomes `\\udcff`, as JSON has it.
    """
    with replacing(path) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """A CSV table as text, with \\n line ends."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON, a list of numbers in one line.

    A number that JSON cannot hold (NaN, infinity) becomes null.
    """
    text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, NUMBERS.sub(lambda found: f"[{' '.join(found[0][1:-1].split())}]", text) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8; a byte order mark is fine.

    Raises:
        ValueError: if the content is not JSON or not UTF-8.
    """
    return json.loads(path.read_text(encoding="utf-8-sig"))


def read_if_whole(path: Path, kind: type[T] = dict) -> T:
    """What a JSON file has; nothing, an empty `kind`, if it is missing, damaged, or of another kind."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return kind()
    return content if isinstance(content, kind) else kind()


def try_lock(stream: IO, *, is_shared: bool = False) -> bool | None:
    """Lock an open file until it is closed; False if another process, or another place of this one, holds it.

    Several may share a lock, for which the file need not be open for writing. The system frees the lock of a process
    that was killed. Always None, for nobody knows, on Windows and on file systems without locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(stream, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


@contextmanager
def locked(path: Path, *, on_wait: Callable[[], None]) -> Iterator[bool]:
    """Hold a lock on `path`, a file that is made for it; calls `on_wait` before waiting for another holder.

    Gives whether nobody else can be in such a block: not where there are no locks.
    """
    with path.open("w", encoding="utf-8") as stream:
        held = try_lock(stream)
        if held is False:
            on_wait()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield held is not None


def shortened(path: Path) -> Path:
    """Relative to the working directory where it lies below, as a person would type it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # somebody has removed it
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path


def common_folder(files: Iterable[Path]) -> Path | None:
    """The lowest folder that all files lie in; None where they are on two drives of Windows."""
    try:
        return Path(os.path.commonpath([file.absolute().parent for file in files]))
    except ValueError:
        return None


def in_bytes(number: float) -> str:
    """`3.1 GB`, `12 MB`, `345 kB`."""
    unit, size = next(((unit, size) for unit, size in (("GB", 1e9), ("MB", 1e6)) if number >= size), ("kB", 1e3))
    return f"{number / size:.{1 if unit == 'GB' else 0}f} {unit}"


def size_limit() -> float:
    """Bytes of the largest file that this process may write (`ulimit -f`)."""
    if resource is None:
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _keep(path: Path, previous: Path) -> None:
    """Give the file a second name: at no moment is there none at `path`."""
    second = _temporary(previous)
    try:
        os.link(path, second)
    except OSError:  # a file system without hard links
        path.replace(previous)
        return
    try:
        second.replace(previous)
    finally:
        second.unlink(missing_ok=True)  # still there where `previous` was the same file already


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


def named(names: str | Sequence[str] | None, *, kind: str, hint: str) -> list[str]:
    """The files or folders that the option `kind` names, one or several.

    Raises:
        InputError: if there is none, or one is empty.
    """
    found = [names] if isinstance(names, str) else list(names or [])
    if not found or not all(found):
        raise InputError(Fault("missing value", kind, f"no {kind} is named", hint))
    return found
