"""Where a CSV + JSON pair comes from that nobody wrote by hand: made at first use, whole or not at all."""

from __future__ import annotations

import functools
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybridnet.data import editions
from hybridnet.data.progress import Track
from hybridnet.errors import Fault, InputError
from hybridnet.files import csv_text, locked, read_json, write_json, write_text

log = logging.getLogger(__name__)

RECORD = editions.RECORD
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
        content: the key of `state` that may change from one training to the next, such as which pictures there are: a
            table that was made stays for the runs that were trained with it, and further ones, made by `extend` where
            only this key is another, lie in folders below. "" where the table is made anew in its place.
        name: of these folders, without their number.
    """

    notice = ""
    content = ""
    name = "table"

    def require_files(self) -> None:
        """Raises InputError if what the table is made from is not there; reads nothing."""

    def state(self) -> dict[str, Any]:
        """What the table depends on, in plain types; when it has changed, the table is made anew."""
        raise NotImplementedError

    def fill(self, folder: Path, *, track: Track) -> Table:
        """Write pictures below `folder`, which is empty, and return their table.

        Paths are relative to `folder`, or absolute for pictures that lie elsewhere.
        """
        raise NotImplementedError

    def extend(self, earlier: Path, folder: Path, *, track: Track) -> Table:
        """`fill`, where a table was made before whose state differs in `content` alone."""
        return self.fill(folder, track=track)


def ensure(
    source: Source, metadata: Path, label2id: Path, *, track: Track, edition: str | None = None
) -> tuple[Path, Path]:
    """Make the pair, unless it is there and its source has not changed. A pair without a record of its source stays.

    When several processes need it at once, one makes it and the others wait.

    Args:
        source: of the pictures.
        metadata, label2id: where the pair is, or the first of several, see `Source.content`.
        track: shows the progress.
        edition: which of several tables a run has that is continued, by its path from the first one's folder, or "" for
            the first: it stays the run's, however the source changed. None for the current one.

    Returns:
        Where the pair is.

    Raises:
        InputError: if the folder cannot be written, or holds files of somebody else.
    """
    folder = metadata.parent
    if not is_made(metadata, label2id):
        return metadata, label2id  # if they are missing, reading them says so
    if source.notice:
        log.warning(source.notice)
    pairs = _Pairs(source, metadata, label2id)
    state = json.loads(json.dumps(source.state()))
    current = pairs.find(state)
    if edition is not None and (kept := pairs.named(edition)):
        if kept != current:
            log.info(f"the run goes on with the table that it began with: {kept[0]}")
        return kept
    if current:
        return current
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"another process is making {metadata}; waiting for it"
        with locked(folder.parent / f".{folder.name}.lock", on_wait=lambda: log.info(waiting)):
            return pairs.find(state) or pairs.make(state, track=track)
    except OSError as error:
        cause = f"the pictures' table cannot be written there ({error.strerror or error})"
        hint = "choose another folder with data.metadata=<folder>/metadata.csv data.label2id=<folder>/label2id.json"
        raise InputError(Fault("unusable folder", str(folder), cause, hint)) from error


def is_made(metadata: Path, label2id: Path) -> bool:
    """Whether a source makes the pair; files in two folders are the user's own."""
    return metadata.parent == label2id.parent


class _Pairs:
    """The pairs of a source: one, or those that were made one after the other."""

    def __init__(self, source: Source, metadata: Path, label2id: Path) -> None:
        self.source = source
        self.metadata, self.label2id = metadata, label2id

    def at(self, metadata: Path) -> tuple[Path, Path]:
        """The pair of a table."""
        return metadata, metadata.with_name(self.label2id.name)

    def named(self, edition: str) -> tuple[Path, Path] | None:
        """The pair of an edition, where tables stay and it is there."""
        table = self.metadata.parent / (edition or self.metadata.name)
        return self.at(table) if self.source.content and table.is_file() else None

    def find(self, state: dict[str, Any]) -> tuple[Path, Path] | None:
        """The latest pair of this state."""
        pairs = map(self.at, reversed(self._tables()))
        return next((pair for pair in pairs if _is_current(*pair, state)), None)

    def make(self, state: dict[str, Any], *, track: Track) -> tuple[Path, Path]:
        """A new pair, or the latest of the same settings, if its table needs no change."""
        tables, content = self._tables(), self.source.content
        if not content or not all(file.exists() for file in self.at(self.metadata)):
            return _make(self.source, self.at(self.metadata), state, earlier=None, track=track)
        alike = {key: value for key, value in state.items() if key != content}
        records = {table: editions.record_of(table) or {} for table in reversed(tables)}
        same = (table for table, record in records.items() if {**record, content: None} == {**alike, content: None})
        place = editions.next_place(self.metadata, name=self.source.name)
        return _make(self.source, self.at(place), state, earlier=next(same, None), track=track)

    def _tables(self) -> list[Path]:
        return editions.tables(self.metadata) if self.source.content else [self.metadata]


def _is_current(metadata: Path, label2id: Path, state: dict[str, Any]) -> bool:
    if not (metadata.exists() and label2id.exists()):
        return False
    try:
        return read_json(metadata.parent / RECORD) == state
    except FileNotFoundError:
        return True
    except ValueError:
        return False


def _make(
    source: Source, pair: tuple[Path, Path], state: dict[str, Any], *, earlier: Path | None, track: Track
) -> tuple[Path, Path]:
    metadata, label2id = pair
    folder = metadata.parent
    log.info(f"making {metadata}" if earlier is None else f"making another table beside {earlier}")
    for unfinished in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        fill = source.fill if earlier is None else functools.partial(source.extend, earlier)
        table = fill(unfinished, track=track)
        write_json(unfinished / label2id.name, table.label2id)
        write_text(unfinished / metadata.name, csv_text([table.columns, *table.rows]))
        write_json(unfinished / RECORD, state)
        last = [label2id.name, metadata.name, RECORD]
        if earlier is not None:
            changed = editions.change(earlier, unfinished / metadata.name)
            if all((unfinished / name).read_bytes() == (earlier.parent / name).read_bytes() for name in last[:2]):
                folder = earlier.parent  # the pictures are others, or other files lie beside them: it says the same
            log.info(f"{changed}: {folder / metadata.name}")
        _move(unfinished, folder, last=last)
        for line in table.warnings:
            log.warning(f"{line}; see {folder / REPORT}")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder / metadata.name, folder / label2id.name


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
