"""Experiment trackers: told how a run goes, beside the files that it writes anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from hybridnet import packages
from hybridnet.errors import Fault, InputError

Row = Mapping[str, float]  # of the history
Status = Literal["complete", "pruned", "failed", "stopped"]


class Tracker(Protocol):
    """What a run tells a tracker: `begin`, `epoch` for each one, `end`. An exception of its never ends the run.

    Its constructor only takes settings; the package behind it, which may take seconds, is imported by `begin`.
    """

    def begin(
        self, *, name: str, group: str | None, folder: Path, settings: Mapping[str, Any], history: Sequence[Row] | None
    ) -> None:
        """The run begins, or goes on.

        Args:
            name: of the run.
            group: of runs that belong together: the sweep's name.
            folder: of the run.
            settings: by dotted key, in plain types.
            history: of a run that is continued the epochs that it has; the tracker goes on with the same run. None of a
                new one.
        """

    def epoch(self, row: Row) -> None:
        """An epoch is finished and saved."""

    def end(self, status: Status, metrics: Mapping[str, float]) -> None:
        """The run has ended.

        Args:
            status: how.
            metrics: of the best model, where there are any.
        """


def require_package(name: str) -> None:
    """Refuse a tracker whose package is not installed, without importing it.

    Raises:
        InputError: if it is not.
    """
    if packages.missing(name):
        hint = 'pip install -e ".[tracking]"'
        raise InputError(Fault("missing package", f"logger={name}", f"{name} is not installed", hint))
