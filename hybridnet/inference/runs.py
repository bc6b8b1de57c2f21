"""What a run folder says of its training, wherever the folder lies now."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hybridnet import config
from hybridnet.data.store import user_cache
from hybridnet.errors import Fault, InputError
from hybridnet.files import named, read_if_whole

TABLE = "data.metadata"
PICTURES = "pictures.csv"  # split and content's digest of every picture that the training has used


def folders_of(run: str | Sequence[str] | None) -> list[Path]:
    """The folders that were named, one or several.

    Raises:
        InputError: if there is none, or one does not exist.
    """
    hint = "run=outputs/runs/<run folder>, which python train.py has written"
    names = named(run, kind="run", hint=hint)
    for name in names:
        if not Path(name).exists():
            raise InputError(Fault("missing run", f"run={name}", "no such folder", hint))
    return [Path(name) for name in names]


def name_of(run: Path) -> str:
    """That of its folder, also of a best_model.pt in it."""
    path = run.resolve()
    return path.name if path.is_dir() else path.parent.name


def digests_of(folder: Path, *splits: str) -> frozenset[str] | None:
    """Of the contents of the pictures that a run has used.

    Args:
        folder: of the run.
        splits: `train`, `valid`, or `backbone`: what the run was trained with from which its first weights are.

    Returns:
        None where it is not known, as of runs of former versions.
    """
    try:
        with (folder / PICTURES).open(encoding="utf-8", newline="") as stream:
            return frozenset(row["digest"] for row in csv.DictReader(stream) if row["split"] in splits)
    except (OSError, ValueError, KeyError):
        return None


class RunSettings:
    """The settings that a run was trained with.

    Args:
        run: its folder; for a best_model.pt by itself nothing is known.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run if run.is_dir() else run.parent
        self._cfg = config.saved(self.folder)

    def get(self, key: str) -> Any:
        """The value at a dotted key; None where it is not known."""
        return None if self._cfg is None else config.select(self._cfg, key)

    def file(self, key: str) -> Path | None:
        """A file that a setting names, relative to the training's working directory or this one; None if it is gone.

        Of several tables that were made of one folder of pictures it is the one that the training has used.
        """
        name = self.get(key)
        if not isinstance(name, str):
            return None
        places = [Path(self._working_directory(), name), Path(name)]
        if key == TABLE and self.edition:
            places = [*(place.parent / self.edition for place in places), *places]
        return next((place for place in places if place.is_file()), None)

    @property
    def edition(self) -> str | None:
        """Of the table that the training has used, see `MetadataImages.edition`; None where that is not known."""
        edition = read_if_whole(self.folder / "environment.json").get("edition")
        return edition if isinstance(edition, str) else None

    def metrics(self) -> dict[str, Any]:
        """What the training has measured; empty where that is not known."""
        return read_if_whole(self.folder / "metrics.json")

    def fingerprint(self, split: str) -> str | None:
        """Of the rows of a split that the training has used; None where that is not known."""
        data = read_if_whole(self.folder / "environment.json").get("data")
        return data.get(split) if isinstance(data, dict) else None

    def digests(self, *splits: str) -> frozenset[str] | None:
        """Of the contents of the pictures of these splits that the training has used; None where that is not known."""
        return digests_of(self.folder, *splits)

    def cache_dir(self) -> Path:
        """Where the training has kept what it knows about its files."""
        folder = self.get("data.cache_dir")
        return Path(folder).expanduser() if folder else user_cache()

    def lines_left_out(self, split: str) -> set[int]:
        """Lines of its table that the training has not used, such as training pictures that are copies."""
        try:
            with (self.folder / "left_out.csv").open(encoding="utf-8", newline="") as stream:
                return {int(row["line"]) for row in csv.DictReader(stream) if row["split"] == split}
        except (OSError, ValueError, KeyError):
            return set()

    def _working_directory(self) -> str:
        return str(read_if_whole(self.folder / "environment.json").get("working_directory", ""))
