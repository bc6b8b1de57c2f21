from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import rich
from rich.console import Console
from rich.table import Table

from hybridnet import console as console_module
from hybridnet.console import ConsoleHandler, Display, duration, print_table, show, track, wide_console

ROW = {
    "epoch": 1,
    "train_loss": 0.5,
    "train_acc": 0.25,
    "valid_loss": 0.75,
    "valid_acc": 0.125,
    "valid_macro_f1": 0.1,
    "lr": 1e-4,
    "head_lr": 1e-3,
}


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A console that keeps what is printed; not a terminal unless a test says so."""
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    handler = ConsoleHandler()
    logger = logging.getLogger("hybridnet.console")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield console
    logger.removeHandler(handler)


def _text(console: Console) -> str:
    return console.file.getvalue()


def test_in_a_file_an_epoch_is_one_line(console: Console) -> None:
    with Display(epochs=20, steps_per_epoch=4) as display:
        display.step(1, 4, 0.5, 0.25, 100.0)
        display.epoch(ROW, is_best=True)
    (line,) = _text(console).splitlines()
    assert line.startswith("epoch  1/20  train loss 0.5000 acc 0.2500  valid loss 0.7500 acc 0.1250 F1 0.1000")
    assert line.endswith("best")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands still until a test sets it."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(console_module, "time", clock)
    return clock


def test_in_a_file_a_long_epoch_says_every_ten_seconds_where_it_is(console: Console, clock: SimpleNamespace) -> None:
    display = Display(epochs=2, steps_per_epoch=10)
    lines = []
    for seconds, step in ((4, 1), (9.9, 2), (10, 3), (14, 4), (19.9, 5), (20, 6), (29, 7), (31, 8), (60, 10)):
        clock.now = 1000.0 + seconds
        display.step(1, step, 0.5, 0.25, 100.4)
        lines.append(len(_text(console).splitlines()))
    assert lines == [0, 0, 1, 1, 1, 2, 2, 3, 3]  # the last one has a line of its own
    assert _text(console).splitlines()[0] == ("epoch 1/2  step 3/10  loss 0.5000  acc 0.2500  100 images/s  0:51 left")
    display.epoch(ROW, is_best=False)
    clock.now += 9.9
    display.step(2, 1, 0.5, 0.25, 100.0)
    assert len(_text(console).splitlines()) == 4


def _time_left(display: Display, console: Console, clock: SimpleNamespace, epoch: int, step: int) -> str:
    display.last_line = clock.now - 11
    display.step(epoch, step, 0.5, 0.25, 100.0)
    return _text(console).splitlines()[-1].partition("images/s")[2].strip()


def test_the_time_that_is_left_follows_from_the_steps_since_the_first_line(
    console: Console, clock: SimpleNamespace
) -> None:
    """What came before the first line, such as starting processes, happens once."""
    display = Display(epochs=2, steps_per_epoch=10)
    clock.now += 1000
    assert _time_left(display, console, clock, 1, 2) == ""
    clock.now += 30
    assert _time_left(display, console, clock, 1, 5) == "2:30 left"
    clock.now += 5
    assert _time_left(display, console, clock, 2, 5) == "0:13 left"


def test_the_time_that_is_left_of_a_run_that_is_continued(console: Console, clock: SimpleNamespace) -> None:
    """Its first two epochs took this process no time."""
    display = Display(epochs=4, steps_per_epoch=10)
    clock.now += 5
    assert _time_left(display, console, clock, 3, 1) == ""
    assert _time_left(display, console, clock, 3, 1) == ""
    clock.now += 60
    assert _time_left(display, console, clock, 3, 4) == "5:20 left"


def test_the_time_of_an_epoch_is_that_since_the_start(console: Console, clock: SimpleNamespace) -> None:
    display = Display(epochs=120, steps_per_epoch=10)
    clock.now += 754
    display.epoch(ROW, is_best=False)
    assert _text(console) == (
        "epoch   1/120  train loss 0.5000 acc 0.2500  valid loss 0.7500 acc 0.1250 F1 0.1000"
        "  lr 1.00e-04 / 1.00e-03  12:34\n"
    )


def test_on_a_terminal_the_line_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    with Display(epochs=2, steps_per_epoch=10) as display:
        display.step(1, 5, 0.5, 0.25, 100.0)
        display.live.refresh()
    assert "step 5/10" in _text(console)


def test_a_line_with_brackets_is_printed_as_it_is(console: Console) -> None:
    logging.getLogger("hybridnet.console").info("weights [bold]x[/bold]: (64, 3, 7, 7)")
    assert _text(console) == "weights [bold]x[/bold]: (64, 3, 7, 7)\n"


def test_a_traceback_is_not_printed(console: Console) -> None:
    logging.getLogger("hybridnet.console").error("failed", exc_info=ValueError("x"))
    assert _text(console) == "failed\n"


def test_the_table_has_names_and_values(console: Console) -> None:
    print_table("Result", {"best epoch": "3 of 10", "run folder": "outputs/x"})
    text = _text(console)
    assert "Result" in text and "best epoch" in text and "3 of 10" in text and "outputs/x" in text


def test_a_table_has_texts_as_they_stand(console: Console) -> None:
    print_table("[bold]title", {"[red]name": "runs/x[/b]y [x]"})
    assert all(part in _text(console) for part in ("[bold]title", "[red]name", "runs/x[/b]y [x]"))


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (5, "0:05"), (754, "12:34"), (3723, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_texts_are_shown_as_they_are_and_tables_as_wide_as_the_console() -> None:
    console = Console(file=io.StringIO(), width=20)
    path = "/a/folder/[bold]with/a/long/name"
    table = Table("a heading", "another heading")
    show(path, table, "1", console=console)
    first, *lines, last = _text(console).splitlines()
    assert (first, last) == (path, "1")
    assert lines and all(len(line) <= 20 for line in lines)


def test_a_file_is_wide_enough_for_tables(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wide_console().width == 120
    monkeypatch.setattr(Console, "is_terminal", True)
    assert wide_console() is console


class Closed(io.StringIO):
    """A terminal whose window was closed."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_terminal_that_is_closed_ends_no_training(console: Console, is_terminal: bool) -> None:
    console._force_terminal = is_terminal
    with Display(epochs=1, steps_per_epoch=1) as display:
        display.step(1, 1, 0.5, 0.25, 100.0)
        console.file = Closed()
        display.epoch(ROW, is_best=True)
    print_table("Result", {"best epoch": "1 of 1"})


def test_a_terminal_that_is_closed_ends_no_work(console: Console) -> None:
    console._force_terminal = True
    items = iter(track(iter("ab"), "Reading", 2))
    first = next(items)
    console.file = Closed()
    assert [first, *items] == ["a", "b"]


def test_work_whose_progress_is_shown_may_still_fail(console: Console) -> None:
    console._force_terminal = True

    def work() -> None:
        yield 1
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        list(track(work(), "Reading", 2))


def test_a_pipe_that_nobody_reads_ends_no_training() -> None:
    """In a process of its own, for rich redirects its output."""
    script = "from hybridnet.console import show\nfor _ in range(3):\n    show('a' * 100_000)\nprint('lost')"
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
