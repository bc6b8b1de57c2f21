from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from hybridnet.comparison import tables
from hybridnet.comparison.by_class import by_class
from hybridnet.comparison.costs import Cost, costs
from hybridnet.comparison.differences import Pairs
from hybridnet.comparison.disagreement import disputed
from hybridnet.comparison.tables import Findings
from tests.comparison.folders import CLASSES, compare, write_run, write_study


def _findings(runs: list[Path], of_groups: list[Cost] | None = None, *, pairs: Pairs = "baseline") -> Findings:
    comparison = compare(runs, pairs=pairs)
    paired = comparison.paired
    return Findings(
        comparison,
        of_groups or costs(paired.groups, None)[0],
        [by_class(paired, group) for group in range(len(paired.groups))],
        [disputed(paired, pair) for pair in comparison.pairs],
        subject="what was compared",
        notes=["a note"],
        command="python -m x\npython -m y",
    )


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    return _findings(write_study(tmp_path, {"plain": 0.6, "hybrid": 0.95}))


def _printed(findings: Findings) -> str:
    console = Console(file=io.StringIO(), width=120)
    for part in tables.terminal(findings):
        console.print(part, soft_wrap=isinstance(part, str))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_csv_has_a_row_for_each_group(findings: Findings) -> None:
    heading, plain, hybrid = tables.csv_rows(findings)
    own = dict(zip(heading, hybrid, strict=True))
    (pair,) = findings.comparison.pairs
    assert own["setting"] == "hybrid" and own["n"] == 3 and own["baseline"] == "plain"
    assert own["difference"] == pytest.approx(pair.difference) and own["p"] == pytest.approx(pair.p)
    assert own["verdict"] == "better (n = 3)" and own["num_parameters"] == 12_000_000 and own["macs"] == ""
    base = dict(zip(heading, plain, strict=True))
    assert base["difference"] == base["p"] == "" and base["verdict"] == "baseline"


def test_csv_of_pairs_runs_classes_and_pictures(findings: Findings) -> None:
    heading, row = tables.pair_rows(findings)
    own = dict(zip(heading, row, strict=True))
    assert own["first"] == "hybrid" and own["n_second"] == 3 and own["pictures"] == own["independent"] == 90
    assert own["t_test"] == "paired by seed" and own["test"].startswith("bootstrap")
    rows = tables.run_rows(findings)
    assert [row[:3] for row in rows[1:4]] == [["plain", "", "0"], ["plain", "", "1"], ["plain", "", "2"]]
    assert len(rows) == 7 and rows[1][3] == pytest.approx(findings.comparison.paired.accuracies(0)[0])
    heading, *rows = tables.class_rows(findings)
    assert len(rows) == 6 and rows[0][1] == CLASSES[0] and rows[0][6:] == [0, 0, 0]
    recall, base = findings.classes[1].recall[2], findings.classes[0].recall[2]
    assert rows[5][heading.index("recall_difference")] == pytest.approx(recall - base)
    heading, *rows = tables.disputed_rows(findings)
    assert len(rows) == findings.comparison.pairs[0].only_first + findings.comparison.pairs[0].only_second
    own = dict(zip(heading, rows[0], strict=True))
    assert own["right"] == "hybrid" and own["share_right"] > 0.5 >= own["share_wrong"]
    assert own["prediction_of_wrong"] != own["label"]


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
    findings = _findings(runs, [Cost(), Cost()])
    text = _printed(findings)
    assert "[0.0000, 0.0000]   1.000" in text and "cost" not in text and "Only" not in text and "[red]b" in text
    assert len(tables.disputed_rows(findings)) == 1
    assert "only_one.csv" not in tables.markdown(findings, {})


def test_several_comparisons_show_the_corrected_p(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"plain": 0.6, "ca": 0.6, "hybrid": 0.95})
    findings = _findings(runs)
    assert "p (Holm)" in _printed(findings) and "| p | p (Holm) |" in tables.markdown(findings, {})
    assert "other pairs" not in _printed(findings)
    text = _printed(_findings(runs, pairs="all"))
    assert text.count("ca - hybrid") == 1 and "hybrid - plain" not in text and text.count("\nOnly ") == 2


def test_of_many_classes_those_that_change_most_are_shown(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(30)]
    labels = list(range(30)) * 2
    told = [*range(30), 0, *range(1, 28), 0, 0]
    runs = [
        write_run(tmp_path / "a", labels, labels, classes=names),
        write_run(tmp_path / "b", labels, told, classes=names, model="ca"),
    ]
    text = tables.markdown(_findings(runs), {})
    assert "Shown are the 20 of 30 classes" in text and "| class 29 | 2 |" in text and "| class 20 |" not in text
