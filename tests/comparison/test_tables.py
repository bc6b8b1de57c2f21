from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from hybridnet.comparison import tables
from hybridnet.comparison.costs import Cost
from hybridnet.comparison.findings import Findings, disputed_rows
from tests.comparison.folders import CLASSES, find, write_run, write_study


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    return find(write_study(tmp_path, {"plain": 0.6, "hybrid": 0.95}))


def _printed(findings: Findings) -> str:
    console = Console(file=io.StringIO(), width=120)
    for part in tables.terminal(findings):
        console.print(part, soft_wrap=isinstance(part, str))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_markdown_has_it_all(findings: Findings) -> None:
    text = tables.markdown(findings, {"compare.png": "a caption", "only_one_1.png": "a_b"})
    assert text.startswith("# Comparison: plain, hybrid\n\nwhat was compared. Differences are to plain.\n\n| setting |")
    assert "| better (n = 3) | 12.00 M | 49.0 | 1,100 MB |" in text
    assert "| hybrid - plain | +0." in text and "(paired by seed) |" in text and "p (Holm)" not in text
    assert "![a caption](compare.png)" in text and r"![a\_b](only_one_1.png)" in text
    assert f"| {CLASSES[1]} | 30 |" in text and "no class by itself was tested" in text
    assert text.endswith("Made with\n\n    python -m x\n    python -m y\n") and "\na note\n" in text


def test_the_terminal_is_short(findings: Findings) -> None:
    text = _printed(findings)
    assert "what was compared; differences to plain" in text and "better (n = 3)" in text and "12.00 M" in text
    assert "a note\nOnly hybrid is right on" in text


def test_identical_runs_and_unknown_costs(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", [0, 1], [0, 0]), write_run(tmp_path / "[red]b", [0, 1], [0, 0])]
    findings = find(runs, [Cost(), Cost()])
    text = _printed(findings)
    assert "[0.0000, 0.0000]   1.000" in text and "cost" not in text and "Only" not in text and "[red]b" in text
    assert len(disputed_rows(findings)) == 1
    assert "only_one.csv" not in tables.markdown(findings, {})


def test_several_comparisons_show_the_corrected_p(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"plain": 0.6, "ca": 0.6, "hybrid": 0.95})
    findings = find(runs)
    assert "p (Holm)" in _printed(findings) and "| p | p (Holm) |" in tables.markdown(findings, {})
    assert "other pairs" not in _printed(findings)
    text = _printed(find(runs, pairs="all"))
    assert text.count("ca - hybrid") == 1 and "hybrid - plain" not in text and text.count("\nOnly ") == 2


def test_of_very_many_pairs_the_terminal_shows_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = write_study(tmp_path, {"plain": 0.6, "ca": 0.6, "bot": 0.7, "hybrid": 0.95}, seeds=1)
    monkeypatch.setattr(tables, "MOST_PAIRS", 2)
    text = _printed(find(runs, pairs="all"))
    assert "ca - hybrid" in text and "bot - hybrid" not in text and "… and 1 pair more, see pairs.csv\n" in text


def test_of_many_classes_those_that_change_most_are_shown(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(30)]
    labels = list(range(30)) * 2
    told = [*range(30), 0, *range(1, 28), 0, 0]
    runs = [
        write_run(tmp_path / "a", labels, labels, classes=names),
        write_run(tmp_path / "b", labels, told, classes=names, model="ca"),
    ]
    text = tables.markdown(find(runs), {})
    assert "Shown are the 20 of 30 classes" in text and "| class 29 | 2 |" in text and "| class 20 |" not in text
