"""Panels side by side in one figure, each with a letter, a title and perhaps a bar of its colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

OPACITY, BEHIND = 0.6, "0.55"  # of colours over a picture in grey, and its mean grey
MOST_COLUMNS = 5
CELL, GAP, TITLE, BAR, BAR_LABEL = 2.2, 0.16, 0.42, 0.09, 0.55  # inches
TOP, BOTTOM, SIDE = 0.36, 0.34, 0.12
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


class Sheet:
    """The figure, in inches. A layout engine would measure every text twice, which takes longer than to draw them.

    Args:
        groups: of panels; each begins a row, and has as many as it needs.
        aspect: width / height of the panels.
    """

    def __init__(self, groups: Sequence[Sequence[Panel]], *, aspect: float) -> None:
        self.rows = [
            group[first : first + MOST_COLUMNS] for group in groups for first in range(0, len(group), MOST_COLUMNS)
        ]
        self.cell_height = min(max(CELL / aspect, 0.6 * CELL), 1.4 * CELL)
        self.width = max(5.0, 2 * SIDE - GAP + max(sum(map(self._width_of, row)) for row in self.rows))
        self.height = TOP + BOTTOM + len(self.rows) * (self.cell_height + TITLE)
        self.figure = Figure(figsize=(self.width, self.height))
        number = 0
        for row, panels in enumerate(self.rows, start=1):
            x, y = SIDE, self.height - TOP - row * (self.cell_height + TITLE)
            for panel in panels:
                self._add(panel, LETTERS[number % 26], x, y)
                x, number = x + self._width_of(panel), number + 1

    def write(self, text: str, distance: float, *, from_top: bool = False, **style: Any) -> None:
        """A line from the left, at a distance from the lower or upper edge."""
        y = self.height - distance if from_top else distance
        self.figure.text(SIDE / self.width, y / self.height, text, **style)

    def _add(self, panel: Panel, letter: str, x: float, y: float) -> None:
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
            axes.apply_aspect()
            self._add_bar(axes, *panel.colours)

    def _add_bar(self, axes: Axes, colours: ScalarMappable, label: str) -> None:
        """To the right of what is drawn, which may be narrower or lower than its cell."""
        beside = axes.get_position()
        x, y, height = beside.x1 * self.width, beside.y0 * self.height, beside.height * self.height
        bar = self._axes(x + 0.06, y, BAR, height)
        bar.set_facecolor(BEHIND)  # as if it lay over the picture too
        ticks = MaxNLocator(4, steps=[1, 2, 5, 10])
        self.figure.colorbar(colours, cax=bar, alpha=OPACITY, ticks=ticks).outline.set_linewidth(0.4)
        if colours.get_array().min() >= 0:
            bar.set_ylim(bottom=max(0, colours.norm.vmin))
        bar.tick_params(labelsize=6.5, length=2, width=0.4, pad=1.5)
        bar.set_ylabel(label, fontsize=7, labelpad=2)

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((x / self.width, y / self.height, width / self.width, height / self.height))

    def _width_of(self, panel: Panel) -> float:
        return CELL + GAP + (BAR + BAR_LABEL if panel.colours else 0)
