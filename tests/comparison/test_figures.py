from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridnet.comparison import figures
from hybridnet.comparison.costs import Cost
from tests.comparison.folders import compare, write_run, write_study


def _inks(path: Path, *colours: str) -> list[int]:
    """How many pixels of a picture have each colour."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return [int((pixels == [int(c[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1).sum()) for c in colours]


def test_differences_and_costs_are_drawn(tmp_path: Path) -> None:
    comparison = compare(write_study(tmp_path, {"plain": 0.6, "ca": 0.7, "hybrid": 0.9}))
    costs = [Cost(11e6, 50.0, 1e9), Cost(11.1e6, 49.0, 1e9, latency=3.0), Cost(14e6, None, 1.2e9, latency=5.0)]
    figures.plot_comparison(tmp_path / "all.png", comparison, costs, title="title")
    assert min(_inks(tmp_path / "all.png", *figures.COLOURS[:3])) > 500
    figures.plot_comparison(tmp_path / "none.png", comparison, [Cost()] * 3, title="title")
    with Image.open(tmp_path / "all.png") as full, Image.open(tmp_path / "none.png") as narrow:
        assert full.width > 2 * narrow.width, "three panels of costs, of which memory is left out, or none"
    assert min(_inks(tmp_path / "none.png", *figures.COLOURS[:3])) > 100


def test_identical_runs_and_long_names_are_drawn(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", [0, 1], [0, 0], typed={"model.dropout": "$5 " * 30}),
        write_run(tmp_path / "b", [0, 1], [0, 0], typed={"model.dropout": "x" * 90}),
    ]
    figures.plot_comparison(tmp_path / "x.png", compare(runs), [Cost(1e6), Cost(1e6)], title="title")
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_groups_differ_in_colour_or_marker() -> None:
    styles = [figures._style(group) for group in range(56)]
    assert len({(style["color"], style["fmt"]) for style in styles}) == 56
    assert len({style["color"] for style in styles[:7]}) == len({style["fmt"] for style in styles[:8]}) - 1 == 7


@pytest.mark.parametrize("number", [1, 5, 40])
def test_thumbnails_are_drawn_up_to_two_rows(tmp_path: Path, number: int) -> None:
    red = np.full((20, 20, 3), [200, 10, 10], dtype=np.uint8)
    tiles = [(red, figures.lines("label", "other"))] * number
    path = tmp_path / "x.png"
    figures.plot_only_one(path, {"one": tiles, "none": [], "other": tiles[:1]}, title="title")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
        area = np.prod([round(1.35 * 200)] * 2)
    share = ((pixels[..., 0] > 180) & (pixels[..., 1] < 30)).sum() / area
    assert share == pytest.approx(min(number, 16) + 1, rel=0.05)


def test_headings_say_how_many_are_shown() -> None:
    assert figures.heading("ca", 1, 1) == "only ca is right: 1 picture"
    assert figures.heading("ca", 30, 16) == "only ca is right: 30 pictures (16 shown)"
    assert figures.lines("a" * 50, "b") == f"{'a' * 29}…\nsaid: b"
