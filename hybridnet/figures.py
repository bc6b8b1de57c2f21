"""The pictures that a run leaves behind, good enough for a paper. What plots returns one, for `drawing.write`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from hybridnet import fonts
from hybridnet.drawing import BEST, DPI, RATE, STYLE, TRAIN, VALID, drawn, fitted, short, short_inside, wrapped


def plot_history(history: Sequence[dict[str, float]], *, best_epoch: int, title: str) -> Image.Image:
    """Loss, accuracy and learning rate by epoch; a dotted line marks the best epoch."""
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(11, 3.6))
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.14, top=0.86, wspace=0.28)
    loss, accuracy, rate = figure.subplots(1, 3)
    style = {"linewidth": 1.6, "markersize": 3.5, "marker": "o" if len(epochs) <= 30 else "", "clip_on": False}
    for axes, metric, name in ((loss, "loss", "Cross-entropy loss"), (accuracy, "acc", "Accuracy")):
        for split, colour, label in (("train", TRAIN, "training"), ("valid", VALID, "validation")):
            axes.plot(epochs, [row[f"{split}_{metric}"] for row in history], color=colour, label=label, **style)
        axes.set_ylabel(name, **STYLE)
    for key, dashes, label in (("lr", "-", "rate of the backbone"), ("head_lr", "--", "of the new layers")):
        rate.plot(epochs, [row[key] for row in history], dashes, color=RATE, label=label, **style)
    rate.set_ylabel("Learning rate at the epoch's end", **STYLE)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    loss.set_ylim(bottom=0)
    lowest = min(min(row["train_acc"], row["valid_acc"]) for row in history)
    accuracy.set_ylim(lowest - 0.08 * max(1 - lowest, 0.1), 1)  # no point on the axis itself
    best = f"best epoch, {history[best_epoch - 1]['valid_acc']:.2%}"
    for axes in (loss, accuracy, rate):
        line = axes.axvline(best_epoch, color=BEST, linewidth=1, linestyle=":", label=best)
        axes.set_xlabel("Epoch", **STYLE)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))  # each tick takes a millisecond
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    # Above all three, where it hides no curve.
    handles = [*accuracy.get_lines()[:2], line, *rate.get_lines()[:2]]
    place = {"loc": "upper right", "ncols": len(handles), "borderaxespad": 0.2}
    figure.legend(handles=handles, fontsize=9, frameon=False, handlelength=2.6, **place)
    figure.text(0.07, 0.965, fitted(title, 2.1, 11), va="center", fontsize=11)
    return drawn(figure)


def plot_confusion(counts: np.ndarray, *, classes: Sequence[str], title: str) -> Image.Image:
    """Counts by label and prediction; the colour is the share of the label's pictures.

    Args:
        counts: integers (num_classes, num_classes); rows are labels, columns predictions.
        classes: their names, shown up to 60; of more, some indices are.
    """
    num_classes = len(classes)
    if num_classes <= 60:
        names, unit = {number: short_inside(name, 40) for number, name in enumerate(classes)}, ""
        size = 10 if num_classes <= 20 else 6
    else:
        every = 10 * math.ceil(num_classes / 500)
        names, unit = {number: str(number) for number in range(0, num_classes, every)}, " (index of the class)"
        size = 8
    longest = max(fonts.width(name, size) for name in names.values())
    angle = math.radians(40) if max(map(len, names.values())) > 3 else 0
    # In inches from the upper left corner. Only texts are matplotlib's: with axes it would take twice as long.
    side = min(14.5, 1.6 + 0.4 * num_classes)
    cell = side / num_classes
    left, top = 0.5 + max(longest, longest * math.cos(angle) - cell / 2 if angle else 0), 0.4
    right, bottom = left + side, top + side
    bar = (right + 0.2, top + side / 8, right + 0.4, bottom - side / 8)
    width, height = right + 1.15, bottom + 0.55 + longest * math.sin(angle)
    figure = Figure(figsize=(width, height))

    def write(x: float, y: float, text: str, ha: str = "center", va: str = "center", **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, ha=ha, va=va, rotation_mode="anchor", **style)

    for number, name in names.items():
        centre = (number + 0.5) * cell
        write(left - 0.07, top + centre, name, ha="right", va="center_baseline", fontsize=size)
        slanted = {"rotation": math.degrees(angle), "ha": "right"} if angle else {}
        write(left + centre, bottom + 0.05, name, va="top", fontsize=size, **slanted)
    for share in np.linspace(0, 1, 6):
        write(bar[2] + 0.1, bar[3] - share * (bar[3] - bar[1]), f"{share:.1f}", ha="left", va="center_baseline")
    write(bar[2] + 0.55, (top + bottom) / 2, "Share of the label's pictures", rotation=90, **STYLE)
    write(0.22, (top + bottom) / 2, f"Label{unit}", rotation=90, **STYLE)
    write((left + right) / 2, height - 0.18, f"Prediction{unit}", **STYLE)
    write((left + right) / 2, top / 2, title, fontsize=11)
    picture = drawn(figure)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    box = _paste_shares(picture, shares, (left, top, right, bottom))
    _paste_shares(picture, np.linspace(1, 0, 256)[:, None], bar)
    if num_classes <= 30:
        _write_counts(picture, counts, shares, box=box, size=10 if num_classes <= 12 else 7)
    return picture


def _paste_shares(picture: Image.Image, shares: np.ndarray, box: tuple[float, ...]) -> tuple[int, int, int, int]:
    """Put a framed image of `shares` (H, W) into `box`, given in inches; returns the box in pixels."""
    left, top, right, bottom = (round(DPI * inches) for inches in box)
    cells = Image.fromarray(colormaps["Blues"](shares, bytes=True)).convert("RGB")
    picture.paste(cells.resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))
    ImageDraw.Draw(picture).rectangle((left, top, right, bottom), outline="black", width=2)
    return left, top, right, bottom


def _write_counts(
    picture: Image.Image, counts: np.ndarray, shares: np.ndarray, *, box: tuple[int, int, int, int], size: float
) -> None:
    """A number in each cell of the matrix in `box`; texts of matplotlib would take ten times as long."""
    left, top, right, bottom = box
    num_classes = len(counts)
    room, longest = 0.9 * (right - left) / num_classes / DPI, fonts.width(str(counts.max()), size)
    size *= min(1, room / longest)  # no number touches its neighbour
    draw, font = ImageDraw.Draw(picture), ImageFont.truetype(findfont(fonts.USUAL), size * DPI / 72)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if shares[row, column] > 0.55 else "#222222" if counts[row, column] else "#BBBBBB"
        centre = left + (column + 0.5) * (right - left) / num_classes, top + (row + 0.5) * (bottom - top) / num_classes
        draw.text(centre, f"{counts[row, column]}", fill=colour, font=font, anchor="mm")


def plot_samples(
    images: np.ndarray, *, labels: Sequence[str], title: str, limit: int = 32, lines: int = 1
) -> Image.Image:
    """A grid of pictures with their labels.

    Args:
        images: uint8 (B, H, W, 3); the first `limit` are shown.
        lines: of each label.
    """
    images, labels = images[:limit], labels[:limit]
    columns = min(8, len(images))
    rows = math.ceil(len(images) / columns)
    height, width = images.shape[1:3]
    is_small = width < 100  # then every pixel becomes a square, all of one size
    cell_width = width * math.ceil(180 / width) if is_small else 268
    cell_height = round(cell_width * height / width)
    gap, label_height = 12, 28 + 24 * lines  # in pixels
    width_of_rows = columns * (cell_width + gap) + gap
    full_width = max(width_of_rows, 3 * DPI)  # of one picture, whose title would have a word in each line
    heading = wrapped(title, 0.96 * full_width / DPI, 10)  # letters are drawn a little wider than they are
    title_height = 30 + 34 * len(heading)
    full_height = rows * (cell_height + label_height) + title_height + gap
    figure = Figure(figsize=(full_width / DPI, full_height / DPI))
    places = []
    for number, label in enumerate(labels):
        row, column = divmod(number, columns)
        left = (full_width - width_of_rows) // 2 + gap + column * (cell_width + gap)
        top = title_height + label_height + row * (cell_height + label_height)
        places.append((left, top))
        centre, above = (left + cell_width / 2) / full_width, 1 - (top - 8) / full_height
        shown = "\n".join(fitted(line, cell_width / DPI, 7, cut=short_inside) for line in label.splitlines())
        figure.text(centre, above, shown, ha="center", va="bottom", fontsize=7)
    figure.text(0.5, 1 - 20 / full_height, "\n".join(heading), ha="center", va="top", fontsize=10)
    picture = drawn(figure)
    resampling = Image.Resampling.NEAREST if is_small else Image.Resampling.BICUBIC
    for place, image in zip(places, images, strict=True):  # axes for each of them would take ten times as long
        picture.paste(Image.fromarray(image).resize((cell_width, cell_height), resampling), place)
    return picture


def plot_reliability(*, counts: np.ndarray, confidences: np.ndarray, accuracies: np.ndarray, title: str) -> Image.Image:
    """Accuracy against confidence, and below how many answers have which confidence.

    Args:
        counts: answers in each bin of equal width from 0 to 1.
        confidences, accuracies: means of each bin.
        title: above the picture.
    """
    figure = Figure(figsize=(5.4, 5.8))
    figure.subplots_adjust(left=0.12, right=0.97, bottom=0.09, top=0.9, hspace=0.12)
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    centres, width = (np.arange(len(counts)) + 0.5) / len(counts), 1 / len(counts)
    above.plot([0, 1], [0, 1], color=BEST, linewidth=1, linestyle=":", label="what the model says")
    some = counts > 0
    above.bar(centres[some], accuracies[some], width=0.94 * width, color="#9FB8C8", label="how often it is right")
    above.plot(confidences[some], accuracies[some], "o", color=TRAIN, markersize=4)
    above.set_ylabel("Accuracy", **STYLE)
    above.set_ylim(0, 1.02)
    # Above the axes: inside, some model's bars would be behind it.
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 2, "borderaxespad": 0.3}
    above.legend(**place, fontsize=9, frameon=False)
    below.bar(centres, counts, width=0.94 * width, color="#9FB8C8")
    below.set_ylabel("Pictures", **STYLE)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.set_xlabel("Confidence: probability of the prediction", **STYLE)
    below.set_xlim(0, 1)
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return drawn(figure)


def plot_classes(classes: Mapping[str, Sequence[np.ndarray]], *, title: str, columns: int) -> Image.Image:
    """One row of pictures for each class, below its name.

    Args:
        classes: by name, uint8 arrays (S, S, 3), all of one size; at most `columns` of them are shown.
        title: above the pictures.
        columns: of the figure.
    """
    side = next(len(picture) for pictures in classes.values() for picture in pictures)
    gap = max(1, side // 32)
    figure = Figure(figsize=(1.25 * columns, 0.4 + 1.45 * len(classes)))
    figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.03)
    for axes, (name, pictures) in zip(figure.subplots(len(classes), squeeze=False).flat, classes.items(), strict=True):
        strip = np.full((side, columns * (side + gap), 3), 255, dtype=np.uint8)
        for number, picture in enumerate(pictures[:columns]):
            strip[:, number * (side + gap) :][:, :side] = picture
        axes.imshow(strip, interpolation="antialiased")
        axes.axis("off")
        axes.set_title(short(name, 80), fontsize=9, loc="left", pad=3)
    figure.suptitle(title, fontsize=10)
    return drawn(figure)


class Panel(NamedTuple):
    """Values of the same things as in the panels beside it.

    Attributes:
        label: of the axis.
        series: by name, a median with its quartiles for each thing, or None; without quartiles they equal the median.
        is_bar: bars from zero with their values; otherwise points, and a line at 1.
    """

    label: str
    series: Mapping[str, Sequence[tuple[float, float, float] | None]]
    is_bar: bool


def plot_panels(names: Sequence[str], panels: Sequence[Panel], *, title: str) -> Image.Image:
    """Things below each other, and beside them what was measured of each."""
    figure = Figure(figsize=(1.6 + 2.9 * len(panels), 1.5 + 0.36 * len(names)), layout="constrained")
    places = np.arange(len(names))
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False).flat, panels, strict=True):
        for number, ((name, values), colour) in enumerate(zip(panel.series.items(), (TRAIN, VALID), strict=False)):
            shown = [(place, *value) for place, value in zip(places, values, strict=True) if value]
            if not shown:
                continue
            place, median, low, high = np.array(shown).T
            if panel.is_bar:
                bars = axes.barh(place, median, height=0.6, color="#9FB8C8")
                axes.bar_label(bars, [f"{value:,.4g}" for value in median], padding=3, fontsize=8, color="#333333")
                continue
            offset = (number - (len(panel.series) - 1) / 2) * 0.26
            spread = [(median - low).tolist(), (high - median).tolist()]  # matplotlib 3.10 stumbles over short arrays
            style = {"fmt": "os"[number], "markersize": 5, "elinewidth": 1.4, "capsize": 2, "label": name}
            axes.errorbar(median, place + offset, xerr=spread, color=colour, **style)
        if panel.is_bar:
            axes.margins(x=0.22)
        else:
            axes.axvline(1, color=BEST, linewidth=1, linestyle=":")
        axes.set_xlabel(panel.label, **STYLE)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_axisbelow(True)
    first = figure.axes[0]
    first.set_yticks(places, names)
    first.set_ylim(len(names) - 0.5, -0.5)
    handles, labels = first.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    figure.suptitle(title, fontsize=11)
    return drawn(figure)
