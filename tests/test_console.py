from __future__ import annotations

import io
import logging

import pytest
import rich
from rich.console import Console

from hybridnet.console import ConsoleHandler, Display, duration, print_table

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


def test_in_a_file_a_long_epoch_says_every_ten_seconds_where_it_is(console: Console) -> None:
    display = Display(epochs=2, steps_per_epoch=10)
    display.started -= 20
    display.last_line -= 11
    display.step(1, 5, 0.5, 0.25, 100.4)
    display.step(1, 6, 0.5, 0.25, 100.0)
    (line,) = _text(console).splitlines()
    assert line == "epoch 1/2  step 5/10  loss 0.5000  acc 0.2500  100 images/s  1:00 left"


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


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (5, "0:05"), (754, "12:34"), (3723, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
