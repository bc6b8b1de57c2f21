"""What a user did wrong, said in one line with a hint, and the exit codes of the commands."""

from __future__ import annotations

from typing import NamedTuple

EXIT_COMPLETE = 0
EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_INTERRUPTED = 130


class Fault(NamedTuple):
    """One mistake: `error: <what> in <where>: <cause>` and, below it, `hint: <the override to change>`."""

    what: str
    where: str
    cause: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"error: {self.what} in {self.where}: {self.cause}"
        return f"{line}\nhint: {self.hint}" if self.hint else line


class InputError(ValueError):
    """Wrong input (configuration, data, checkpoint, place of output), found before the first step.

    Carries every fault that was found, not only the first one. The commands print them and end with exit code 2.
    """

    def __init__(self, *faults: Fault) -> None:
        assert faults, "an InputError without a fault says nothing"
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class TrainingError(RuntimeError):
    """Training cannot go on, for instance because the loss is not finite. Exit code 1."""
