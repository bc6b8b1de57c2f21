"""Letters that matplotlib's usual font does not have; tests find them in another font that comes with it."""

from __future__ import annotations

import logging
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.textpath import TextPath
from PIL import ImageFont

from hybridnet import fonts
from hybridnet.figures import plot_confusion

ONE, TWO = "\u1d81", "\u1d84"  # in STIXGeneral, and not in DejaVu Sans
NOWHERE = "稻"


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> list[FontEntry]:
    """The fonts that come with matplotlib are all that there are."""
    own = [entry for entry in fontManager.ttflist if Path(entry.fname).is_relative_to(matplotlib.get_data_path())]
    monkeypatch.setattr(fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    monkeypatch.setattr(fonts, "_told", set())
    fonts._others.cache_clear()
    return own


def stix(listed: list[FontEntry]) -> FontEntry:
    return next(e for e in listed if (e.name, e.style, e.weight) == ("STIXGeneral", "normal", 400))


@pytest.mark.parametrize("text", ["", "leaf blast", "Müde Blätter, ржавчина\n№ 1 → 2"])
def test_usual_letters_need_the_usual_font_alone(text: str) -> None:
    assert fonts.families(text) == [fonts.USUAL]


def test_other_letters_bring_the_plainest_font_that_has_most_of_them() -> None:
    assert fonts.families(f"leaf {ONE}") == [fonts.USUAL, "STIXGeneral"]
    only_mono, only_stix = "\u2314", "\u20e4"  # DejaVu Sans Mono, and STIX
    assert fonts.families(f"{only_mono}{only_stix}{TWO}") == [fonts.USUAL, "STIXGeneral", "DejaVu Sans Mono"]


@pytest.mark.parametrize("name", ["x", "Bacterial leaf blight", "Ölfleck (früh)", "a" * 40])
def test_the_width_of_a_name_is_matplotlibs(name: str) -> None:
    expected = TextPath((0, 0), name, size=10).get_extents().x1 / 72
    assert fonts.width(name, 10) == pytest.approx(expected, rel=0.05, abs=0.01)


def test_the_width_of_several_lines_is_that_of_the_longest() -> None:
    assert fonts.width("late\nLeaf smut", 10) == fonts.width("Leaf smut", 10)
    assert fonts.width("", 10) == 0


def test_widths_are_those_of_the_fonts_that_have_the_letters(listed: list[FontEntry]) -> None:
    def inches(text: str, file: str, size: float) -> float:
        return ImageFont.truetype(file, 100 * size).getlength(text) / 100 / 72

    usual, other = font_manager.findfont(fonts.USUAL), stix(listed).fname
    assert fonts.width("leaf", 7) == pytest.approx(inches("leaf", usual, 7), rel=0.01)
    expected = inches(f"{ONE}{TWO}", other, 10) + inches("leaf ", usual, 10)
    assert fonts.width(f"a\nleaf {ONE}{TWO}\nb", 10) == pytest.approx(expected, rel=0.01)


def test_what_no_font_has_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert fonts.families(NOWHERE) == [fonts.USUAL]
        assert fonts.families(f"瘟 {NOWHERE}\n\u200b{ONE}") == [fonts.USUAL, "STIXGeneral"]
        fonts.families(f"{NOWHERE}{TWO}")
    told = "no font on this machine has {}: boxes stand for these letters in the pictures"
    assert [record.getMessage() for record in caplog.records] == [told.format(NOWHERE), told.format("瘟")]


def test_a_font_that_was_installed_since_is_found(listed: list[FontEntry], monkeypatch: pytest.MonkeyPatch) -> None:
    file = stix(listed).fname
    listed[:] = [entry for entry in listed if entry.name == fonts.USUAL]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["/nowhere/removed.ttf", __file__, file])
    assert fonts.families(ONE) == [fonts.USUAL, "STIXGeneral"]


def test_a_font_that_is_gone_does_not_matter(listed: list[FontEntry]) -> None:
    listed.insert(0, FontEntry(fname="/nowhere/a.ttf", name="A Sans", style="normal", variant="", weight=400))
    listed.insert(0, FontEntry(fname=__file__, name="A Sans", style="normal", variant="", weight=400))
    assert fonts.families(ONE) == [fonts.USUAL, "STIXGeneral"]


def test_they_are_drawn(listed: list[FontEntry]) -> None:
    def drawn(name: str) -> np.ndarray:
        return np.asarray(plot_confusion(np.eye(2, dtype=int), classes=["leaf", name], title="title"))

    one, two = drawn(ONE), drawn(TWO)
    assert one.shape != two.shape or (one != two).any()
    listed[:] = [entry for entry in listed if entry.name == fonts.USUAL]
    fonts._others.cache_clear()
    assert (drawn(ONE) == drawn(TWO)).all()  # boxes
