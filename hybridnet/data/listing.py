"""Which files a person means: a file, a folder, a pattern, or several of these."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hybridnet.errors import Fault, InputError

EXAMPLES = "name a file, a folder or a pattern: images=leaf.jpg, images=photos, images='photos/**/*.jpg'"


def list_pictures(images: str | Sequence[str] | None) -> list[Path]:
    """The files that may be pictures: nothing is opened, so what is none of them is found when it is read.

    Args:
        images: one name, or several. A file; a folder, which is looked into at any depth; or a pattern with `*`, `?`,
            `[…]` or `**`, whose folders are looked into too. A name that exists is never taken as a pattern. Hidden
            files and folders are left out where they are not named.

    Returns:
        The files of each name in turn, sorted within it, each file once; and the folders that cannot be looked into,
        of which reading says so.

    Raises:
        InputError: if nothing is named, or a name leads to no file; tells all such names.
    """
    names = [images] if isinstance(images, str) else list(images or [])
    if not names or not all(names):
        raise InputError(Fault("missing value", "images", "no picture is named", EXAMPLES))
    found: dict[str, Path] = {}
    faults = []
    for name in names:
        files = _files_of(name)
        if not files:
            faults.append(Fault("missing pictures", f"images={name}", _cause(name), EXAMPLES))
        for file in files:
            found.setdefault(os.path.abspath(file), file)  # noqa: PTH100 - `resolve` would follow links
    if faults:
        raise InputError(*faults)
    return list(found.values())


def files_below(folder: Path, *, refused: Callable[[OSError], None]) -> Iterator[Path]:
    """All files below a folder, also behind links to folders; a link back to a folder above is not followed again.

    Args:
        folder: that is looked into.
        refused: called with the error, whose `filename` it is, for every folder that cannot be looked into.
    """
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refused):
        above = [os.path.realpath(path) for path in (parent, *Path(parent).parents)]
        folders[:] = sorted(f for f in folders if os.path.realpath(Path(parent) / f) not in above)
        yield from (Path(parent) / name for name in names)


def _files_of(name: str) -> list[Path]:
    if os.path.lexists(name):
        return _with_content(Path(name))
    matches = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute patterns
    return sorted({file for match in matches for file in _with_content(Path(match))})


def _with_content(path: Path) -> list[Path]:
    """The file itself, or the files below the folder and the folders that cannot be looked into."""
    if not path.is_dir():
        return [path]
    refused: list[OSError] = []
    found = [*files_below(path, refused=refused.append), *(Path(error.filename) for error in refused)]
    return sorted(file for file in found if not _is_hidden(file.relative_to(path)))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _cause(name: str) -> str:
    if Path(name).is_dir():
        return "there is no file in the folder"
    return "no file matches the pattern" if glob.has_magic(name) else "no such file or folder"
