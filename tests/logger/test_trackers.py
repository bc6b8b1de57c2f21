from __future__ import annotations

import importlib.util
import json
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybridnet import config, experiment
from hybridnet.errors import InputError
from hybridnet.files import read_json
from hybridnet.logger.trackers import Trackers
from hybridnet.sweep.record import Job
from tests.conftest import Command, outcome

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., Command]
ROW = {"epoch": 1, "valid_acc": 0.5}
WARNING = "logger=notes is left out from here on: ConnectionError: the server is down"
THE_RUNS_OWN = ("  ", "epoch", "Result", "plain", "overfitting", "underfitting")  # lines of a run without trackers


class Listener:
    """Keeps what it is told; fails with `errors[what]`."""

    def __init__(self, **errors: BaseException) -> None:
        self.errors = errors
        self.heard: list[Any] = []

    def begin(self, **about: Any) -> None:
        self._hear("begin", about)

    def epoch(self, row: Any) -> None:
        self._hear("epoch", row)

    def end(self, status: str, metrics: Any) -> None:
        self._hear("end", (status, metrics))

    def _hear(self, what: str, content: Any) -> None:
        self.heard.append((what, content))
        if what in self.errors:
            raise self.errors[what]


def _trackers(folder: Path, **members: Listener) -> Trackers:
    settings = {
        "seed": 1,
        "model._target_": "a.B",
        "model.block._partial_": True,
        "data.logger": "kept",
        "logger.mlflow.uri": "https://user:password@host",
        "resume": "outputs/run",
        "resume_allow": [],
        "verify_resume": False,
    }
    return Trackers(members, folder=folder, group="sweep", settings=settings)


def test_every_tracker_hears_everything(tmp_path: Path) -> None:
    """But no address of a tracker, nothing of one start only, and of the metrics the numbers."""
    one, two = Listener(), Listener()
    trackers = _trackers(tmp_path / "run", one=one, two=two)
    trackers.begin([ROW])
    trackers.epoch({**ROW, "epoch": 2})
    trackers.end("complete", {"valid_acc": 0.5, "steps": 8, "monitor": "valid_acc", "per_class": {"a": 1.0}})
    about = {
        "name": "run",
        "group": "sweep",
        "folder": tmp_path / "run",
        "settings": {"seed": 1, "model._target_": "a.B", "data.logger": "kept"},
        "history": [ROW],
    }
    assert one.heard == [
        ("begin", about),
        ("epoch", {"epoch": 2, "valid_acc": 0.5}),
        ("end", ("complete", {"valid_acc": 0.5, "steps": 8})),
    ]
    assert two.heard == one.heard


@pytest.mark.parametrize("what", ["begin", "epoch", "end"])
def test_one_that_fails_is_warned_about_once_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    broken, whole = Listener(**{what: OSError(f"no space{'!' * 300}\nleft")}), Listener()
    trackers = _trackers(tmp_path, broken=broken, whole=whole)
    trackers.begin(None)
    trackers.epoch(ROW)
    trackers.epoch(ROW)
    trackers.end("failed", {})
    assert [told for told, _ in whole.heard] == ["begin", "epoch", "epoch", "end"]
    heard = {"begin": ["begin"], "epoch": ["begin", "epoch"], "end": ["begin", "epoch", "epoch", "end"]}
    assert [told for told, _ in broken.heard] == heard[what]
    assert caplog.messages == [f"logger=broken is left out from here on: OSError: no space{'!' * 192}"]


def test_who_stops_the_run_is_no_failure_of_a_tracker(tmp_path: Path) -> None:
    trackers = _trackers(tmp_path, slow=Listener(epoch=KeyboardInterrupt()))
    trackers.begin(None)
    with pytest.raises(KeyboardInterrupt):
        trackers.epoch(ROW)


def test_one_that_had_not_begun_does_not_hear_of_the_end(tmp_path: Path) -> None:
    late = Listener(begin=KeyboardInterrupt())
    trackers = _trackers(tmp_path, late=late)
    with pytest.raises(KeyboardInterrupt):
        trackers.begin(None)
    trackers.end("stopped", {})
    assert [what for what, _ in late.heard] == ["begin"]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_named_before_anything_starts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("hybridnet.packages.find_spec", lambda wanted: None if wanted == name else find(wanted))
    with pytest.raises(InputError) as caught:
        experiment.check(config.compose("train", [f"logger={name}"]))
    assert str(caught.value) == (
        f'error: missing package in logger={name}: {name} is not installed\nhint: pip install -e ".[tracking]"'
    )


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_its_package_is_not_imported_to_check_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridnet.packages.find_spec", lambda _: SimpleNamespace(origin="there"))
    monkeypatch.setitem(sys.modules, name, None)  # to import it is an error
    experiment.check(config.compose("train", [f"logger={name}"]))


def test_what_is_no_tracker_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown key in logger\.foo: it has no _target_"):
        experiment.check(config.compose("train", ["+logger.foo=1"]))


# In the runs of a user


def _notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "notes.jsonl").read_text(encoding="utf-8").splitlines()]


