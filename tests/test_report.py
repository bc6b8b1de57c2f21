"""`python -m hybridnet.report`: writes and prints whatever a sweep has come to."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hybridnet import config
from hybridnet.errors import InputError
from hybridnet.report import report, with_folder, write_report
from tests.conftest import Run, content
from tests.sweep.folders import SweepFolder, large


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads in (2, 4):
        sweep.add(heads / 10, f"model.heads={heads}")
    return sweep


def test_the_command_writes_beside_the_jobs(sweep: SweepFolder, command: Run, tmp_path: Path) -> None:
    done = command("-m", "hybridnet.report", "sweep=sweep")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "report: sweep/report.html"
    assert "best: python train.py model.size=lite trainer.epochs=3 model.heads=4" in lines
    assert {path.name for path in (tmp_path / "sweep" / "report").iterdir()} == {"curves.png", "effect_0.png"}
    rows = list(csv.DictReader((tmp_path / "sweep" / "sweep.csv").read_text().splitlines()))
    assert [row["monitored_valid_acc"] for row in rows] == ["0.2", "0.4"]
    assert (tmp_path / "sweep" / "sweep.md").read_text().startswith("# Sweep: valid_acc (higher is better)")
    assert (tmp_path / "sweep" / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_several_sweeps_are_reported_elsewhere(sweep: SweepFolder, tmp_path: Path) -> None:
    other = SweepFolder(tmp_path / "other")
    other.add(0.9, "model.heads=8")
    before = content(other.folder) | content(sweep.folder)
    out = tmp_path / "new" / "both"
    report(folder=[str(sweep.folder), str(other.folder)], out=str(out))
    assert {path.name for path in out.iterdir()} == {"sweep.csv", "sweep.md", "report.html", "report"}
    assert "\nB0," in (out / "sweep.csv").read_text()
    after = content(other.folder) | content(sweep.folder)
    assert {name: text for name, text in after.items() if "lock" not in name} == before


@pytest.mark.parametrize(
    ("sweep_", "out", "error"),
    [
        (
            ["sweep", "other"],
            None,
            "error: missing value in out: several sweeps have no folder in common\nhint: add out=",
        ),
        ([], None, "error: missing value in sweep: no sweep is named\nhint: sweep="),
        (None, None, "error: missing value in sweep: no sweep is named"),
        ("nowhere", None, "error: no sweep in .*nowhere: there is no sweep.json\nhint: a sweep's folder"),
        ("sweep", "sweep/sweep.json", "error: unusable folder in out=sweep/sweep.json: "),
        ("sweep", "", "error: missing value in out=: no folder is named"),
    ],
)
def test_what_cannot_be_reported_is_said_so(
    sweep: SweepFolder, sweep_: str | list[str] | None, out: str | None, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sweep.folder.parent)
    with pytest.raises(InputError, match=error):
        report(folder=sweep_, out=out)
    assert not Path("nowhere").exists()


def test_a_report_takes_the_place_of_the_one_before(sweep: SweepFolder) -> None:
    write_report([sweep.folder], out=sweep.folder)
    (sweep.folder / "report" / "effect_9.png").touch()
    assert write_report([sweep.folder], out=sweep.folder) == sweep.folder / "report.html"
    assert not (sweep.folder / "report" / "effect_9.png").exists()


def test_27_jobs_of_three_axes_are_reported(tmp_path: Path) -> None:
    sweep = large(tmp_path / "sweep", seeds=1)
    text = write_report([sweep.folder], out=sweep.folder).read_text()
    assert text.count("<img ") == 9
    assert all(job.folder.name in text for job in sweep.jobs())


def test_the_yaml_fits() -> None:
    assert not config.find_faults(config.compose("report", with_folder(["sweep=[a,b]", "out=c"])))


def test_a_sweep_that_cannot_be_written_to_is_reported_elsewhere(sweep: SweepFolder, tmp_path: Path) -> None:
    (sweep.folder / "sweep.csv").mkdir()
    with pytest.raises(InputError, match="error: unusable folder in .*sweep: .*\nhint: choose another one with out="):
        report(folder=str(sweep.folder), out=None)
    report(folder=str(sweep.folder), out=str(tmp_path / "out"))
    assert (tmp_path / "out" / "report.html").is_file()
