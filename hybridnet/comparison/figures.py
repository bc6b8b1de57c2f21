"""The figures of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybridnet.comparison.costs import Cost
from hybridnet.comparison.differences import Comparison
from hybridnet.drawing import BEST, STYLE, save, short
from hybridnet.wording import number_of

# Okabe and Ito's, as in hybridnet.figures. Seven and eight: only after 56 groups both are the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
MARKERS = "osD^v<>P"
COSTS = {
    "parameters": ("Parameters (M)", 1e6),
    "images_per_second": ("Training (images/s)", 1),
    "memory": ("Peak memory (MB)", 1e6),
    "latency": ("Latency (ms)", 1),
}
MOST_PANELS = 3  # of costs
MOST_CHARACTERS, WRAPPED = 60, 26  # of a group's name, and in one line of it
COLUMNS, FEWEST_COLUMNS = 8, 4
MOST_ROWS = 2  # of thumbnails, for each of two groups


def plot_comparison(path: Path, comparison: Comparison, costs: Sequence[Cost], *, title: str) -> None:
    """Differences to the baseline with their intervals; beside them accuracy with its interval against each cost."""
    names = [group.name for group in comparison.paired.groups]
    known = [key for key in COSTS if len({getattr(cost, key) for cost in costs} - {None}) > 1]
    if len(known) > MOST_PANELS:
        known.remove("memory")
    height = max(3.4, 1.7 + 0.45 * len(names))
    figure = Figure(figsize=(4.2 + 2.7 * len(known), height), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(known), squeeze=False, width_ratios=[1.35, *[1] * len(known)])[0]
    _differences(first, comparison, names)
    for number, (axes, key) in enumerate(zip(others, known, strict=True)):
        label, unit = COSTS[key]
        _against_cost(axes, comparison, [(value := getattr(cost, key)) and value / unit for cost in costs])
        axes.set_xlabel(label, **STYLE)
        axes.set_ylabel("Accuracy" if number == 0 else "", **STYLE)
        axes.tick_params(labelleft=number == 0)
    if others:
        lowest = min(axes.get_ylim()[0] for axes in others)
        highest = max(axes.get_ylim()[1] for axes in others)
        for axes in others:
            axes.set_ylim(lowest, highest)
        figure.legend(
            *others[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False
        )
    figure.suptitle(title, fontsize=10.5)
    save(figure, path)


def _style(group: int) -> dict[str, object]:
    colour, marker = COLOURS[group % len(COLOURS)], MARKERS[group % len(MARKERS)]
    return {"fmt": marker, "color": colour, "markersize": 6, "capsize": 3, "elinewidth": 1.4}


def _differences(axes: Axes, comparison: Comparison, names: Sequence[str]) -> None:
    for group in range(len(names)):
        pair = comparison.against_baseline(group)
        if pair is None:
            axes.plot([0], [group], _style(group)["fmt"], color=_style(group)["color"], markersize=6)
            continue
        error = [[max(0.0, pair.difference - pair.low)], [max(0.0, pair.high - pair.difference)]]
        axes.errorbar(pair.difference, group, xerr=error, **_style(group))
    axes.axvline(0, color=BEST, linewidth=1, linestyle=":")
    labels = [
        fill(f"{short(name, MOST_CHARACTERS)} (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{group.num_runs})", WRAPPED)
        for name, group in zip(names, comparison.paired.groups, strict=True)
    ]
    axes.set_yticks(range(len(names)), labels, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.set_xlabel("Difference in accuracy", **STYLE)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _against_cost(axes: Axes, comparison: Comparison, costs: Sequence[float | None]) -> None:
    for group, (accuracy, cost) in enumerate(zip(comparison.accuracies, costs, strict=True)):
        if cost is None:
            continue
        mean = accuracy.spread.mean
        error = [[max(0.0, mean - accuracy.low)], [max(0.0, accuracy.high - mean)]]
        axes.errorbar(cost, mean, yerr=error, label=short(comparison.name(group), MOST_CHARACTERS), **_style(group))
    axes.margins(x=0.2, y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plot_only_one(path: Path, sections: Mapping[str, Sequence[tuple[np.ndarray, str]]], *, title: str) -> None:
    """Thumbnails that only one of two groups gets right, each group's below a heading.

    Args:
        path: of the PNG.
        sections: by heading, pictures uint8 (S, S, 3) with one or two lines about each.
        title: above all.
    """
    shown = {heading: found[: COLUMNS * MOST_ROWS] for heading, found in sections.items() if found}
    columns = min(COLUMNS, max(FEWEST_COLUMNS, *map(len, shown.values())))
    heights = {heading: math.ceil(len(found) / columns) for heading, found in shown.items()}
    cell, text, head = 1.35, 0.36, 0.34  # inches
    height = 0.45 + sum(head + rows * (cell + text) for rows in heights.values())
    figure = Figure(figsize=(columns * (cell + 0.08) + 0.1, height))
    width = figure.get_figwidth()
    figure.text(0.1 / width, 1 - 0.1 / height, title, ha="left", va="top", fontsize=11)
    top = height - 0.45
    for heading, found in shown.items():
        figure.text(0.1 / width, (top - 0.06) / height, heading, ha="left", va="top", fontsize=10, color="#333333")
        top -= head
        for number, (picture, lines) in enumerate(found):
            row, column = divmod(number, columns)
            left, bottom = 0.09 + column * (cell + 0.08), top - row * (cell + text) - cell
            axes = figure.add_axes((left / width, bottom / height, cell / width, cell / height))
            axes.imshow(picture, interpolation="antialiased")
            axes.axis("off")
            middle = (left + cell / 2) / width
            figure.text(middle, (bottom - 0.03) / height, lines, ha="center", va="top", fontsize=6.5, linespacing=1.15)
        top -= heights[heading] * (cell + text)
    save(figure, path)


def heading(name: str, number: int, num_shown: int) -> str:
    """`only hybrid is right: 12 pictures (8 shown)`."""
    text = f"only {name} is right: {number_of(number, 'picture')}"
    return text if num_shown >= number else f"{text} ({num_shown} shown)"


def lines(label: str, wrong: str) -> str:
    """What stands below a thumbnail: the label, and what the other group says."""
    return f"{short(label, 30)}\nsaid: {short(wrong, 24)}"
