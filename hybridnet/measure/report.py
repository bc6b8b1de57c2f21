"""What was measured as rows of a CSV table, as tables for the terminal, and as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import rich
from rich.table import Table
from rich.text import Text

from hybridnet import config, drawing, figures
from hybridnet.measure.claims import Claim
from hybridnet.measure.comparison import Key, Measurement, Results, Subject
from hybridnet.measure.feed import Feed
from hybridnet.measure.goals import Goal
from hybridnet.measure.rounds import Spread
from hybridnet.measure.works import TASKS, Case, Task

MOST_SPEED_PANELS = 3
COLUMNS = ("model", "size", "stage", "stem", "image_size", "batch_size", "compile", "parameters", "macs")
OF_TASK = ("images_per_second", "low", "high", "speed", "speed_low", "speed_high", "p50_ms", "p95_ms", "num_calls")
OF_TASK += ("peak_bytes", "memory", "note")


class Size(NamedTuple):
    """Parameters, and multiplications with addition for one picture."""

    parameters: int
    macs: int


ClaimResults = Mapping[tuple[Claim, int], Mapping[Task, Measurement]]


def columns() -> list[str]:
    """Of the CSV table."""
    return [*COLUMNS, *(f"{task}_{name}" for task in TASKS for name in OF_TASK)]


def csv_rows(results: Results, sizes: Mapping[Case, Size]) -> list[list[Any]]:
    """One row per model, image size, batch size and mode, below `columns`; what was not measured is empty."""
    rows = []
    for (subject, batch_size), tasks in results.items():
        case = subject.case
        stage, stem = (config.select(case.configuration(), f"model.{key}") for key in ("stage", "stem"))
        row = [case.model, case.size, stage, stem, case.image_size, batch_size, subject.mode, *sizes[case]]
        for task in TASKS:
            row += _values(tasks.get(task), batch_size)
        rows.append(["" if value is None else value for value in row])
    return rows


def _values(found: Measurement | None, batch_size: int) -> list[Any]:
    if found is None or not found.series.means:
        return [*[None] * 9, found and found.peak_bytes, None, found.note if found else None]
    speed = found.speed or (None, None, None)
    rate = [round(value, 2) for value in found.series.rate(batch_size)]
    times = [round(1000 * found.series.percentile(percent), 4) for percent in (50, 95)]
    speed = [value and round(value, 4) for value in speed]
    memory = found.memory and round(found.memory, 4)
    return [*rate, *speed, *times, len(found.series.singles), found.peak_bytes, memory, found.note]


def tables(results: Results, sizes: Mapping[Case, Size], *, where: str) -> Iterable[Table]:
    """One for each task and batch size, which fits into 80 columns."""
    names = _names(results)
    for batch_size in dict.fromkeys(key.batch_size for key in results):
        for task in TASKS:
            table = _table(f"{task}, batch {batch_size}, {where}")
            table.add_column("model", no_wrap=True)
            of_task = ("params", "MACs") if task == "training" else ("p50 ms", "p95 ms")
            for heading in ("images/s", "× plain", "quartiles", "MB", "×", *of_task):
                table.add_column(heading, justify="right", no_wrap=True)
            for key, tasks in results.items():
                if key.batch_size == batch_size and task in tasks:
                    found, size = tasks[task], sizes[key.subject.case]
                    cells = [f"{size.parameters / 1e6:.2f} M", f"{size.macs / 1e9:.3f} G"]
                    cells = cells if task == "training" else _latency_cells(found)
                    table.add_row(names[key.subject], *_speed_cells(found, batch_size), *_memory_cells(found), *cells)
            yield table


def claims_table(found: ClaimResults) -> Table:
    """The guide's claims, and how many times as fast or as large the first model is."""
    batch_sizes = ", ".join(dict.fromkeys(str(batch_size) for _, batch_size in found))
    table = _table(f"the guide's claims, batch {batch_sizes}: the first model's speed and memory × the second's")
    table.add_column("claim")
    for heading in ("size", "training", "memory", "inference", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (claim, _), tasks in found.items():
        cells = []
        for task in TASKS:
            measured = tasks.get(task)
            speed = measured and measured.speed
            cells.append(_interval(speed) if speed else measured.note if measured else "")
            cells.append(f"{measured.memory:.2f}" if measured and measured.memory else "")
        table.add_row(claim.text, str(claim.model.image_size), *cells)
    return table


def feed_table(feeds: Mapping[str, Feed]) -> Table:
    """Images per second from a data set and from one batch, by the mode of the step."""
    table = _table("the training loop, images/s: on the data set, and on one batch that lies on the device")
    for heading in ("compile", "steps", "data set", "one batch", "share"):
        table.add_column(heading, justify="left" if heading == "compile" else "right", no_wrap=True)
    for mode, feed in feeds.items():
        rates = [f"{feed.real.median:,.1f}", f"{feed.resident.median:,.1f}"]
        low, high = f"{feed.share.low:.1%}", f"{feed.share.high:.1%}"
        table.add_row(mode, str(feed.steps), *rates, f"{feed.share.median:.1%} ({low}-{high})")
    for feed in feeds.values():
        if feed.textbook is not None:
            table.add_row("textbook loop", str(feed.steps), f"{feed.textbook.median:,.1f}", "", "")
    return table


def goals_table(goals: Iterable[Goal]) -> Table:
    """What was reached of the goals."""
    table = _table("what the project wants to reach, and what this machine does (median, quartiles)")
    table.add_column("goal")
    table.add_column("wanted", justify="right", no_wrap=True)
    table.add_column("here", justify="right")
    for goal in goals:
        here = f"not measured: {goal.how}" if goal.found is None else _interval(goal.found)
        wanted = f"{'≤' if goal.is_limit else '≥'} {goal.wanted:,g}"
        here += ", not reached" if goal.is_reached is False else ""
        table.add_row(goal.text, wanted, Text(here))  # brackets of lists are no markup
    return table


def draw(path: Path, results: Results, sizes: Mapping[Case, Size], *, title: str) -> None:
    """Speed against plain at every batch size, the memory of a training at the largest one, and parameters."""
    names = _names(results)
    subjects = list(names)
    batch_sizes = list(dict.fromkeys(key.batch_size for key in results))
    panels = []
    for batch_size in batch_sizes[-MOST_SPEED_PANELS:]:
        found = [results.get(Key(subject, batch_size), {}) for subject in subjects]
        series = {task: [_speed_of(tasks.get(task)) for tasks in found] for task in TASKS}
        panels.append(figures.Panel(f"Speed × plain, batch {batch_size}", series, is_bar=False))
    largest = [results.get(Key(subject, batch_sizes[-1]), {}).get("training") for subject in subjects]
    memory = [found.peak_bytes / 1e6 if found and found.peak_bytes else None for found in largest]
    if any(memory):
        panels.append(_bars(f"Training memory, batch {batch_sizes[-1]} (MB)", memory))
    panels.append(_bars("Parameters (millions)", [sizes[subject.case].parameters / 1e6 for subject in subjects]))
    drawing.write(figures.plot_panels(list(names.values()), panels, title=title), path)


def _bars(label: str, values: Sequence[float | None]) -> figures.Panel:
    return figures.Panel(label, {"": [value and (value, value, value) for value in values]}, is_bar=True)


def _speed_of(found: Measurement | None) -> tuple[float, float, float] | None:
    """The reference is as fast as itself."""
    if found is None or not found.series.means:
        return None
    return found.speed or (1.0, 1.0, 1.0)


def _names(results: Results) -> dict[Subject, str]:
    """Of the subjects, with the mode where there are several."""
    subjects = dict.fromkeys(key.subject for key in results)
    several = len({subject.mode for subject in subjects}) > 1
    return {subject: f"{subject.case.name}, {subject.mode}" if several else subject.case.name for subject in subjects}


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=rich.box.SIMPLE, padding=(0, 1), pad_edge=False)


def _speed_cells(found: Measurement, batch_size: int) -> list[str]:
    if not found.series.means:
        return [found.note, "", ""]
    rate = found.series.rate(batch_size).median
    cells = [f"{rate:,.1f}" if rate < 1000 else f"{rate:,.0f}"]
    if not found.speed:
        return [*cells, "1", ""]
    return [*cells, f"{found.speed.median:.2f}", f"{found.speed.low:.2f}-{found.speed.high:.2f}"]


def _latency_cells(found: Measurement) -> list[str]:
    if not found.series.singles:
        return ["", ""]
    return [f"{1000 * found.series.percentile(percent):.1f}" for percent in (50, 95)]


def _memory_cells(found: Measurement) -> list[str]:
    if not found.peak_bytes:
        return ["", ""]
    ratio = "" if found.note else f"{found.memory:.2f}" if found.memory else "1"
    return [f"{found.peak_bytes / 1e6:,.0f}", ratio]


def _interval(spread: Spread) -> str:
    median, low, high = (f"{value:,.0f}" if value >= 1000 else f"{value:.2f}" for value in spread)
    return f"{median} ({low}-{high})"
