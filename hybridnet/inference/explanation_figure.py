"""An explanation as one figure, good enough for a paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from hybridnet.figures import save, short
from hybridnet.inference.explanation import Attention, Explanation, Gates, Grid

# Distinct for the colour-blind: even steps of lightness, and two hues where there is a middle.
EVIDENCE, GATE, WEIGHT = "inferno", "RdBu_r", "PuOr_r"
OPACITY = 0.6
GREYS = (0.2, 0.9)  # of the picture below a map: neither hides the other's colour
LEAST_REACH = 0.05  # around the middle of a scale: what differs less stays pale
MIDDLE_GREY = str(sum(GREYS) / 2)
MOST_COLUMNS = 5
CELL, GAP, TITLE, BAR, BAR_LABEL = 2.2, 0.16, 0.42, 0.09, 0.55  # inches
TOP, BOTTOM, SIDE = 0.36, 0.34, 0.12
STRIP = 0.16  # inches of the rows' gates
Extent = tuple[float, float, float, float]  # left, right, bottom, top
FINE = 480  # points along a map's longer side
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Panel(NamedTuple):
    """One of the pictures in the figure.

    Attributes:
        title: up to two lines.
        draw: into axes that span the cell.
        colours: of the bar beside it, if it has one, with its label.
    """

    title: str
    draw: Callable[[Axes], None]
    colours: tuple[ScalarMappable, str] | None = None


def draw(explanation: Explanation, path: Path) -> None:
    """Draw the picture and all maps over the part of it that the model has seen, as PNG.

    Args:
        explanation: of one picture.
        path: of the PNG.

    Raises:
        OSError: if it cannot be written.
    """
    crop = _Crop(explanation)
    above = [_picture_panel(explanation), *_cam_panels(explanation, crop)]
    below = [*_gate_panels(explanation.gates, crop), *_attention_panels(explanation.attention, crop)]
    rows = [
        panels[first : first + MOST_COLUMNS]
        for panels in (above, below)
        for first in range(0, len(panels), MOST_COLUMNS)
    ]
    sheet = _Sheet(rows, aspect=crop.aspect)
    for number, (panel, x, y) in enumerate(sheet.places()):
        sheet.add(panel, LETTERS[number % 26], x, y)
    sheet.write(_headline(explanation), 0.1, va="top", from_top=True, fontsize=10)
    sheet.write(_footnote(explanation), 0.1, va="bottom", fontsize=7, color="#444444")
    save(sheet.figure, path)


class _Sheet:
    """The figure, in inches. A layout engine would measure every text twice, which takes longer than to draw them.

    Args:
        rows: of panels.
        aspect: width / height of the maps.
    """

    def __init__(self, rows: Sequence[Sequence[Panel]], *, aspect: float) -> None:
        self.rows = rows
        self.cell_height = min(max(CELL / aspect, 0.6 * CELL), 1.4 * CELL)
        self.width = max(5.0, 2 * SIDE - GAP + max(sum(map(self._width_of, row)) for row in rows))
        self.height = TOP + BOTTOM + len(rows) * (self.cell_height + TITLE)
        self.figure = Figure(figsize=(self.width, self.height))

    def places(self) -> Iterator[tuple[Panel, float, float]]:
        """Every panel with the lower left corner of its cell."""
        for number, panels in enumerate(self.rows, start=1):
            x, y = SIDE, self.height - TOP - number * (self.cell_height + TITLE)
            for panel in panels:
                yield panel, x, y
                x += self._width_of(panel)

    def add(self, panel: Panel, letter: str, x: float, y: float) -> None:
        """Draw a panel into its cell."""
        axes = self._axes(x, y, CELL, self.cell_height)
        axes.set_axis_off()
        axes.set_anchor("NW")
        panel.draw(axes)
        for number, line in enumerate(panel.title.splitlines()):
            height = (y + self.cell_height + TITLE - 0.17 - number * 0.14) / self.height
            self.figure.text((x + 0.14) / self.width, height, line, fontsize=7.5)
            if number == 0:
                self.figure.text(x / self.width, height, letter, fontsize=7.5, weight="bold")
        if panel.colours:
            colours, label = panel.colours
            axes.apply_aspect()
            map_ = axes.get_position()  # narrower or lower than the cell
            bar = self._axes(map_.x1 * self.width + 0.06, map_.y0 * self.height, BAR, map_.height * self.height)
            bar.set_facecolor(MIDDLE_GREY)  # as if it lay over the picture too
            colour_bar = self.figure.colorbar(
                colours, cax=bar, alpha=OPACITY, ticks=MaxNLocator(4, steps=[1, 2, 5, 10])
            )
            colour_bar.outline.set_linewidth(0.4)
            if colours.get_array().min() >= 0:
                bar.set_ylim(bottom=max(0, colours.norm.vmin))
            bar.tick_params(labelsize=6.5, length=2, width=0.4, pad=1.5)
            bar.set_ylabel(label, fontsize=7, labelpad=2)

    def write(self, text: str, distance: float, *, from_top: bool = False, **style: Any) -> None:
        """A line from the left, at a distance from the lower or upper edge."""
        y = self.height - distance if from_top else distance
        self.figure.text(SIDE / self.width, y / self.height, text, **style)

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((x / self.width, y / self.height, width / self.width, height / self.height))

    def _width_of(self, panel: Panel) -> float:
        return CELL + GAP + (BAR + BAR_LABEL if panel.colours else 0)


class _Crop:
    """The part of the picture that the model sees, in grey, and maps over it."""

    def __init__(self, explanation: Explanation) -> None:
        self.box = left, top, right, bottom = explanation.box
        self.extent = (left, right, bottom, top)
        self.aspect = (right - left) / (bottom - top)
        self.size = tuple(round(FINE * side / max(right - left, bottom - top)) for side in (bottom - top, right - left))
        grey = np.asarray(Image.fromarray(explanation.picture[top:bottom, left:right]).convert("L"))
        darkest, brightest = GREYS
        self.grey = darkest + grey / 255 * (brightest - darkest)

    def draw(self, axes: Axes, values: np.ndarray, grid: Grid, colours: ScalarMappable) -> None:
        """A map (h, w) over the crop."""
        axes.imshow(self.grey, cmap="gray", vmin=0, vmax=1, extent=self.extent, interpolation="antialiased")
        over = colours.to_rgba(grid.spread(values, self.box, size=self.size), alpha=OPACITY)
        axes.imshow(over, extent=self.extent, interpolation="antialiased")

    def draw_strip(self, axes: Axes, values: np.ndarray, extent: Extent, colours: ScalarMappable) -> None:
        """Values beside the map, in its colours."""
        left, right, bottom, top = extent
        frame = {"facecolor": MIDDLE_GREY, "edgecolor": "#999999", "linewidth": 0.8, "clip_on": False, "zorder": -1}
        axes.add_patch(Rectangle((left, bottom), right - left, top - bottom, **frame))
        axes.imshow(colours.to_rgba(values, alpha=OPACITY), extent=extent)

    def outline(self, axes: Axes, values: np.ndarray, grid: Grid) -> None:
        """Dashed lines where a map changes its sign."""
        spread = grid.spread(values, self.box, size=self.size)
        left, top, right, bottom = self.box
        y, x = (np.linspace(*ends, num) for ends, num in zip([(top, bottom), (left, right)], self.size, strict=True))
        axes.contour(x, y, spread, levels=[0], colors="black", linewidths=0.8, linestyles="dashed")


def _picture_panel(explanation: Explanation) -> Panel:
    left, top, right, bottom = explanation.box
    height, width = explanation.picture.shape[:2]
    is_whole = (right - left, bottom - top) == (width, height)

    def draw(axes: Axes) -> None:
        axes.imshow(explanation.picture, extent=(0, width, height, 0), interpolation="antialiased")
        if not is_whole:
            for colour, line in (("black", 2.2), ("white", 1.0)):  # seen on any picture
                frame = (left, top), right - left, bottom - top
                axes.add_patch(Rectangle(*frame, fill=False, edgecolor=colour, linewidth=line, clip_on=False))

    return Panel("Picture" if is_whole else "Picture; the model sees the frame", draw)


def _cam_panels(explanation: Explanation, crop: _Crop) -> list[Panel]:
    """One scale for the classes at one layer: a true class without evidence is seen to have none."""
    panels = []
    for layer in dict.fromkeys(cam.layer for cam in explanation.cams):
        cams = [cam for cam in explanation.cams if cam.layer == layer]
        values = np.stack([cam.values for cam in cams])
        colours = _colours(values, EVIDENCE, 0, values.max() or 1)
        for cam in cams:
            is_last = cam is cams[-1]
            roles = {"predicted": explanation.prediction.label, "true": explanation.true_label}
            role = " and ".join(name for name, label in roles.items() if label == cam.label)
            title = f"Grad-CAM, {cam.layer}\n{role}: {short(cam.label, 40 - len(role))}"

            def draw(axes: Axes, cam=cam, colours=colours) -> None:
                crop.draw(axes, cam.values, cam.grid, colours)
                if not cam.values.any():
                    axes.text(0.5, 0.5, "no evidence", transform=axes.transAxes, **_NOTE)

            panels.append(Panel(title, draw, (colours, "evidence") if is_last else None))
    return panels


_NOTE = {"ha": "center", "va": "center", "color": "white", "fontsize": 8}


def _gate_panels(gates: Gates | None, crop: _Crop) -> list[Panel]:
    """The product over the picture, the rows' gates to its left and the columns' above it, in the same colours."""
    if gates is None:
        return []
    neutral = gates.neutral**2
    # A row's or a column's gate is shown as the product would be if the other gate said nothing.
    rows, columns, product = gates.rows * gates.neutral, gates.columns * gates.neutral, gates.product
    colours = _around(neutral, np.concatenate([rows, columns, product.ravel()]), GATE)
    left, top, right, bottom = crop.box

    def draw(axes: Axes) -> None:
        crop.draw(axes, product, gates.grid, colours)
        strip = STRIP / CELL * max(right - left, bottom - top)
        gap = strip / 4
        by_row, by_column = (
            gates.grid.spread(np.broadcast_to(each, product.shape), crop.box, size=crop.size)
            for each in (rows[:, None], columns)
        )
        crop.draw_strip(axes, by_row[:, :1], (left - gap - strip, left - gap, bottom, top), colours)
        crop.draw_strip(axes, by_column[:1], (left, right, top - gap, top - gap - strip), colours)
        axes.set_xlim(left - gap - strip, right)
        axes.set_ylim(bottom, top - gap - strip)

    title = f"Coordinate Attention: rows, columns, product\nchanges its input by {gates.change:.1%}"
    return [Panel(title, draw, (colours, "multiplied by"))]


def _attention_panels(attention: Attention | None, crop: _Crop) -> list[Panel]:
    """One scale for all heads; 1 is the weight that every position would have if the head did not choose."""
    if attention is None:
        return []
    weights = attention.weights * attention.weights[0].size
    colours = _around(1, weights, WEIGHT)
    name = attention.layer + (f" ({attention.feature_map})" if attention.feature_map else "")
    row, column = attention.query
    x, y = attention.grid.columns[column], attention.grid.rows[row]

    def panel(head: int) -> Panel:
        def draw(axes: Axes) -> None:
            crop.draw(axes, weights[head], attention.grid, colours)
            if weights[head].min() < 0:
                crop.outline(axes, weights[head], attention.grid)
            for colour, size, line in (("black", 9, 3.2), ("white", 7.5, 1.4)):
                axes.plot(x, y, "+", color=colour, markersize=size, markeredgewidth=line, clip_on=False)
            left, right, bottom, top = crop.extent
            axes.set_xlim(left, right)
            axes.set_ylim(bottom, top)

        low, high = (_signed(value) for value in (weights[head].min(), weights[head].max()))
        title = f"{name}, head {head + 1} of {len(weights)}\n{low} to {high} times the mean weight"
        is_last = head == len(weights) - 1
        return Panel(title, draw, (colours, "times the mean weight") if is_last else None)

    return [panel(head) for head in range(len(weights))]


def _around(middle: float, values: np.ndarray, name: str) -> ScalarMappable:
    reach = max(np.abs(values - middle).max(), LEAST_REACH * middle)
    return _colours(values, name, middle - reach, middle + reach)


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _colours(values: np.ndarray, name: str, low: float, high: float) -> ScalarMappable:
    colours = ScalarMappable(Normalize(low, high), name)
    colours.set_array(values)
    return colours


def _headline(explanation: Explanation) -> str:
    prediction, true = explanation.prediction, explanation.true_label
    is_right = prediction.label == true
    text = f"Predicted{' and true' if is_right else ''}: {short(prediction.label, 30)} ({prediction.probability:.1%})"
    if true is None or is_right:
        return text
    return f"{text}. True: {short(true, 30)} ({prediction.probabilities[true]:.1%})"


def _footnote(explanation: Explanation) -> str:
    notes = []
    if explanation.attention is not None:
        shape = explanation.attention.weights.shape[1:]
        source = next(number for number, cam in enumerate(explanation.cams) if cam.values.shape == shape)
        notes.append(f"+ is the position that looks, where {LETTERS[1 + source]} is largest.")
        if explanation.attention.weights.min() < 0:
            notes.append("Within dashed lines weights are negative.")
    if explanation.missing:
        notes.append(f"The model has no {' and no '.join(explanation.missing)}.")
    return "  ".join(notes)
