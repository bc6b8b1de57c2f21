"""The drawing kit; `tests/test_figures.py` and `tests/test_fonts.py` look at what is drawn with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from hybridnet import drawing, fonts


@pytest.mark.parametrize("cut", [drawing.short, drawing.short_inside])
@pytest.mark.parametrize("width", [0.01, 0.3, 1.0, 9.0])
def test_a_text_is_cut_at_the_last_letter_that_fits(width: float, cut: Callable[[str, int], str]) -> None:
    text = "illicit WWWW trillium"
    fitted = drawing.fitted(text, width, 7, cut=cut)
    if width == 9:
        assert fitted == text
    elif width == 0.01:
        assert fitted == "…", "never nothing"
    else:
        longer = cut(text, len(fitted) + 1)
        assert fonts.width(fitted, 7) <= width < fonts.width(longer, 7)


@pytest.mark.parametrize("limit", [1, 2, 3, 8, 9])
def test_a_name_is_cut_in_the_middle_to_its_limit(limit: int) -> None:
    name = drawing.short_inside("0123456789", limit)
    beginning, ending = name.split("…")
    assert len(name) == limit and len(beginning) - len(ending) in (0, 1)
    assert "0123456789".startswith(beginning) and "0123456789".endswith(ending)


def test_a_figure_is_written_as_it_is_drawn(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    figure.text(0.5, 0.5, "leaf")
    drawing.save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (2 * drawing.DPI, drawing.DPI))
        assert image.tobytes() == drawing.drawn(figure).tobytes()


def test_a_text_in_lines_of_a_width() -> None:
    lines = drawing.wrapped("some words, and anotheronethatislongerthanaline, in lines", 1.0, 10)
    assert lines[0] == "some words," and lines[-1] == "in lines" and "…" in lines[-2]
    assert all(fonts.width(line, 10) <= 1 for line in lines)
    assert drawing.wrapped("", 1.0, 10) == [""] and drawing.wrapped("one", 9.0, 10) == ["one"]
