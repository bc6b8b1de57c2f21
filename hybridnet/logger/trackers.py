"""All trackers of one run, none of which can end it, or keep another one from hearing of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridnet.logger import Row, Status, Tracker

log = logging.getLogger(__name__)

LONGEST_CAUSE = 200  # in characters

# Not of the run but of one start of it; an address of a tracker may hold a password.
NOT_TOLD = ("logger", "resume", "resume_allow", "verify_resume")


class Trackers:
    """Tells several trackers how a run goes. One that raises is warned about once and hears no more.

    Args:
        members: by the name that they are chosen with.
        folder: of the run, whose name is the run's.
        group: of runs that belong together.
        settings: of the run by dotted key, in plain types.
    """

    def __init__(
        self, members: Mapping[str, Tracker], *, folder: Path, group: str | None, settings: Mapping[str, Any]
    ) -> None:
        self.folder = folder
        self.group = group
        self.settings = {key: value for key, value in settings.items() if _is_told(key)}
        self._chosen = members
        self._members: dict[str, Tracker] = {}  # those that have begun and not failed

    def begin(self, history: Sequence[Row] | None) -> None:
        """The run begins; or, with the history that it has, goes on."""
        about = {"name": self.folder.name, "group": self.group, "folder": self.folder, "settings": self.settings}
        for name, member in self._chosen.items():
            if _succeeds(name, lambda member=member: member.begin(**about, history=history)):
                self._members[name] = member

    def epoch(self, row: Row) -> None:
        """An epoch is finished and saved."""
        self._tell(lambda member: member.epoch(row))

    def end(self, status: Status, metrics: Mapping[str, Any]) -> None:
        """The run has ended.

        Args:
            status: how.
            metrics: what metrics.json has, or nothing.
        """
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        self._tell(lambda member: member.end(status, numbers))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for name, member in list(self._members.items()):
            if not _succeeds(name, lambda member=member: what(member)):
                del self._members[name]


def _succeeds(name: str, call: Callable[[], None]) -> bool:
    try:
        call()
    except Exception as error:  # a server that is down, a full disk, a package that changed
        cause = str(error).strip().partition("\n")[0][:LONGEST_CAUSE]
        log.warning(f"logger={name} is left out from here on: {type(error).__name__}: {cause}")
        return False
    return True


NO_TRACKERS = Trackers({}, folder=Path(), group=None, settings={})


def _is_told(key: str) -> bool:
    first, _, rest = key.partition(".")
    return first not in NOT_TOLD and not rest.endswith(("_partial_", "_convert_", "_recursive_"))
