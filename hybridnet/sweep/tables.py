"""A study as a CSV table, as Markdown, and for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import rich
from rich.table import Table
from rich.text import Text

from hybridnet.markdown import block, code, escaped
from hybridnet.markdown import table as markdown_table
from hybridnet.sweep import wording
from hybridnet.sweep.candidate import Candidate
from hybridnet.sweep.settings import shown
from hybridnet.sweep.study import Study
from hybridnet.wording import number_of

MOST_SHOWN = 10  # settings in the terminal
MOST_FAILED = 5
MOST_COLUMNS = 4  # of settings in the terminal; more of them stand in one
MEASURED = ("valid_acc", "valid_loss", "valid_macro_f1", "best_epoch")
OF_TRAINING = ("train_seconds", "train_images_per_second", "num_parameters")


def csv_rows(study: Study) -> list[list[Any]]:
    """One row for each job, below the names of the columns; what a job does not have is empty."""
    keys = [*(axis.key for axis in study.axes), *study.replication]
    heading = ["number", "folder", "status", "attempt", *keys, f"monitored_{study.monitor}"]
    rows: list[list[Any]] = [[*heading, *MEASURED, "epochs", *OF_TRAINING, "error"]]
    for outcome in study.outcomes:
        job = outcome.job
        row = [outcome.label, wording.place(study, job.folder), job.status, job.attempt]
        row += [study.value(outcome, key) for key in keys]
        row += [outcome.value, *map(outcome.measured, MEASURED), outcome.epochs, *map(outcome.measured, OF_TRAINING)]
        row.append(outcome.cause if job.status == "failed" else None)
        rows.append(["" if cell is None else cell for cell in row])
    return rows


def leaderboard(study: Study) -> tuple[list[str], Iterator[tuple[Candidate, list[str]]]]:
    """Names of the columns, and of each ranked candidate its cells."""
    heading = ["rank", *(axis.name for axis in study.axes), study.monitor, "n", "verdict"]

    def rows() -> Iterator[tuple[Candidate, list[str]]]:
        for rank, candidate in enumerate(study.ranked, start=1):
            values = [shown(value) for value in candidate.values]
            result = [candidate.result.text(), str(candidate.result.n), wording.verdict(study, candidate)]
            yield candidate, [str(rank), *values, *result]

    return heading, rows()


def markdown(study: Study) -> str:
    """The leaderboard, what is within noise, and the jobs without a result."""
    heading, rows = leaderboard(study)
    lines = [f"# Sweep: {study.monitor} ({wording.direction(study)})", "", f"Swept: {code(wording.swept(study))}", ""]
    lines += [wording.counts(study), ""]
    if study.ranked:
        lines += markdown_table(heading, (cells for _, cells in rows))
    lines += [f"{escaped(note)}\n" for note in wording.notes(study)]
    if command := wording.reproduce(study):
        lines += [f"{wording.what_again(study)} again:", "", *block(command), ""]
    for title, outcomes in (("Failed", study.having("failed")), ("Pruned", study.having("pruned"))):
        lines += [f"## {title}", ""] if outcomes else []
        for outcome in outcomes:
            why = outcome.cause if title == "Failed" else f"after {number_of(outcome.epochs, 'epoch')}"
            lines.append(f"- {outcome.label} {code(wording.place(study, outcome.job.folder))}: {escaped(why)}")
        lines += [""] if outcomes else []
    if unfinished := study.having(*wording.UNFINISHED):
        lines += ["## Unfinished", ""]
        lines += [f"- {o.label} {code(wording.place(study, o.job.folder))}: {o.job.status}" for o in unfinished]
        lines += [""]
    lines += ["Made with", "", *block(wording.again(study)), ""]
    return "\n".join(lines)


def terminal(study: Study) -> Iterator[Table | str]:
    """What is printed: the best settings, jobs without a result, and what is to be known."""
    heading, rows = leaderboard(study)
    num_axes = len(study.axes)
    if study.ranked:
        if num_axes > MOST_COLUMNS:
            heading[1 : 1 + num_axes] = ["settings"]
        table = Table(
            title=f"{study.monitor}, {wording.direction(study)}",
            title_justify="left",
            box=rich.box.SIMPLE,
            pad_edge=False,
        )
        for name in heading:
            is_number = name in ("rank", "n")
            table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
        for (candidate, cells), _ in zip(rows, range(MOST_SHOWN), strict=False):
            if num_axes > MOST_COLUMNS:
                cells[1 : 1 + num_axes] = [study.described(candidate)]
            table.add_row(*map(Text, cells))
        yield table
        if len(study.ranked) > MOST_SHOWN:
            yield f"… and {number_of(len(study.ranked) - MOST_SHOWN, 'setting')} more"
    yield wording.counts(study)
    failed = study.having("failed")
    for outcome in failed[:MOST_FAILED]:
        yield f"  failed: {outcome.label} {wording.place(study, outcome.job.folder)}: {outcome.cause[:300]}"
    if len(failed) > MOST_FAILED:
        yield f"  … and {len(failed) - MOST_FAILED} more that failed"
    yield from wording.notes(study)
    if study.winner and (command := wording.reproduce(study)):
        yield f"{'best' if len(study.winner.folds) == 1 else 'best settings, on all folds'}: {command}"
