from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from hybridnet.inference.sheet import LETTERS, Panel, Sheet


def panel(number: int, *, aspect: float, colours: ScalarMappable | None = None) -> Panel:
    def draw(axes: Axes) -> None:
        axes.imshow(np.zeros((round(20 / aspect), 20)))

    return Panel(f"{number}\nsecond line", draw, (colours, "unit") if colours else None)


def scale(values: list[float]) -> ScalarMappable:
    colours = ScalarMappable(Normalize(-1, 3), "PuOr_r")
    colours.set_array(values)
    return colours


@pytest.mark.parametrize("aspect", [0.25, 1.0, 4.0])
def test_panels_follow_each_other_in_rows_of_five(aspect: float) -> None:
    sheet = Sheet([[panel(n, aspect=aspect) for n in range(2)], [panel(n, aspect=aspect) for n in range(7)]], aspect=1)
    FigureCanvasAgg(sheet.figure).draw()
    places = [axes.get_position() for axes in sheet.figure.axes]
    assert [
        len([p for p in places if abs(p.y1 - y) < 1e-6]) for y in sorted({round(p.y1, 6) for p in places})[::-1]
    ] == [
        2,
        5,
        2,
    ]
    for one, other in pairwise(places):
        assert one.x1 < other.x0 or one.y0 > other.y1
    assert all(p.x0 > 0 and p.x1 < 1 and p.y0 > 0 and p.y1 < 1 for p in places)
    letters = [text.get_text() for text in sheet.figure.texts if text.get_weight() == "bold"]
    assert letters == list(LETTERS[:9])


def test_a_bar_stands_beside_what_is_drawn_and_shows_no_values_that_cannot_be() -> None:
    for values, lowest in (([0.5, 3], 0), ([-0.5, 3], -1)):
        sheet = Sheet([[panel(0, aspect=0.25, colours=scale(values))]], aspect=0.25)
        FigureCanvasAgg(sheet.figure).draw()
        drawn, bar = (axes.get_position() for axes in sheet.figure.axes)
        assert 0 < (bar.x0 - drawn.x1) * sheet.width < 0.1
        assert (bar.y0, bar.y1) == pytest.approx((drawn.y0, drawn.y1))
        assert sheet.figure.axes[1].get_ylim() == (lowest, 3)
