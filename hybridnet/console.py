"""What a person sees while training: lines, a live bar on a terminal, and a table at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import rich
from rich import progress
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

log = logging.getLogger(__name__)

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0  # when the output is a file
WIDTH_OF_FILES = 120  # of tables


class ConsoleHandler(logging.Handler):
    """Prints log messages above the live bar. Tracebacks go to the log file only.

    Takes and ignores what Hydra's default handler takes, because Hydra merges its settings into ours.
    """

    def __init__(self, stream: object = None) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        show(record.getMessage())


def show(*parts: str | Table, console: Console | None = None) -> None:
    """Print tables, and texts as they are: a path is not broken into lines, and brackets are no markup."""
    console = console or rich.get_console()
    with _even_unread(console):
        for part in parts:
            as_it_is = {"soft_wrap": True, "highlight": False, "markup": False} if isinstance(part, str) else {}
            console.print(part, **as_it_is)


@contextmanager
def _even_unread(console: Console) -> Iterator[None]:
    """What is said behind a terminal or a pipe that was closed is lost, and nothing else: a training goes on."""
    try:
        yield
    except (OSError, SystemExit):  # of a pipe rich makes the latter
        console.quiet = True


def wide_console() -> Console:
    """The terminal; else one that takes tables of many columns, whatever width is assumed of a file."""
    console = rich.get_console()
    return console if console.is_terminal else Console(width=WIDTH_OF_FILES)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """The items, with a bar on a terminal that shows how many there were."""
    console = rich.get_console()
    if not console.is_terminal:
        yield from items
        return
    bar = progress.Progress(console=console, transient=True)
    task = bar.add_task(description, total=total)
    with _even_unread(console):
        bar.start()
    try:
        for item in items:
            yield item
            bar.advance(task)
    finally:
        with _even_unread(console):
            bar.stop()


class Display:
    """Shows where the training is: a live line on a terminal, a line every ten seconds and every epoch in a file.

    Args:
        epochs: of the whole training.
        steps_per_epoch: batches of one epoch.
    """

    def __init__(self, *, epochs: int, steps_per_epoch: int) -> None:
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.started = time.monotonic()
        self.last_line = self.started
        self.first_step: tuple[float, float] | None = None  # its time, and the part of the training that was done then
        self.console = rich.get_console()
        self.live = Live(console=self.console, transient=True, refresh_per_second=4)
        self.is_terminal = self.console.is_terminal

    def __enter__(self) -> Display:
        if self.is_terminal:
            with _even_unread(self.console):
                self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with _even_unread(self.console):
            self.live.stop()

    def step(self, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Show the epoch's means after `step` of its steps."""
        done = (epoch - 1 + step / self.steps_per_epoch) / self.epochs
        line = (
            f"epoch {epoch}/{self.epochs}  step {step}/{self.steps_per_epoch}  loss {loss:.4f}  acc {accuracy:.4f}"
            f"  {images_per_second:.0f} images/s{self._time_left(done)}"
        )
        if self.is_terminal:
            grid = Table.grid(padding=(0, 1))
            grid.add_row(ProgressBar(total=1.0, completed=done, width=24), line)
            self.live.update(grid)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES and step < self.steps_per_epoch:
            self.last_line = time.monotonic()
            log.info(line)

    def _time_left(self, done: float) -> str:
        """From what was done since the first call: a run that is continued did not begin with this process."""
        now = time.monotonic()
        self.first_step = self.first_step or (now, done)
        first_time, first_done = self.first_step
        if done <= first_done:
            return ""
        return f"  {duration((now - first_time) * (1 - done) / (done - first_done))} left"

    def epoch(self, row: Mapping[str, float], *, is_best: bool) -> None:
        """Print the line of a finished epoch."""
        self.last_line = time.monotonic()
        log.info(
            f"epoch {row['epoch']:>{len(str(self.epochs))}}/{self.epochs}"
            f"  train loss {row['train_loss']:.4f} acc {row['train_acc']:.4f}"
            f"  valid loss {row['valid_loss']:.4f} acc {row['valid_acc']:.4f} F1 {row['valid_macro_f1']:.4f}"
            f"  lr {row['lr']:.2e} / {row['head_lr']:.2e}  {duration(time.monotonic() - self.started)}"
            f"{'  best' if is_best else ''}"
        )


def print_table(title: str, rows: Mapping[str, str]) -> None:
    """Print names and values below a title."""
    table = Table(title=Text(title), title_justify="left", show_header=False, box=rich.box.SIMPLE)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))  # a folder may have brackets, which are no markup
    show(table)


def duration(seconds: float) -> str:
    """`0:05`, `12:34` or `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
