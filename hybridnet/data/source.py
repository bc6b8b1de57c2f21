"""Where a CSV + JSON pair comes from that nobody wrote by hand: made at first use, whole or not at all."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybridnet.data.progress import Track
from hybridnet.errors import Fault, InputError
from hybridnet.files import csv_text, locked, read_json, write_json, write_text

log = logging.getLogger(__name__)

RECORD = "source.json"
REPORT = "report.txt"


class Table(NamedTuple):
    """What a source makes: rows (path, label, split, …) under `columns`, and the class index of each label.

    With `warnings` the source has also written REPORT, which says more of them.
    """

    rows: list[tuple]
    label2id: dict[str, int]
    columns: tuple[str, ...] = ("path", "label", "split")
    warnings: Sequence[str] = ()


class Source:
    """Makes pictures, or finds them.

    Attributes:
        notice: what a user of these pictures must know, told at every use; or "".
    """

    notice = ""

    def state(self) -> dict[str, Any]:
        """What the table depends on, in plain types; when it has changed, the table is made anew."""
        raise NotImplementedError

    def fill(self, folder: Path, *, track: Track) -> Table:
        """Write pictures below `folder`, which is empty, and return their table.

        Paths are relative to `folder`, or absolute for pictures that lie elsewhere.
        """
        raise NotImplementedError


def ensure(source: Source, metadata: Path, label2id: Path, *, track: Track) -> None:
    """Make the pair, unless it is there and its source has not changed. A pair without a record of its source stays.

    When several processes need it at once, one makes it and the others wait.

    Raises:
        InputError: if the folder cannot be written, or holds files of somebody else.
    """
    folder = metadata.parent
    if label2id.parent != folder:
        return  # two files of the user's; if they are missing, reading them says so
    if source.notice:
        log.warning(source.notice)
    state = json.loads(json.dumps(source.state()))
    if _is_current(metadata, label2id, state):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"another process is making {metadata}; waiting for it"
        with locked(folder.parent / f".{folder.name}.lock", on_wait=lambda: log.info(waiting)):
            if not _is_current(metadata, label2id, state):
                _make(source, metadata, label2id, state, track=track)
    except OSError as error:
        cause = f"the pictures' table cannot be written there ({error.strerror or error})"
        hint = "choose another folder with data.metadata=<folder>/metadata.csv data.label2id=<folder>/label2id.json"
        raise InputError(Fault("unusable folder", str(folder), cause, hint)) from error


def _is_current(metadata: Path, label2id: Path, state: dict[str, Any]) -> bool:
    if not (metadata.exists() and label2id.exists()):
        return False
    try:
        return read_json(metadata.parent / RECORD) == state
    except FileNotFoundError:
        return True
    except ValueError:
        return False


def _make(source: Source, metadata: Path, label2id: Path, state: dict[str, Any], *, track: Track) -> None:
    folder = metadata.parent
    log.info(f"making {metadata}")
    for unfinished in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        table = source.fill(unfinished, track=track)
        write_json(unfinished / label2id.name, table.label2id)
        write_text(unfinished / metadata.name, csv_text([table.columns, *table.rows]))
        write_json(unfinished / RECORD, state)
        _move(unfinished, folder, last=[label2id.name, metadata.name, RECORD])
        for line in table.warnings:
            log.warning(f"{line}; see {folder / REPORT}")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _move(unfinished: Path, folder: Path, *, last: list[str]) -> None:
    """Into a new folder at once; into one that is there piece by piece, the record of completeness last."""
    if not folder.exists():
        unfinished.rename(folder)
        return
    pieces = sorted(unfinished.iterdir(), key=lambda piece: last.index(piece.name) if piece.name in last else -1)
    taken = [piece.name for piece in pieces if (folder / piece.name).exists()]
    if taken and not (folder / RECORD).exists():
        raise FileExistsError(f"{', '.join(taken)} there belongs to somebody else")
    write_json(folder / RECORD, "unfinished")
    for piece in pieces:
        if (folder / piece.name).is_dir():
            shutil.rmtree(folder / piece.name)
        piece.replace(folder / piece.name)
