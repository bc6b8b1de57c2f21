"""Ctrl-C, a scheduler's SIGTERM, a closed terminal: at once where nothing is lost, at the next step while training."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from hybridnet.errors import Stopped

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Have a function called for each of `SIGNALS`; returns the handlers that were there before.

    A hang-up that was to be ignored when the process began (`nohup`) still is.
    """
    hangup = getattr(signal, "SIGHUP", None)
    is_ignored = hangup is not None and signal.getsignal(hangup) == signal.SIG_IGN
    return {number: signal.signal(number, handler) for number in SIGNALS if not (number == hangup and is_ignored)}


def end_at_once() -> None:
    """From here on SIGINT, SIGTERM and SIGHUP end the process with code 130, 143 or 129: while nothing has begun yet.

    As an exception they could surface in the middle of an import, which some packages report as a broken installation.
    """
    handle(_exit)


def _exit(number: int, frame: FrameType | None) -> None:
    end_process(128 + number)


def end_process(code: int = 0) -> NoReturn:
    """End here, without what Python and C++ libraries do at their end.

    Of processes that have trained together one has been seen to abort there, on a thread of a library that was still
    running ("terminate called without an active exception"); `torchrun` then ends the others, in the middle of writing
    their results.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(RuntimeError, OSError):  # the interrupted code may be printing
            stream.flush()
    os._exit(code)


def end_with_children(last_words: str) -> None:
    """As `end_at_once`, where other processes work for this one: they get a SIGTERM too, and save what they have.

    A terminal's Ctrl-C has reached them already, one that was sent to this process has not: to them only the first
    signal counts (`Interruption(of_several=True)`). On Linux only.
    """

    def end(number: int, frame: FrameType | None) -> None:
        _say(last_words)
        for child in _children(os.getpid()):
            with suppress(OSError):  # has just ended
                os.kill(child, signal.SIGTERM)
        _exit(number, frame)

    handle(end)


def _say(text: str) -> None:
    """Not by logging or printing: the code that was interrupted may be in the middle of that."""
    if sys.__stderr__ is not None:  # else one of the run's files has its number
        with suppress(OSError):  # the terminal was closed
            os.write(2, f"\n{text}\n".encode())


def _children(process: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, parent = stat.read_text().rpartition(") ")[2].split()[:2]
            if int(parent) == process:
                found.append(int(stat.parent.name))
    return found


class Interruption:
    """Context manager in which `SIGNALS` raise `Stopped`, or are kept for later within `deferred`.

    The handlers that were there before come back at the end. Only the main thread of a process gets signals: in
    another one this does nothing.

    Args:
        of_several: whether this is one of several processes, of `torchrun` or of a sweep. What has started them hands
            on a signal that they may have got themselves, so only the first one counts, also behind the end: the
            process still has to write down that it was stopped.
    """

    def __init__(self, *, of_several: bool = False) -> None:
        self.of_several = of_several
        self._is_deferred = False
        self._pending: Stopped | None = None
        self._before: dict[int, Any] = {}
        self._watched: threading.Thread | None = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = handle(self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if not (self.of_several and self._pending):
            for number, handler in self._before.items():
                signal.signal(number, handler)
        if self._watched is not None:
            signal.set_wakeup_fd(-1)

    def pending(self) -> Stopped | None:
        """What was asked for since `deferred` began."""
        return self._pending

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Keep the first signal until the end of the block; a second one still ends it at once."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        if self._pending:
            raise self._pending

    def _handle(self, number: int, frame: FrameType | None) -> None:
        is_first = self._pending is None
        if self.of_several and not is_first:
            return
        self._pending = Stopped(number)
        if not self._is_deferred or not is_first:
            raise self._pending
        hint = "" if self.of_several else "; a second signal ends the run at once"
        _say(f"stopping after this step, once it is saved{hint}")

    def end_if_blocked(self, seconds: float) -> None:
        """From here on a signal ends the process if no Python code has run so many seconds after it.

        `torchrun` sends one when a process has ended. Another one that waits for it on a GPU would wait for ever, and
        Python's handlers wait for the end of that.
        """
        noticed, notice = os.pipe()
        os.set_blocking(notice, False)
        signal.set_wakeup_fd(notice)  # written to at once, whatever the main thread does

        def watch() -> None:
            while (number := os.read(noticed, 1)[0]) not in SIGNALS:  # one that another package handles
                pass
            time.sleep(seconds)
            if self._pending is None:
                os._exit(128 + number)

        self._watched = threading.Thread(target=watch, daemon=True)
        self._watched.start()