def _told(folder: Path) -> list[Any]:
    """`begin` with the number of epochs that there were, the number of each epoch, and the status at the end."""
    found: list[Any] = []
    for note in _notes(folder):
        if note["what"] == "begin":
            found.append(("begin", None if note["history"] is None else len(note["history"])))
        else:
            found.append(note["row"]["epoch"] if note["what"] == "epoch" else note["status"])
    return found


def test_a_run_tells_its_trackers(run: Run, tiny: list[str], tmp_path: Path, reference: Path) -> None:
    code, _, error = run(*tiny, "logger=notes", "hydra.run.dir=run")
    assert (code, error) == (0, "")
    begin, *epochs, end = _notes(tmp_path / "run")
    assert (begin["name"], begin["group"], begin["history"]) == ("run", None, None)
    assert begin["settings"]["trainer.epochs"] == 3 and not [key for key in begin["settings"] if "logger" in key]
    assert [note["row"] for note in epochs] == read_json(tmp_path / "run" / "history.json")
    assert end["status"] == "complete"
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert end["metrics"]["valid_acc"] == metrics["valid_acc"] and "confusion_matrix" not in end["metrics"]
    result = outcome(tmp_path / "run")
    assert result | {"files": result["files"] - {"notes.jsonl"}} == outcome(reference)

    code, output, _ = run("resume=run")
    assert code == 0 and "nothing is left to do" in output
    assert len(_notes(tmp_path / "run")) == 5, "nothing happened"


def test_a_run_that_fails_tells_it(run: Run, tiny: list[str], tmp_path: Path) -> None:
    assert run(*tiny, "logger=notes", "model/backbone=raising", "hydra.run.dir=run")[0] == 1
    assert _told(tmp_path / "run") == [("begin", None), 1, "failed"]


def test_one_that_is_stopped_tells_it_and_goes_on(
    start: Start, run: Run, tiny: list[str], tmp_path: Path, reference: Path
) -> None:
    command = start(*tiny, "logger=notes", "hydra.run.dir=run", hold=("step", 6)).wait_until_held()
    command.send(signal.SIGTERM).go_on()
    assert command.wait() == 143, command.stderr
    assert _told(tmp_path / "run") == [("begin", None), 1, "stopped"]
    assert _notes(tmp_path / "run")[-1]["metrics"] == {}

    assert run("resume=run")[0] == 0
    assert _told(tmp_path / "run")[3:] == [("begin", 1), 2, 3, "complete"]
    assert (tmp_path / "run" / "history.json").read_bytes() == (reference / "history.json").read_bytes()


def test_a_sweep_is_a_group(run: Run, tiny: list[str], tmp_path: Path) -> None:
    for number, job in enumerate(("0_seed=1", "1_seed=2")):
        (tmp_path / "sweep" / job).mkdir(parents=True)
        Job(number, tmp_path / "sweep" / job, job, [], []).write()
        code, _, error = run(*tiny, "trainer.epochs=1", "logger=notes", f"hydra.run.dir='sweep/{job}'")
        assert code == 0, error
        begin = _notes(tmp_path / "sweep" / job)[0]
        assert (begin["name"], begin["group"]) == (job, "sweep")


@pytest.mark.parametrize("what", ["begin", "epoch", "end"])
def test_a_tracker_that_fails_costs_nothing(
    run: Run, tiny: list[str], tmp_path: Path, reference: Path, what: str
) -> None:
    code, output, error = run(*tiny, "logger=notes", f"logger.notes.broken={what}", "hydra.run.dir=run")
    assert (code, error) == (0, "")
    assert output.count(WARNING) == 1 and "its whole story" not in output
    told = {"begin": [("begin", None)], "epoch": [("begin", None), 1], "end": [("begin", None), 1, 2, 3, "complete"]}
    assert _told(tmp_path / "run") == told[what]
    result = outcome(tmp_path / "run")
    assert result | {"files": result["files"] - {"notes.jsonl"}} == outcome(reference)


def test_all_of_them_together_say_no_word(start: Start, run: Run, tiny: list[str], tmp_path: Path) -> None:
    """Stopped and continued; each test of a tracker looks at what it keeps."""
    for name in ("tensorboard", "mlflow", "wandb"):
        pytest.importorskip(name)
    options = ["logger=[tensorboard,mlflow,wandb]", "hydra.run.dir=run"]
    command = start(*tiny, *options, hold=("step", 6)).wait_until_held()
    command.send(signal.SIGTERM).go_on()
    assert command.wait() == 143, command.stderr
    code, output, error = run("resume=run")
    assert (code, error) == (0, "")
    said = [line for line in output.splitlines() if line and not line.startswith(THE_RUNS_OWN)]
    assert len(said) == 1 and said[0].startswith("continuing after epoch 1"), output
    assert {"tensorboard", "mlflow.json", "wandb.json", "wandb"} < {path.name for path in (tmp_path / "run").iterdir()}
    assert (tmp_path / "outputs" / "mlflow.db").is_file()
    with closing(sqlite3.connect(tmp_path / "outputs" / "mlflow.db")) as database:
        assert database.execute("select name, status from runs").fetchall() == [("run", "FINISHED")]
    assert not (tmp_path / "mlruns").exists() and not (tmp_path / "wandb").exists()
