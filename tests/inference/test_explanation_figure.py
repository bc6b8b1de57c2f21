"""The figure: every map over the part of the picture that it belongs to, and no text over another."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hybridnet.inference import explanation_figure
from hybridnet.inference.explanation import Explanation
from hybridnet.inference.explanation_figure import draw
from hybridnet.inference.maps import Attention, Cam, Gates, Grid
from hybridnet.inference.trained import Prediction

LONG = "a class whose name is far too long for any panel's title"


def explanation(
    shape: tuple[int, int] = (60, 90),
    box: tuple[int, int, int, int] = (20, 5, 80, 55),
    *,
    cell: tuple[int, int] = (1, 3),
    true_label: str | None = LONG,
    has_attention: bool = True,
    heads: int = 4,
    lowest: float = 0.5,
) -> Explanation:
    """A picture that is black but for a white spot at a position of the maps, which are largest there."""
    left, top, right, bottom = box
    grid = Grid(top + (np.arange(5) + 0.5) * (bottom - top) / 5, left + (np.arange(6) + 0.5) * (right - left) / 6)
    row, column = grid.rows[cell[0]], grid.columns[cell[1]]
    picture = np.zeros((*shape, 3), np.uint8)
    picture[round(row) - 3 : round(row) + 3, round(column) - 3 : round(column) + 3] = 255
    hot = np.zeros((5, 6), np.float32)
    hot[cell] = 1
    prediction = Prediction("leaf", 0.75, {"leaf": 0.75, LONG: 0.25})
    labels = list(dict.fromkeys(["leaf", true_label or "leaf"]))
    cams = [Cam(name, layer, hot, grid) for layer in ("layer4", "layer4 + attention") for name in labels]
    gates = Gates(1 + hot.sum(axis=1) / 4, 1 + hot.sum(axis=0) / 4, 1 + hot / 2, 0.1, 1.0, grid)
    weights = np.stack([np.where(hot == 1, 3, lowest)] * heads) / 30
    attention = Attention("BoTLinear", "inline", weights, cell, grid)
    if not has_attention:
        missing = ("Coordinate Attention", "BoT or BoTLinear attention")
        return Explanation(picture, box, prediction, true_label, tuple(cams[: len(labels)]), None, None, missing)
    return Explanation(picture, box, prediction, true_label, tuple(cams), gates, attention, ())


@pytest.fixture
def figure_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The figure as it is saved, with all places worked out."""

    def drawn(found: Explanation) -> Figure:
        figures: list[Figure] = []
        monkeypatch.setattr(explanation_figure, "FINE", 120)  # the time is in their number
        monkeypatch.setattr(explanation_figure, "save", lambda figure, path: figures.append(figure))
        draw(found, tmp_path / "a.png")
        figures[0].set_dpi(72)
        FigureCanvasAgg(figures[0]).draw()
        return figures[0]

    return drawn


def maps(figure: Figure) -> list[Axes]:
    """The axes with something over a crop in grey."""
    return [axes for axes in figure.axes if len(axes.images) > 1]


def words(figure: Figure) -> list:
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    for axes in figure.axes:
        texts += [axes.yaxis.label, *axes.get_yticklabels()] if axes.axison else []
    return [text for text in texts if text.get_text() and text.get_visible()]


