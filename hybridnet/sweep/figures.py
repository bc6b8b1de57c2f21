"""The figures of a sweep's report, narrow enough for a phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from hybridnet.drawing import STYLE, TRAIN, VALID, save, short
from hybridnet.sweep import wording
from hybridnet.sweep.effect import Effect, Interaction, effects, interactions
from hybridnet.sweep.outcome import Outcome
from hybridnet.sweep.settings import number, shown
from hybridnet.sweep.statistics import figure as shown_figure
from hybridnet.sweep.study import Study

SIZE = (4.5, 3.4)  # inches
POINT = {"marker": "o", "linestyle": "", "color": TRAIN, "alpha": 0.5, "markersize": 4.5, "mew": 0}
OTHER = POINT | {"mew": 0.8, "mfc": "none"}  # of a job that is not in the mean
LABEL = {**STYLE, "fontsize": 9.5}
MOST_MAPS = 6
UNFAIR = (
    " Not every pair was tried with the same other settings, on the same pictures: the means differ in more than these."
)
MOST_VALUES_DRAWN = 16
WIDE = 20  # a range over more than this factor is shown by its logarithm
LINES = {
    "complete": ("-", "#667788", "job"),
    "pruned": (":", "#8E4585", "pruned"),
    "failed": ("--", "#B22222", "failed"),
}


class ReportFigure(NamedTuple):
    """One of the report.

    Attributes:
        name: of its PNG.
        section: `effects`, `interactions` or `jobs`.
        caption: what it shows, and what is to be seen.
        draw: writes it to a path.
    """

    name: str
    section: str
    caption: str
    draw: Callable[[Path], None]


def figures(study: Study) -> list[ReportFigure]:
    """All that the study has enough results for."""
    found = [
        ReportFigure(f"effect_{number}.png", "effects", caption(study, effect), _effect_drawer(study, effect))
        for number, effect in enumerate(effects(study))
    ]
    for place, interaction in enumerate(interactions(study)[:MOST_MAPS]):
        text = f"Mean {study.monitor} by {interaction.first.name} and {interaction.second.name}; darker is better."
        text += "" if interaction.is_fair else UNFAIR
        draw = _interaction_drawer(study, interaction)
        found.append(ReportFigure(f"interaction_{place}.png", "interactions", text, draw))
    if any(outcome.curve(study.monitor)[0] for outcome in study.outcomes):
        text = f"{study.monitor} after each epoch, of every job"
        text += f"; job {study.winner.counted[0].label}, the best one, is in front." if study.winner else "."
        found.append(ReportFigure("curves.png", "jobs", text, lambda path: plot_curves(path, study)))
    for name, label, unit in (("train_seconds", "Training time (s)", 1), ("num_parameters", "Parameters (M)", 1e6)):
        costs = {value for outcome in study.counted if (value := outcome.measured(name))}
        if len(costs) > 1:
            text = f"{label.partition(' (')[0]} of each job against its {study.monitor}. The best job has a star."
            found.append(ReportFigure(f"{name}.png", "jobs", text, _cost_drawer(study, name, label, unit)))
    return found


def caption(study: Study, effect: Effect) -> str:
    """What an axis makes of the result, in words."""
    name = effect.axis.name
    if effect.axis.is_continuous:
        numbers = [value for value in effect.jobs if number(value) is not None]
        return f"{name}: every job by its value, from {shown(numbers[0])} to {shown(numbers[-1])}."
    order = sorted(effect.means, key=lambda value: -study.direction * effect.means[value])
    best, worst = (f"{shown_figure(effect.means[value])} at {shown(value)}" for value in (order[0], order[-1]))
    text = f"{name}: on average {best}, {worst}"
    if len(effect.means) > MOST_VALUES_DRAWN:
        text += f" (shown are the best {MOST_VALUES_DRAWN} of {len(effect.means)} values)"
    if not effect.num_fair:
        return (
            f"{text}. No other settings were tried with all of its values, so these means differ in more than {name}."
        )
    if effect.num_fair > 1:
        text += f", over the {effect.num_fair} combinations of the other settings that were tried with every value"
    elif effect.averaged != effect.jobs:
        text += ", over the one combination of the other settings that was tried with every value"
    if not effect.has_same_pictures:
        return f"{text}. They were measured on other pictures, and are not to be compared."
    noise = wording.noise_of(study)
    verdicts = {True: f"The difference is within {noise}.", False: f"This is more than {noise}."}
    return f"{text}. {verdicts.get(effect.is_noise, '')}".rstrip()


def _best_values(study: Study, effect: Effect) -> list[str]:
    """Those that fit into a figure."""
    best = sorted(effect.means, key=lambda value: -study.direction * effect.means[value])[:MOST_VALUES_DRAWN]
    return [value for value in effect.jobs if value in best]


def _effect_drawer(study: Study, effect: Effect) -> Callable[[Path], None]:
    draw = plot_scatter if effect.axis.is_continuous else plot_effect
    return lambda path: draw(path, study, effect)


def _interaction_drawer(study: Study, interaction: Interaction) -> Callable[[Path], None]:
    return lambda path: plot_interaction(path, study, interaction)


def _cost_drawer(study: Study, name: str, label: str, unit: float) -> Callable[[Path], None]:
    return lambda path: plot_cost(path, study, name, label=label, unit=unit)


def plot_effect(path: Path, study: Study, effect: Effect) -> None:
    """Every job as a point above its value, hollow if it is not in the mean; the mean, with its jobs' deviation."""
    figure, axes = _panel(short(effect.axis.key, 60), study.monitor)
    values = _best_values(study, effect)
    for place, value in enumerate(values):
        outcomes = effect.jobs[value]
        offsets = np.linspace(-0.16, 0.16, len(outcomes)) if len(outcomes) > 1 else [0.0]
        averaged = {id(outcome) for outcome in effect.averaged[value]}
        for style, is_averaged in ((POINT, True), (OTHER, False)):
            drawn = [
                (at, o.value) for at, o in zip(offsets, outcomes, strict=True) if (id(o) in averaged) is is_averaged
            ]
            axes.plot([place + at - 0.08 for at, _ in drawn], [result for _, result in drawn], **style)
        spread = effect.spreads[value]
        style = {"fmt": "D", "color": VALID, "markersize": 5.5, "capsize": 4, "elinewidth": 1.4}
        axes.errorbar(place + 0.24, effect.means[value], yerr=spread, **style)
    _name_values(axes, values)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.grid(axis="y", alpha=0.25)
    handles = [axes.plot([], [], **POINT, label="job")[0]]
    handles += [axes.plot([], [], "D", color=VALID, markersize=5.5, label="mean ± std of the jobs")[0]]
    if any(effect.averaged[value] != effect.jobs[value] for value in values):
        handles.insert(1, axes.plot([], [], **OTHER, label="not in the mean")[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    save(figure, path)


def plot_scatter(path: Path, study: Study, effect: Effect) -> None:
    """Every job as a point over a range of numbers."""
    figure, axes = _panel(short(effect.axis.key, 60), study.monitor)
    found = [(number(value), outcome) for value, outcomes in effect.jobs.items() for outcome in outcomes]
    _points(axes, study, [(place, outcome) for place, outcome in found if place is not None])
    save(figure, path)


def plot_cost(path: Path, study: Study, name: str, *, label: str, unit: float) -> None:
    """What every job has cost, and what it came to."""
    figure, axes = _panel(label, study.monitor)
    costs = [(outcome.measured(name), outcome) for outcome in study.counted]
    _points(axes, study, [(cost / unit, outcome) for cost, outcome in costs if cost])
    save(figure, path)


def plot_interaction(path: Path, study: Study, interaction: Interaction) -> None:
    """The mean at each pair of values, as a number on a colour; darker is better."""
    rows = [value for value in interaction.first.values if any(pair[0] == value for pair in interaction.means)]
    columns = [value for value in interaction.second.values if any(pair[1] == value for pair in interaction.means)]
    means = np.array([[interaction.means.get((row, column), np.nan) for column in columns] for row in rows])
    figure = Figure(figsize=(SIZE[0], min(5.5, 1.7 + 0.45 * len(rows))), layout="constrained")
    axes = figure.subplots()
    low, high = np.nanmin(means), np.nanmax(means)
    image = axes.imshow(means, cmap="Blues" if study.direction > 0 else "Blues_r", aspect="auto", vmin=low, vmax=high)
    for row, column in np.ndindex(means.shape):
        mean = means[row, column]
        share = 0.0 if np.isnan(mean) or high == low else (mean - low) / (high - low)
        is_dark = (share if study.direction > 0 else 1 - share) > 0.55 and not np.isnan(mean) and high > low
        colour = "white" if is_dark else "#222222"
        text = "–" if np.isnan(mean) else f"{mean:.3f}" if abs(mean) < 100 else f"{mean:.3g}"
        style = {"ha": "center", "va": "center", "color": colour, "fontsize": 9 if len(columns) <= 6 else 6.5}
        axes.text(column, row, text, **style).set_in_layout(False)  # lies within: not to be measured
    _name_values(axes, columns)
    axes.set_yticks(range(len(rows)), _distinct([shown(value) for value in rows], 18))
    axes.tick_params(length=0, labelsize=9)
    axes.set_xlabel(short(interaction.second.key, 60), **LABEL)
    axes.set_ylabel(short(interaction.first.key, 30), **LABEL)
    figure.colorbar(image, ax=axes, shrink=0.9).ax.tick_params(labelsize=8)
    save(figure, path)


def plot_curves(path: Path, study: Study) -> None:
    """The monitored metric of every job by epoch, the best job in front."""
    figure, axes = _panel("Epoch", study.monitor)
    best = study.winner.counted[0] if study.winner else None
    named = set()
    width, alpha = (1.1, 0.8) if len(study.outcomes) <= 12 else (0.9, 0.5)
    for outcome in study.outcomes:
        epochs, values = outcome.curve(study.monitor)
        if not epochs or outcome is best:
            continue
        line, colour, name = LINES.get(outcome.job.status, ("-.", "#222222", "unfinished"))
        label = None if name in named else name
        named.add(name)
        marker = "o" if len(epochs) == 1 else ""
        style = {"color": colour, "alpha": alpha, "linewidth": width, "marker": marker, "markersize": 3}
        axes.plot(epochs, values, line, label=label, **style)
    if best is not None:
        epochs, values = best.curve(study.monitor)
        style = {"marker": "o" if len(epochs) <= 30 else "", "markersize": 4, "linewidth": 2.2, "zorder": 5}
        axes.plot(epochs, values, color=VALID, label=f"best: job {best.label}", **style)
    _limit(axes, study)
    axes.grid(alpha=0.25)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    legend = figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    for line in legend.get_lines():
        line.set(alpha=1, linewidth=1.6)
    save(figure, path)


def _limit(axes: Axes, study: Study) -> None:
    """A loss that has exploded in one job must not flatten the others'."""
    if study.direction > 0:
        return
    values = [value for outcome in study.outcomes for value in outcome.curve(study.monitor)[1]]
    least, limit = min(values), 4 * float(np.median(values))
    if max(values) > limit > least:
        axes.set_ylim(least - 0.05 * (limit - least), limit)  # the margin below is not the exploded one's either


def _panel(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label, **LABEL)
    axes.set_ylabel(y_label, **LABEL)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_axisbelow(True)
    return figure, axes


def _points(axes: Axes, study: Study, points: Sequence[tuple[float, Outcome]]) -> None:
    best = study.winner.counted[0] if study.winner else None
    places = [place for place, _ in points]
    axes.plot(places, [o.value for _, o in points], "o", color=TRAIN, alpha=0.55, markersize=5, mew=0)
    for place, outcome in points:
        if outcome is best:
            axes.plot([place], [outcome.value], "*", color=VALID, markersize=14, mec="white", mew=0.8)
    if places and min(places) > 0 and max(places) > WIDE * min(places):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # its own one needs TeX
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(alpha=0.25)


def _name_values(axes: Axes, values: Sequence[str]) -> None:
    names = _distinct([shown(value) for value in values], 22)
    is_wide = sum(len(name) + 2 for name in names) > 46  # characters that fit below the axis
    style = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if is_wide else {}
    axes.set_xticks(range(len(names)), names, **style)


def _distinct(names: Sequence[str], limit: int) -> list[str]:
    """Cut off at the end, or at the beginning where that leaves the same of several, as with paths."""
    cut = [short(name, limit) for name in names]
    if len(set(cut)) == len(names):
        return cut
    return [name if len(name) <= limit else f"…{name[1 - limit :]}" for name in names]
