from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from hybridnet.sweep.study import Study, read_study
from hybridnet.sweep.tables import csv_rows, markdown, terminal
from tests.sweep.folders import SweepFolder


@pytest.fixture
def study(tmp_path: Path) -> Study:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads, value in ((2, 0.90), (4, 0.80)):
        for seed in (0, 1):
            values = {"valid_loss": 0.25, "train_seconds": 12.5, "num_parameters": 7}
            sweep.add(value + seed / 100, f"model.heads={heads}", f"seed={seed}", **values)
    sweep.add(None, "model.heads=8", "seed=0", status="failed", error="ValueError: a | b\nof `c` <b>", curve=[0.1])
    sweep.add(0.2, "model.heads=8", "seed=1", status="pruned")
    sweep.add(None, "model.heads=8", "seed=2", status="pending")
    return read_study([sweep.folder])


def _printed(study: Study) -> str:
    console = Console(file=io.StringIO(), width=100)
    for part in terminal(study):
        console.print(part, soft_wrap=isinstance(part, str), markup=not isinstance(part, str))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_csv_has_a_row_for_each_job(study: Study) -> None:
    heading, *rows = csv_rows(study)
    assert heading == [
        *("number", "folder", "status", "attempt", "model.heads", "seed", "monitored_valid_acc"),
        *("valid_acc", "valid_loss", "valid_macro_f1", "best_epoch", "epochs"),
        *("train_seconds", "train_images_per_second", "num_parameters", "error"),
    ]
    assert rows[1] == ["1", "1_heads=2,seed=1", "complete", 1, "2", "1", 0.91, 0.91, 0.25, "", 2, 3, 12.5, "", 7, ""]
    assert rows[4][2:7] == ["failed", 1, "8", "0", ""]
    assert rows[4][11] == 1 and rows[4][-1] == "ValueError: a | b of `c` <b>"
    assert [row[2] for row in rows[5:]] == ["pruned", "pending"]


def test_markdown_has_the_ranking_and_the_rest(study: Study) -> None:
    text = markdown(study)
    assert "| rank | heads | valid\\_acc | n | verdict |\n| --- | --- | --- | --- | --- |" in text
    assert "| 1 | 2 | 0.9050 ± 0.0071 | 2 | best |\n| 2 | 4 | 0.8050 ± 0.0071 | 2 | worse |\n\n" in text
    assert "- 4 `4_heads=8,seed=0`: ValueError: a \\| b of \\`c\\` \\<b\\>" in text
    assert "## Pruned\n\n- 5 `5_heads=8,seed=1`: after 3 epochs" in text
    assert "- 6 `6_heads=8,seed=2`: pending" in text
    assert "    python train.py model.size=lite trainer.epochs=3 model.heads=2 seed=1\n" in text
    assert "python -m hybridnet.report sweep=" in text


def test_notes_have_no_tags_in_markdown(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads in (1, 2, 4):
        sweep.add(heads / 10, f"model.heads={heads}")
    assert "name=\\<name\\> seeds=5 shows" in markdown(read_study([sweep.folder]))


def test_the_terminal_is_short(study: Study, tmp_path: Path) -> None:
    text = _printed(study)
    assert text.index("0.9050 ± 0.0071") < text.index("0.8050 ± 0.0071")
    assert "failed: 4 4_heads=8,seed=0: ValueError: a | b of `c` <b>" in text
    many = SweepFolder(tmp_path / "many")
    for number in range(14):
        many.add(0.9, f"model.heads={number}")
    for number in range(14, 24):
        many.add(None, f"model.heads={number}", status="failed", error="[red]x[/red]")
    text = _printed(read_study([many.folder]))
    assert "… and 4 settings more" in text and "… and 5 more that failed" in text
    assert text.count("failed: ") == 5 and "[red]x[/red]" in text


def test_many_axes_stand_in_one_column(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for number in range(2):
        sweep.add(0.9, f"data.progressive=[red]{number}", *(f"model.x{place}={number}" for place in range(5)))
    assert "progressive=[red]0, x0=0, x1=0," in _printed(read_study([sweep.folder]))


def test_nothing_is_no_error(tmp_path: Path) -> None:
    empty = read_study([SweepFolder(tmp_path / "empty").folder])
    assert len(csv_rows(empty)) == 1
    assert "there is nothing to compare" in markdown(empty) and "there is nothing to compare" in _printed(empty)


def test_folds_have_a_column_of_the_jobs_and_none_of_the_ranking(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads in (2, 4):
        for fold in (0, 1):
            value = heads / 10 + fold / 100
            sweep.add(value, f"model.heads={heads}", f"data.fold={fold}", pictures=f"{heads}, {fold}")
    study = read_study([sweep.folder])
    heading, *rows = csv_rows(study)
    assert heading[4:7] == ["model.heads", "data.fold", "seed"] and [row[5] for row in rows] == ["0", "1", "0", "1"]
    text, printed = markdown(study), _printed(study)
    assert "| rank | heads | valid\\_acc | n | verdict |" in text
    assert "| 1 | 4 | 0.4050 ± 0.0071 | 2 | best |\n| 2 | 2 | 0.2050 ± 0.0071 | 2 | other pictures |\n" in text
    for said in (text, printed):
        assert "Each mean is over 2 folds." in said and "was measured on other pictures than the best" in said
    command = "python train.py -m model.size=lite trainer.epochs=3 model.heads=4 data.fold=0,1"
    assert f"The best settings, on all 2 folds, again:\n\n    {command}\n" in text
    assert f"best settings, on all folds: {command}" in printed
