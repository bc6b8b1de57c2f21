from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.files import read_json, write_json
from hybridnet.pruner.median import MedianPruner
from hybridnet.sweep import rivals
from hybridnet.sweep.rivals import curve, is_hopeless, read_curves


def _job(folder: Path, name: str, history: object) -> Path:
    (folder / name).mkdir()
    write_json(folder / name / "job.json", {})
    if history is not None:
        write_json(folder / name / "history.json", history)
    return folder / name


def test_the_other_jobs_of_a_sweep_are_read(tmp_path: Path) -> None:
    rows = [{"valid_acc": 0.5, "valid_loss": 2.0}, {"valid_acc": 0.25, "valid_loss": 3.0}]
    asking = _job(tmp_path, "0", rows)
    _job(tmp_path, "1", rows)
    _job(tmp_path, "2", rows[:1])
    _job(tmp_path, "3", None)  # has not begun
    _job(tmp_path, "4", [{"acc": 1.0}])
    _job(tmp_path, "5", {"damaged": 1})
    (tmp_path / "6").mkdir()
    write_json(tmp_path / "6" / "history.json", rows)  # no job of the sweep
    assert read_curves(asking, monitor="valid_acc") == [[0.5, 0.25], [0.5]]
    assert read_curves(asking, monitor="valid_loss") == [[-2.0, -3.0], [-2.0]]
    assert curve([], monitor="valid_loss") == []


def test_a_history_is_read_again_only_if_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the jobs of a sweep of thousands would wait seconds at each epoch."""
    asking, other, _ = (_job(tmp_path, str(number), [{"valid_acc": number / 10}]) for number in range(3))
    assert read_curves(asking, monitor="valid_acc") == [[0.1], [0.2]]
    read = []
    monkeypatch.setattr(rivals, "read_json", lambda path: read.append(path) or read_json(path))
    write_json(other / "history.json", [{"valid_acc": 0.1}, {"valid_acc": 0.3}])
    assert read_curves(asking, monitor="valid_acc") == [[0.1, 0.3], [0.2]]
    assert read == [other / "history.json"]
    write_json(other / "environment.json", {"data": {"valid": "b"}})
    assert read_curves(asking, monitor="valid_acc") == [[0.2]]


def test_jobs_that_validate_on_other_pictures_are_no_rivals(tmp_path: Path) -> None:
    """A fold of hard pictures is no reason to end a job, nor an easy one to let it go on."""
    folders = [_job(tmp_path, str(number), [{"valid_acc": number / 10}]) for number in range(5)]
    for folder, digest in zip(folders, ["a", "b", "a", "b"], strict=False):
        write_json(folder / "environment.json", {"data": {"valid": digest}})
    assert read_curves(folders[0], monitor="valid_acc") == [[0.2]]
    assert read_curves(folders[1], monitor="valid_acc") == [[0.3]]


def test_a_job_that_is_behind_its_rivals_is_hopeless_from_its_first_epoch_on(tmp_path: Path) -> None:
    asking, pruner = _job(tmp_path, "0", None), MedianPruner(min_epochs=1, min_jobs=1, margin=0.1)
    _job(tmp_path, "1", [{"valid_loss": 0.5}])
    assert is_hopeless([{"valid_loss": 0.7}], asking, pruner=pruner, monitor="valid_loss")
    assert not is_hopeless([{"valid_loss": 0.55}], asking, pruner=pruner, monitor="valid_loss")
    assert not is_hopeless([], asking, pruner=pruner, monitor="valid_loss")
