from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.comparison import tables
from hybridnet.comparison.findings import Findings, class_rows, csv_rows, disputed_rows, pair_rows, run_rows
from tests.comparison.folders import CLASSES, find, write_run, write_study


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    return find(write_study(tmp_path, {"plain": 0.6, "hybrid": 0.95}))


def test_csv_has_a_row_for_each_group(findings: Findings) -> None:
    heading, plain, hybrid = csv_rows(findings)
    own = dict(zip(heading, hybrid, strict=True))
    (pair,) = findings.comparison.pairs
    assert own["setting"] == "hybrid" and own["n"] == 3 and own["baseline"] == "plain"
    assert own["difference"] == pytest.approx(pair.difference) and own["p"] == pytest.approx(pair.p)
    assert own["verdict"] == "better (n = 3)" and own["num_parameters"] == 12_000_000 and own["macs"] == ""
    base = dict(zip(heading, plain, strict=True))
    assert base["difference"] == base["p"] == "" and base["verdict"] == "baseline"


def test_csv_of_pairs_runs_classes_and_pictures(findings: Findings) -> None:
    heading, row = pair_rows(findings)
    own = dict(zip(heading, row, strict=True))
    assert own["first"] == "hybrid" and own["n_second"] == 3 and own["pictures"] == own["independent"] == 90
    assert own["t_test"] == "paired by seed" and own["test"].startswith("bootstrap")
    rows = run_rows(findings)
    assert [row[:3] for row in rows[1:4]] == [["plain", "", "0"], ["plain", "", "1"], ["plain", "", "2"]]
    assert len(rows) == 7 and rows[1][3] == pytest.approx(findings.comparison.paired.accuracies(0)[0])
    heading, *rows = class_rows(findings)
    assert len(rows) == 6 and rows[0][1] == CLASSES[0] and rows[0][6:] == [0, 0, 0]
    recall, base = findings.classes[1].recall[2], findings.classes[0].recall[2]
    assert rows[5][heading.index("recall_difference")] == pytest.approx(recall - base)
    heading, *rows = disputed_rows(findings)
    assert len(rows) == findings.comparison.pairs[0].only_first + findings.comparison.pairs[0].only_second
    own = dict(zip(heading, rows[0], strict=True))
    assert own["right"] == "hybrid" and own["share_right"] > 0.5 >= own["share_wrong"]
    assert own["prediction_of_wrong"] != own["label"]


def test_what_the_pictures_do_not_tell_is_left_empty(tmp_path: Path) -> None:
    """A class that is neither there nor predicted."""
    runs = [write_run(tmp_path / model, [0, 0, 1, 1], [0, 1, 1, 1], model=model) for model in ("plain", "ca")]
    heading, *rows = class_rows(found := find(runs))
    assert rows[2][heading.index("class")] == CLASSES[2] and rows[2][2:] == [0, *[""] * 6]
    assert rows[1][2] == 2 and "" not in rows[1]
    of_class = next(line for line in tables.markdown(found, {}).splitlines() if line.startswith(f"| {CLASSES[2]} "))
    assert [cell.strip() for cell in of_class.strip("|").split("|")[1:]] == ["0", "–", "–", "–", "–"]
