"""A folder of class folders, divided at first use as `python -m hybridnet.prepare` does."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, Literal

from hybridnet.data.division import Division
from hybridnet.data.pictures import list_folder
from hybridnet.data.preparation import divide_pictures
from hybridnet.data.progress import Track
from hybridnet.data.source import REPORT, Source, Table
from hybridnet.errors import Fault, InputError
from hybridnet.files import write_text
from hybridnet.settings import Natural, Rate, Seed, checked

log = logging.getLogger(__name__)


class Folder(Source):
    """Pictures below one folder for each class. New ones are added to the division of before, in a table of their own.

    Args:
        root: the folder of class folders.
        valid, test, folds, groups, copies, on_duplicates, seed: see `Division`.

    Raises:
        InputError: if a split would be empty.
    """

    content = "files"

    @checked
    def __init__(
        self,
        *,
        root: str,
        valid: Rate,
        test: Rate,
        folds: Natural,
        groups: str | None,
        copies: Literal["similar", "same"],
        on_duplicates: Literal["keep", "drop"],
        seed: Seed,
    ) -> None:
        self.root = Path(root)
        self.name = self.root.resolve().name or "pictures"
        self.division = Division(
            valid=valid, test=test, folds=folds, groups=groups, copies=copies, on_duplicates=on_duplicates, seed=seed
        )
        self.division.check()

    def require_files(self) -> None:
        if not self.root.is_dir():
            hint = "data.root=<folder of class folders>"
            raise InputError(Fault("missing folder", f"data.root={self.root}", "no such folder", hint))

    def state(self) -> dict[str, Any]:
        self.require_files()
        content = hashlib.blake2b(digest_size=16)
        for file, name, _, split in list_folder(self.root, own=())[0]:
            try:
                status = file.stat()
                size, changed = status.st_size, status.st_mtime_ns
            except OSError:  # a link to nowhere, which the report lists as no such file
                size = changed = -1
            # With the split: a table in which root's own splits were classes is made anew.
            content.update(f"{split}{name}\0{size}\0{changed}\n".encode())
        root = str(self.root.resolve())
        return {"source": "folder", "root": root, **self.division._asdict(), "files": content.hexdigest()}

    def fill(self, folder: Path, *, track: Track) -> Table:
        return self._divided(folder, None, track=track)

    def extend(self, earlier: Path, folder: Path, *, track: Track) -> Table:
        if any(item.split for item in list_folder(self.root, own=())[0]):  # root's own division is kept
            return self.fill(folder, track=track)
        try:
            return self._divided(folder, earlier, track=track)
        except InputError as error:
            log.warning(f"{earlier} cannot be extended, so all pictures are divided anew ({error.faults[0].cause})")
            return self.fill(folder, track=track)

    def _divided(self, folder: Path, earlier: Path | None, *, track: Track) -> Table:
        table, report = divide_pictures(
            self.root.resolve(), self.division, folder=folder, own=(), track=track, extend=earlier
        )
        write_text(folder / REPORT, report.text(shortened=False))
        return table._replace(warnings=report.warnings())