PICTURES = {
    "landscape": ((60, 90), (20, 5, 80, 55), (1, 4)),
    "portrait": ((90, 60), (5, 10, 55, 85), (3, 1)),
    "whole": ((50, 70), (0, 0, 70, 50), (2, 3)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_map_is_largest_over_the_spot(name: str, figure_of) -> None:
    shape, box, cell = PICTURES[name]
    found = explanation(shape, box, cell=cell)
    rows, columns = np.nonzero(found.picture[..., 0])
    spot = rows.mean() + 0.5, columns.mean() + 0.5
    left, top, right, bottom = box
    figure = figure_of(found)
    assert len(maps(figure)) == 4 + 1 + 4
    for axes in maps(figure):
        below, over = axes.images[:2]
        assert tuple(below.get_extent()) == tuple(over.get_extent()) == (left, right, bottom, top)
        for values in (below.get_array(), over.get_array()[..., :3]):
            contrast = np.abs(np.asarray(values, float) - np.asarray(values[0, 0], float))  # to a corner
            contrast = contrast if contrast.ndim == 2 else contrast.sum(axis=2)
            i, j = (places.mean() + 0.5 for places in np.nonzero(contrast > 0.9 * contrast.max()))
            height, width = contrast.shape
            where = top + i * (bottom - top) / height, left + j * (right - left) / width
            assert where == pytest.approx(spot, abs=1.5)
        assert axes.yaxis_inverted() and not axes.xaxis_inverted()


@pytest.mark.parametrize("name", PICTURES)
def test_strips_of_gates_lie_beside_their_rows_and_columns(name: str, figure_of) -> None:
    shape, box, cell = PICTURES[name]
    left, top, right, bottom = box
    (axes,) = (axes for axes in maps(figure_of(explanation(shape, box, cell=cell))) if len(axes.images) == 4)
    by_row, by_column = axes.images[2:]
    x0, x1, y0, y1 = by_row.get_extent()
    assert x0 < x1 < left and (y0, y1) == (bottom, top) and by_row.get_array().shape[1] == 1
    x0, x1, y0, y1 = by_column.get_extent()
    assert y1 < y0 < top and (x0, x1) == (left, right) and by_column.get_array().shape[0] == 1
    assert axes.get_xlim()[0] <= by_row.get_extent()[0] and axes.get_ylim()[1] <= y1, "they are seen"


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_shown_whole_with_a_frame_around_what_is_seen(name: str, figure_of) -> None:
    shape, (left, top, right, bottom), cell = PICTURES[name]
    found = explanation(shape, (left, top, right, bottom), cell=cell)
    first = figure_of(found).axes[0]
    np.testing.assert_array_equal(first.images[0].get_array(), found.picture)
    frames = {(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in first.patches}
    assert frames == (set() if name == "whole" else {(left, top, right - left, bottom - top)})


@pytest.mark.parametrize(
    "found",
    [
        explanation(),
        explanation(true_label=None, heads=8, lowest=-0.5),
        explanation((60, 300), (120, 5, 140, 55), cell=(1, 0)),
        explanation((300, 60), (5, 140, 55, 160), cell=(1, 0)),
        explanation(has_attention=False),
    ],
    ids=["wrong", "many heads", "narrow", "flat", "plain"],
)
def test_nothing_lies_over_another_or_leaves_the_figure(found: Explanation, figure_of) -> None:
    figure = figure_of(found)
    boxes = [(text.get_text(), text.get_window_extent().shrunk(0.98, 0.9)) for text in words(figure)]
    assert len(boxes) > 5
    inside = figure.bbox
    for text, box in boxes:
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1, text
    for (one, box), (other, second) in combinations(boxes, 2):
        assert not box.overlaps(second), (one, other)
    places = [axes.get_window_extent().shrunk(0.98, 0.98) for axes in figure.axes]
    assert not [1 for one, other in combinations(places, 2) if one.overlaps(other)]
    for place in places:
        for text, box in boxes:
            assert not place.overlaps(box), text


def test_the_headline_says_what_is_predicted_and_what_is_true(figure_of) -> None:
    def headline(**settings) -> str:
        texts = [text.get_text() for text in figure_of(explanation(has_attention=False, **settings)).texts]
        return next(text for text in texts if text.startswith("Predicted"))

    assert headline(true_label=None) == "Predicted: leaf (75.0%)"
    assert headline(true_label="leaf") == "Predicted and true: leaf (75.0%)"
    assert headline() == "Predicted: leaf (75.0%). True: a class whose name is far too… (25.0%)"


def test_what_is_missing_and_what_is_negative_is_said(figure_of) -> None:
    def texts(found: Explanation) -> str:
        return " ".join(text.get_text() for text in figure_of(found).texts)

    assert "The model has no Coordinate Attention and no BoT or BoTLinear attention." in texts(
        explanation(has_attention=False)
    )
    positive = texts(explanation())
    assert "+ is the position that looks, where b is largest." in positive and "negative" not in positive
    negative = texts(explanation(lowest=-0.5))
    assert "Within dashed lines weights are negative." in negative
    assert "BoTLinear (inline), head 1 of 4" in negative and "−0.50 to 3.00 times the mean weight" in negative


def test_a_class_without_evidence_is_said_to_have_none(figure_of) -> None:
    found = explanation()
    cams = [cam if cam.label == "leaf" else cam._replace(values=0 * cam.values) for cam in found.cams]
    figure = figure_of(Explanation(**{**vars(found), "cams": tuple(cams)}))
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["no evidence"] * 2


def test_the_figure_is_a_png(tmp_path: Path) -> None:
    draw(explanation(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.width > 2000
