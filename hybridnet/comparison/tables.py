"""A comparison for people: as Markdown, and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import rich
from rich.table import Table
from rich.text import Text

from hybridnet.comparison import wording
from hybridnet.comparison.findings import Findings, run_rows
from hybridnet.markdown import block, code, escaped, table
from hybridnet.wording import number_of

MOST_PAIRS = 50  # in the terminal, besides those with the baseline
MOST_CLASSES = 20  # in the Markdown; those that change most


def markdown(findings: Findings, pictures: Mapping[str, str]) -> str:
    """The comparison table, what is to be known about it, every pair, the classes and the runs.

    Args:
        findings: what was found.
        pictures: names of the files, with a caption.
    """
    comparison = findings.comparison
    differences = f" Differences are to {escaped(findings.baseline)}." if comparison.pairs else ""
    lines = [
        f"# Comparison: {escaped(', '.join(findings.names))}",
        "",
        f"{escaped(findings.subject)}.{differences}",
        "",
    ]
    lines += table(*_whole_table(findings))
    lines += [f"{escaped(note)}\n" for note in findings.notes]
    if "compare.png" in pictures:
        lines += [f"![{escaped(pictures['compare.png'])}](compare.png)", ""]
    lines += ["## Pairs", "", *table(*_pair_table(findings))] if comparison.pairs else []
    lines += [f"{escaped(wording.only_one(comparison, pair))}\n" for pair in comparison.pairs]
    shown = {name: caption for name, caption in pictures.items() if name != "compare.png"}
    lines += [f"![{escaped(caption)}]({name})\n" for name, caption in shown.items()]
    lines += ["All of them are in `only_one.csv`.", ""] if any(findings.disputed) else []
    lines += ["## Classes", "", _class_note(findings), "", *table(*_class_table(findings))]
    heading, *rows = run_rows(findings)
    cells = [[*map(str, row[:3]), f"{row[3]:.4f}", str(row[4])] for row in rows]
    lines += ["## Runs", "", *table(heading, cells)]
    return "\n".join([*lines, "Made with", "", *block(findings.command), ""])


def terminal(findings: Findings) -> Iterator[Table | str]:
    """What is printed."""
    title = findings.subject
    title += f"; differences to {findings.baseline}" if findings.comparison.pairs else ""
    yield _printed(title, *_accuracy_table(findings), texts=("setting", "verdict"))
    heading, rows = _cost_table(findings)
    if len(heading) > 1:
        yield _printed("cost", heading, rows, texts=("setting",))
    against_others = [pair for pair in findings.comparison.pairs if pair.second != findings.comparison.baseline]
    if against_others:
        heading, rows = _pair_table(findings)
        shown = [heading.index(name) for name in heading if not name.startswith(("p of", "only"))]
        rows = [[cells[place] for place in shown] for cells in rows[-len(against_others) :]]
        heading = [heading[place] for place in shown]
        yield _printed("the other pairs", heading, rows[:MOST_PAIRS], texts=("pair", "verdict"))
        if len(rows) > MOST_PAIRS:
            yield f"… and {number_of(len(rows) - MOST_PAIRS, 'pair')} more, see pairs.csv"
    yield from findings.notes
    for pair in findings.comparison.pairs:
        if not pair.is_same and pair not in against_others:
            yield wording.only_one(findings.comparison, pair)


def _printed(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]], *, texts: Sequence[str]) -> Table:
    found = Table(title=Text(title), title_justify="left", box=rich.box.SIMPLE, pad_edge=False)
    for name in heading:
        is_text = name in texts
        found.add_column(Text(name), justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    for cells in rows:
        found.add_row(*map(Text, cells))
    return found


def _accuracy_table(findings: Findings) -> tuple[list[str], list[list[str]]]:
    comparison = findings.comparison
    if not comparison.pairs:
        ((name, accuracy),) = zip(findings.names, comparison.accuracies, strict=True)
        row = [name, accuracy.spread.text(), str(comparison.paired.groups[0].num_runs)]
        interval = f"[{accuracy.low:.4f}, {accuracy.high:.4f}]"
        return ["setting", "accuracy", "n", f"{wording.PERCENT} interval"], [[*row, interval]]
    several = len(comparison.pairs) > 1
    heading = ["setting", "accuracy", "n", "difference", f"{wording.PERCENT} interval"]
    heading += ["p (Holm)" if several else "p", "verdict"]
    rows = []
    for group, name in enumerate(findings.names):
        row = [name, comparison.accuracies[group].spread.text(), str(comparison.paired.groups[group].num_runs)]
        pair = comparison.against_baseline(group)
        if pair is None:
            rows.append([*row, "", "", "", "baseline"])
            continue
        row += [wording.signed(pair.difference), wording.interval(pair.low, pair.high)]
        rows.append([*row, wording.probability(pair.p_holm), wording.verdict(comparison, pair)])
    return heading, rows


def _cost_table(findings: Findings) -> tuple[list[str], list[list[str]]]:
    """Columns of which something is known."""
    columns = {
        "parameters": [cost.parameters and f"{cost.parameters / 1e6:.2f} M" for cost in findings.costs],
        "training images/s": [cost.images_per_second and _rate(cost.images_per_second) for cost in findings.costs],
        "peak memory": [cost.memory and f"{cost.memory / 1e6:,.0f} MB" for cost in findings.costs],
        "multiply-adds": [cost.macs and f"{cost.macs / 1e9:.3f} G" for cost in findings.costs],
        "latency": [cost.latency and f"{cost.latency:.1f} ms" for cost in findings.costs],
    }
    known = {name: [cell or "" for cell in cells] for name, cells in columns.items() if any(cells)}
    return ["setting", *known], [list(row) for row in zip(findings.names, *known.values(), strict=True)]


def _whole_table(findings: Findings) -> tuple[list[str], list[list[str]]]:
    """Accuracy and cost of every group."""
    heading, rows = _accuracy_table(findings)
    cost_heading, cost_rows = _cost_table(findings)
    return [*heading, *cost_heading[1:]], [[*row, *of[1:]] for row, of in zip(rows, cost_rows, strict=True)]


def _pair_table(findings: Findings) -> tuple[list[str], list[list[str]]]:
    comparison = findings.comparison
    several = len(comparison.pairs) > 1
    heading = ["pair", "difference", f"{wording.PERCENT} interval", "p", *(["p (Holm)"] if several else [])]
    heading += ["p of the pictures", "p of the runs", "only the first right", "only the second right", "verdict"]
    rows = []
    for pair in comparison.pairs:
        row = [f"{comparison.name(pair.first)} - {comparison.name(pair.second)}", wording.signed(pair.difference)]
        row += [wording.interval(pair.low, pair.high), wording.probability(pair.p)]
        row += [wording.probability(pair.p_holm)] if several else []
        row.append(wording.probability(pair.p_pictures))
        row.append(f"{wording.probability(pair.p_runs)} ({pair.t_test})" if pair.p_runs is not None else "")
        row += [str(pair.only_first), str(pair.only_second), wording.verdict(comparison, pair)]
        rows.append(row)
    return heading, rows


def _class_table(findings: Findings) -> tuple[list[str], list[list[str]]]:
    base = findings.classes[findings.comparison.baseline]
    others = [place for place in range(len(findings.names)) if place != findings.comparison.baseline]
    heading = ["class", "pictures", f"recall of {findings.baseline}", f"F1 of {findings.baseline}"]
    for place in others:
        heading += [f"recall: {findings.names[place]}", f"F1: {findings.names[place]}"]
    rows = []
    for place in _most_changed(findings):
        row = [findings.comparison.paired.classes[place], f"{base.support[place]:.0f}"]
        row += [_defined(values[place], "{:.4f}".format) for values in (base.recall, base.f1)]
        for other in others:
            own = findings.classes[other]
            changes = (getattr(own, name)[place] - getattr(base, name)[place] for name in ("recall", "f1"))
            row += [_defined(change, wording.signed) for change in changes]
        rows.append(row)
    return heading, rows


def _defined(value: float, write: Callable[[float], str]) -> str:
    return "–" if np.isnan(value) else write(value)


def _most_changed(findings: Findings) -> list[int]:
    """Classes in their order, only those that change most where there are many."""
    base = findings.classes[findings.comparison.baseline]
    change = np.max([np.nan_to_num(np.abs(own.f1 - base.f1)) for own in findings.classes], axis=0)
    return sorted(np.argsort(-change, kind="stable")[:MOST_CLASSES].tolist())


def _class_note(findings: Findings) -> str:
    number = len(findings.comparison.paired.classes)
    text = f"Differences to {findings.baseline}; no class by itself was tested. " if findings.comparison.pairs else ""
    text += "Precision is in "
    shown = f" Shown are the {MOST_CLASSES} of {number} classes that change most." if number > MOST_CLASSES else ""
    return f"{escaped(text)}{code('classes.csv')}.{shown}"


def _rate(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
