from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.files import write_json
from hybridnet.sweep.outcome import read_outcome
from tests.sweep.folders import SweepFolder


def test_an_outcome_has_what_the_run_left(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.add(0.9, "model.heads=2", train_seconds=12.5, num_parameters=7)
    outcome = read_outcome(sweep.jobs()[0], label="0", monitor="valid_acc")
    assert (outcome.value, outcome.measured("train_seconds"), outcome.measured("valid_top5_acc")) == (0.9, 12.5, None)
    assert outcome.curve("valid_acc") == ([1, 2, 3], pytest.approx([0.72, 0.9, 0.81]))
    assert outcome.typed == {"model.size": "lite", "trainer.epochs": "3", "model.heads": "2"}
    assert outcome.environment["git_commit"] == "abc1234"


@pytest.mark.parametrize("name", ["history.json", "metrics.json", "environment.json"])
@pytest.mark.parametrize("text", [None, "", "{", "7", '["a"]', "\xff"])
def test_files_that_are_missing_or_damaged_say_nothing(tmp_path: Path, name: str, text: str | None) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    folder = sweep.add(0.9, "model.heads=2").folder
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_bytes(text.encode("latin-1"))
    outcome = read_outcome(sweep.jobs()[0], label="0", monitor="valid_acc")
    assert outcome.value == 0.9
    assert not {"history.json": outcome.history, "metrics.json": outcome.metrics}.get(name)


def test_the_value_of_a_job_without_one_is_looked_up(tmp_path: Path) -> None:
    """A pruned job's from its epochs; one that is not done has none, whatever its epochs say."""
    sweep = SweepFolder(tmp_path / "sweep", monitor="valid_loss")
    for status in ("pruned", "failed"):
        sweep.add(None, status=status, curve=[0.5, 0.3, 0.4])
    values = [read_outcome(sweep.jobs()[number], label="", monitor="valid_loss").value for number in (0, 1)]
    assert values == [0.3, None]


def test_a_cause_is_one_line(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.add(None, status="failed", error="ValueError: too\n  long")
    sweep.add(None, status="failed")
    causes = [read_outcome(sweep.jobs()[number], label="", monitor="valid_acc").cause for number in (0, 1)]
    assert causes == ["ValueError: too long", "no reason was recorded"]


def test_the_pictures_are_known_by_their_digest(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for pictures in ("abc", None):
        sweep.add(0.9, pictures=pictures)
    write_json(sweep.add(0.9).folder / "environment.json", {"data": "?"})
    outcomes = [read_outcome(job, label="0", monitor="valid_acc") for job in sweep.jobs()]
    assert [outcome.pictures for outcome in outcomes] == ["abc", None, None]
