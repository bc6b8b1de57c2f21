"""What went wrong, said in one line with a hint, and the exit codes of the commands."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
MOST_TOLD = 20  # faults of one error
UNKNOWN_KEY = "unknown key"  # what is wrong, by which such faults are known again


class Fault(NamedTuple):
    """One mistake: `error: <what> in <where>: <cause>` and, below it, `hint: <the override to change>`."""

    what: str
    where: str
    cause: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"error: {self.what} in {self.where}: {self.cause}"
        return f"{line}\nhint: {self.hint}" if self.hint else line


class FaultsError(Exception):
    """Carries every fault that was found, not only the first one; its text tells the first 20."""

    def __init__(self, *faults: Fault) -> None:
        assert faults, "an error without a fault says nothing"
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        more = len(self.faults) - MOST_TOLD
        lines = [*map(str, self.faults[:MOST_TOLD]), *([f"… and {more:,} more"] if more > 0 else [])]
        return "\n".join(lines)


@contextmanager
def collected(faults: list[Fault]) -> Iterator[None]:
    """Add the faults of an `InputError` to a list and go on behind the block: so that all are told at once."""
    try:
        yield
    except InputError as error:
        faults += error.faults


class InputError(FaultsError, ValueError):
    """Wrong input (configuration, data, checkpoint, place of output), found before the first step. Exit code 2."""


class TrainingError(FaultsError, RuntimeError):
    """Training cannot go on: the loss is not finite, the memory or the disk is full, … Exit code 1."""


class Stopped(KeyboardInterrupt):
    """The user or the system asked the process to end; what was trained is saved. Exit code 130 or 143.

    Args:
        signal_number: SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal was closed).
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number
