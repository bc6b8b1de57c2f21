"""An explanation as one figure, good enough for a paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from PIL import Image

from hybridnet.drawing import save, short
from hybridnet.inference.explanation import Explanation
from hybridnet.inference.maps import Attention, Gates, Grid
from hybridnet.inference.sheet import BEHIND, LETTERS, OPACITY, Panel, Sheet

# Distinct for the colour-blind: even steps of lightness, and two hues where there is a middle.
EVIDENCE, GATE, WEIGHT = "inferno", "RdBu_r", "PuOr_r"
GREYS = (0.2, 0.9)  # of the picture below a map: neither hides the other's colour
LEAST_REACH = 0.05  # around the middle of a scale: what differs less stays pale
STRIP = 0.07  # of a map's longer side: the rows' gates
FINE = 480  # points along a map's longer side
NOTE = {"ha": "center", "va": "center", "color": "white", "fontsize": 8}
Extent = tuple[float, float, float, float]  # left, right, bottom, top


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
    sheet = Sheet([above, below], aspect=crop.aspect)
    sheet.write(_headline(explanation), 0.1, va="top", from_top=True, fontsize=10)
    sheet.write(_footnote(explanation), 0.1, va="bottom", fontsize=7, color="#444444")
    save(sheet.figure, path)


def scale_around(middle: float, values: np.ndarray) -> tuple[float, float]:
    """The lower and the upper end of a scale with this middle that has all values on it."""
    reach = float(max(np.abs(values - middle).max(), LEAST_REACH * middle))
    return middle - reach, middle + reach


def signed(value: float) -> str:
    """`0.83`, `−0.02`."""
    return f"{value:.2f}".replace("-", "−")


class _Crop:
    """The part of the picture that the model sees, in grey, and maps over it."""

    def __init__(self, explanation: Explanation) -> None:
        self.box = left, top, right, bottom = explanation.box
        self.extent = (left, right, bottom, top)
        self.aspect = (right - left) / (bottom - top)
        sides, longest = (bottom - top, right - left), max(bottom - top, right - left)
        self.size = tuple(max(2, round(FINE * side / longest)) for side in sides)
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
        frame = {"facecolor": BEHIND, "edgecolor": "#999999", "linewidth": 0.8, "clip_on": False, "zorder": -1}
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
                    axes.text(0.5, 0.5, "no evidence", transform=axes.transAxes, **NOTE)

            panels.append(Panel(title, draw, (colours, "evidence") if is_last else None))
    return panels


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
        strip = STRIP * max(right - left, bottom - top)
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

        low, high = (signed(value) for value in (weights[head].min(), weights[head].max()))
        title = f"{name}, head {head + 1} of {len(weights)}\n{low} to {high} times the mean weight"
        is_last = head == len(weights) - 1
        return Panel(title, draw, (colours, "times the mean weight") if is_last else None)

    return [panel(head) for head in range(len(weights))]


def _around(middle: float, values: np.ndarray, name: str) -> ScalarMappable:
    return _colours(values, name, *scale_around(middle, values))


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
