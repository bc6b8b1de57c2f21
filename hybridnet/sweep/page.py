"""A study as one page: a file that needs no other, for any screen and for print."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from hybridnet.files import shortened
from hybridnet.sweep import wording
from hybridnet.sweep.figures import ReportFigure
from hybridnet.sweep.outcome import Outcome
from hybridnet.sweep.settings import shown
from hybridnet.sweep.statistics import figure
from hybridnet.sweep.study import Study
from hybridnet.sweep.tables import leaderboard
from hybridnet.wording import number_of

SECTIONS = {
    "effects": "What each setting does",
    "interactions": "Two settings together",
    "jobs": "Validation curves and cost",
}
MOST_RANKED = 50  # settings of the leaderboard; all jobs stand at the end
SHORT = 20  # characters of a cell that is not to be broken


def page(study: Study, drawn: Sequence[tuple[ReportFigure, bytes]]) -> str:
    """The HTML.

    Args:
        study: to be reported.
        drawn: its figures, each with its PNG.
    """
    title = f"Sweep: {', '.join(folder.name for folder in study.folders)}"
    parts = [*_head(study, title), *_winner(study), *_leaderboard(study)]
    for section, heading in SECTIONS.items():
        if shown_here := [(about, png) for about, png in drawn if about.section == section]:
            parts += [f"<h2>{heading}</h2>", '<div class="pictures">', *map(_figure, shown_here), "</div>"]
    parts += [*_without_result(study), *_jobs(study), *_made_with(study)]
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty icon: a browser would ask a server for one.
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>\n{style}</style>'
    )
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(study: Study, title: str) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    compared = f"{wording.counts(study)}. Compared by {study.monitor}: {wording.direction(study)}."
    yield f'<p class="soft">{escape(compared)}</p>'
    yield f"<p>Swept: <code>{escape(wording.swept(study))}</code></p>"
    if len(study.folders) > 1:
        letters = {outcome.job.folder.parent: outcome.label.rstrip("0123456789") for outcome in study.outcomes}
        folders = [f"{letters.get(folder, 'no jobs')}: {shortened(folder)}" for folder in study.folders]
        yield f"<ul>{''.join(f'<li><code>{escape(text)}</code></li>' for text in folders)}</ul>"


def _winner(study: Study) -> Iterator[str]:
    winner, command = study.winner, wording.reproduce(study)
    if winner is not None and command is not None:
        best = winner.counted[0]
        name = study.described(winner) or "the settings of all jobs"
        n = f"mean ± std over {wording.averaged(study, winner)}" if winner.result.n > 1 else "n = 1 seed"
        yield '<section class="winner">'
        yield f"<p>Best: <code>{escape(name)}</code></p>"
        yield f"<p><strong>{escape(study.monitor)} {winner.result.text()}</strong> ({n})</p>"
        again = "it" if len(winner.folds) == 1 else f"these settings on all {len(winner.folds)} folds"
        yield f"<p>Its best job, {escape(best.label)}, has {figure(best.value)}. This trains {again} again:</p>"
        yield f"<pre><code>{escape(command)}</code></pre>"
        yield "</section>"
    for note in wording.notes(study):
        yield f"<p>{escape(note)}</p>"


def _leaderboard(study: Study) -> Iterator[str]:
    if not study.ranked:
        return
    heading, rows = leaderboard(study)
    yield "<h2>Leaderboard</h2>"
    body = []
    for candidate, cells in rows:
        jobs = ", ".join(f"{outcome.label}: {figure(outcome.value)}" for outcome in candidate.counted)
        kind = {"best": "best", "within noise": "noise"}.get(cells[-1], "")
        body.append((kind, [*cells[:-1], jobs, cells[-1]]))
    yield _table([*heading[:-1], "jobs", heading[-1]], body[:MOST_RANKED])
    if len(body) > MOST_RANKED:
        yield f'<p class="soft">… and {number_of(len(body) - MOST_RANKED, "setting")} more</p>'


def _figure(drawn: tuple[ReportFigure, bytes]) -> str:
    about, png = drawn
    source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    text = escape(about.caption)
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _without_result(study: Study) -> Iterator[str]:
    if failed := study.having("failed"):
        yield "<h2>Failed jobs</h2>"
        rows = [
            ("failed", [o.label, _typed(o), str(o.job.attempt), str(o.epochs), o.job.error or o.cause]) for o in failed
        ]
        yield _table(["job", "settings", "attempts", "epochs", "reason"], rows)
        yield '<p class="soft">The traceback is in the job\'s train.log. The same command tries them again.</p>'
    if pruned := study.having("pruned"):
        yield "<h2>Pruned jobs</h2>"
        rows = [
            ("", [o.label, _typed(o), str(o.epochs), figure(o.value) if o.value is not None else ""]) for o in pruned
        ]
        yield _table(["job", "settings", "epochs", f"best {study.monitor}"], rows)
        yield '<p class="soft">They were clearly worse than the others and ended early.</p>'
    if unfinished := study.having(*wording.UNFINISHED):
        yield "<h2>Unfinished jobs</h2>"
        rows = [("", [o.label, _typed(o), o.job.status, str(o.epochs)]) for o in unfinished]
        yield _table(["job", "settings", "status", "epochs"], rows)
        yield '<p class="soft">The same command goes on with them.</p>'


def _typed(outcome: Outcome) -> str:
    return ", ".join(outcome.job.swept or outcome.job.overrides)


def _jobs(study: Study) -> Iterator[str]:
    if not study.outcomes:
        return
    yield "<h2>All jobs</h2>"
    names = [axis.name for axis in study.axes]
    heading = ["job", "status", *names, *study.replication, study.monitor, "epochs", "seconds", "folder"]
    body = []
    for outcome in study.outcomes:
        seconds = outcome.measured("train_seconds")
        values = [shown(study.value(outcome, key)) for key in (*(axis.key for axis in study.axes), *study.replication)]
        result = figure(outcome.value) if outcome.value is not None else ""
        cells = [outcome.label, outcome.job.status, *values, result, str(outcome.epochs)]
        cells += [f"{seconds:.1f}" if seconds is not None else "", wording.place(study, outcome.job.folder)]
        body.append(("failed" if outcome.job.status == "failed" else "", cells))
    yield _table(heading, body)


def _made_with(study: Study) -> Iterator[str]:
    yield "<h2>This report</h2>"
    yield f"<pre><code>{escape(wording.again(study))}</code></pre>"
    commits = dict.fromkeys(str(c) for o in study.outcomes if (c := o.environment.get("git_commit")))
    devices = dict.fromkeys(str(d) for o in study.outcomes if (d := o.environment.get("device_name")))
    for name, found in (("Commit", commits), ("Hardware", devices)):
        if found:
            yield f'<p class="soft">{name}: {escape(", ".join(found))}</p>'


def _table(heading: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table whose rows become cards on a phone.

    Args:
        heading: names of the columns.
        rows: each with its class, or an empty string.
    """
    lines = [
        "<table>",
        "<thead><tr>",
        *(f'<th scope="col">{escape(name)}</th>' for name in heading),
        "</tr></thead>",
        "<tbody>",
    ]
    for kind, cells in rows:
        lines.append(f'<tr class="{kind}">' if kind else "<tr>")
        for name, cell in zip(heading, cells, strict=True):
            kind = ' class="short"' if len(cell) <= SHORT else ""
            lines.append(f'<td data-label="{escape(name)}"{kind}>{escape(cell)}</td>')
        lines.append("</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])
