"""Rows and tables say what was measured, and leave a place empty where nothing was."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from hybridnet.measure.claims import Claim
from hybridnet.measure.comparison import OUT_OF_MEMORY, Key, Measurement, Results, Subject
from hybridnet.measure.feed import Feed
from hybridnet.measure.goals import Goal
from hybridnet.measure.report import Size, claims_table, columns, csv_rows, draw, feed_table, goals_table, tables
from hybridnet.measure.rounds import Series, Spread
from hybridnet.measure.works import Case

PLAIN, HYBRID = Case("plain", None, 64), Case("hybrid", "full", 64)
SIZES = {PLAIN: Size(11_178_564, 1_813_563_392), HYBRID: Size(14_625_381, 1_987_451_904)}


@pytest.fixture
def results() -> Results:
    reference = Measurement(Series([0.5, 0.5, 0.5], [0.5] * 3), peak_bytes=200_000_000)
    other = Measurement(
        Series([0.625, 1.0, 0.5], [0.625, 1.0, 0.5]), 300_000_000, speed=Spread(0.8, 0.65, 0.9), memory=1.5
    )
    return {
        Key(Subject(PLAIN, "off"), 8): {"training": reference, "inference": reference},
        Key(Subject(HYBRID, "off"), 8): {"training": other, "inference": Measurement(note=OUT_OF_MEMORY)},
    }


def text(*shown: object) -> str:
    console = Console(file=io.StringIO(), width=80)
    for table in shown:
        console.print(table)
    return console.file.getvalue()


def test_rows_of_the_csv(results: Results) -> None:
    plain, hybrid = (dict(zip(columns(), row, strict=True)) for row in csv_rows(results, SIZES))
    assert (plain["model"], plain["size"], plain["batch_size"], plain["compile"]) == ("plain", "", 8, "off")
    assert (plain["training_images_per_second"], plain["training_speed"]) == (16.0, "")
    assert (hybrid["parameters"], hybrid["macs"]) == SIZES[HYBRID]
    assert (hybrid["training_images_per_second"], hybrid["training_speed"]) == (12.8, 0.8)
    assert (hybrid["training_p50_ms"], hybrid["training_p95_ms"], hybrid["training_num_calls"]) == (625.0, 962.5, 3)
    assert (hybrid["training_peak_bytes"], hybrid["training_memory"]) == (300_000_000, 1.5)
    assert (hybrid["inference_images_per_second"], hybrid["inference_note"]) == ("", OUT_OF_MEMORY)


def test_rows_say_what_the_overrides_have_made_of_the_model() -> None:
    case = Case("hybrid", "full", 64, overrides=("model.stem=small", "model.stage=3"))
    found = {Key(Subject(case, "off"), 8): {"inference": Measurement(note=OUT_OF_MEMORY)}}
    (row,) = (dict(zip(columns(), row, strict=True)) for row in csv_rows(found, {case: Size(1, 1)}))
    assert (row["stage"], row["stem"]) == (3, "small")


def test_tables_fit_a_terminal(results: Results) -> None:
    training, inference = (text(table) for table in tables(results, SIZES, where="64×64, cpu in bf16"))
    assert "training, batch 8, 64×64, cpu in bf16" in training and "…" not in training + inference
    words = [line.split() for line in training.splitlines()]
    assert ["plain", "16.0", "1", "200", "1", "11.18", "M", "1.814", "G"] in words
    assert ["hybrid", "full", "12.8", "0.80", "0.65-0.90", "300", "1.50", "14.63", "M", "1.987", "G"] in words
    assert ["hybrid", "full", "out", "of", "memory"] in [line.split() for line in inference.splitlines()]
    assert ["plain", "16.0", "1", "200", "1", "500.0", "500.0"] in [line.split() for line in inference.splitlines()]


def test_modes_are_told_apart(results: Results) -> None:
    other = {Key(Subject(PLAIN, "graph"), 8): {"training": Measurement(Series([0.25], [0.25]))}}
    training, _ = (text(table) for table in tables(results | other, SIZES, where=""))
    assert "plain, off" in training and "plain, graph" in training


def test_claims_and_feed() -> None:
    claim = Claim("Hybrid is slower", HYBRID, PLAIN)
    measured = {"training": Measurement(speed=Spread(0.9, 0.85, 0.95), memory=1.25), "inference": Measurement()}
    shown = " ".join(text(claims_table({(claim, 8): measured})).split())
    assert "Hybrid is slower 64 0.90 (0.85-0.95) 1.25" in shown
    feed = Feed(Spread(98, 97, 99), Spread(100, 99, 101), Spread(0.98, 0.97, 0.99), 7, 32)
    assert "auto 7 98.0 100.0 98.0% (97.0%-99.0%)" in " ".join(text(feed_table({"auto": feed})).split())


def test_picture(results: Results, tmp_path: Path) -> None:
    draw(tmp_path / "a.png", results, SIZES, title="speed")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 1200 and image.height > 400
        assert len(image.convert("RGB").getcolors(10**6)) > 50


def test_the_textbook_loop_stands_below_the_data() -> None:
    whole, half = Spread(100, 99, 101), Spread(50, 49, 51)
    feed = Feed(whole, whole, Spread(1, 1, 1), 6, 32, textbook=half, against_textbook=Spread(2, 1.9, 2.1))
    lines = [line.split() for line in text(feed_table({"off": feed})).splitlines()]
    assert ["textbook", "loop", "6", "50.0"] in lines


def test_goals_say_what_was_reached_and_how_to_measure_the_rest() -> None:
    goals = [
        Goal("first", 2.8, Spread(2.9, 2.8, 3), "a"),
        Goal("second", 15_000, Spread(14_000, 13_000, 15_000), "b"),
        Goal("third", 0.98, None, "sizes=[full]"),
        Goal("fourth", 5, Spread(4, 3, 5), "c", is_limit=True),
    ]
    shown = " ".join(text(goals_table(goals)).split())
    assert "first ≥ 2.8 2.90 (2.80-3.00) second ≥ 15,000" in shown and "14,000 (13,000-15,000), not reached" in shown
    assert "third ≥ 0.98 not measured: sizes=[full] fourth ≤ 5 4.00 (3.00-5.00)" in shown
