from __future__ import annotations

import contextlib
import csv
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybridnet.errors import InputError
from hybridnet.files import read_json, write_json
from hybridnet.run import RunFolder
from hybridnet.trainer.metrics import Evaluation
from hybridnet.trainer.supervised import State


def _status(folder: Path) -> dict[str, object]:
    return read_json(folder / "status.json")


def test_a_run_is_running_and_then_complete(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "a" / "b") as run:
        assert _status(run.folder)["status"] == "running"
    assert _status(run.folder)["status"] == "complete"
    assert _status(run.folder)["error"] is None


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("boom"), "failed"), (InputError, "failed"), (KeyboardInterrupt(), "stopped")]
)
def test_an_error_is_told_and_passed_on(tmp_path: Path, error: BaseException, status: str) -> None:
    from hybridnet.errors import Fault

    error = InputError(Fault("a", "b", "boom")) if error is InputError else error
    with pytest.raises(type(error)), RunFolder(tmp_path):
        raise error
    assert _status(tmp_path)["status"] == status
    assert type(error).__name__ in str(_status(tmp_path)["error"])


@pytest.mark.parametrize(("has_epochs", "words"), [(True, "holds the finished epochs"), (False, "in the first epoch")])
def test_an_interrupted_run_says_whether_epochs_were_finished(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, has_epochs: bool, words: str
) -> None:
    caplog.set_level("INFO")
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path):
        if has_epochs:
            (tmp_path / "last.pt").touch()
        raise KeyboardInterrupt
    assert words in caplog.text


@pytest.mark.parametrize("result", ["history.json", "last.pt", "best_model.pt", "metrics.json"])
def test_a_folder_with_results_is_refused_and_left_alone(tmp_path: Path, result: str) -> None:
    (tmp_path / result).write_text("precious")
    with pytest.raises(InputError, match=r"used run folder in .*\nhint: choose another one with hydra\.run\.dir"):
        RunFolder(tmp_path).__enter__()
    assert (tmp_path / result).read_text() == "precious"
    assert not (tmp_path / "status.json").exists()


def test_a_running_run_is_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path), pytest.raises(InputError, match="it holds another run"):
        RunFolder(tmp_path).__enter__()


def test_the_folder_of_a_killed_run_without_results_is_free(tmp_path: Path) -> None:
    write_json(tmp_path / "status.json", {"status": "running"})
    with RunFolder(tmp_path):
        pass
    assert _status(tmp_path)["status"] == "complete"


def test_a_folder_whose_run_failed_before_its_first_step_can_be_used_again(tmp_path: Path) -> None:
    write_json(tmp_path / "status.json", {"status": "failed"})
    with RunFolder(tmp_path):
        assert _status(tmp_path)["status"] == "running"


def test_of_many_that_start_together_one_gets_the_folder(tmp_path: Path) -> None:
    won: list[RunFolder] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        with contextlib.suppress(InputError):
            won.append(RunFolder(tmp_path / "same").__enter__())

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (run,) = won
    run.__exit__(None, None, None)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"unusable run folder in .*run: Not a directory\nhint: .*hydra\.run\.dir"):
        RunFolder(tmp_path / "file" / "run").__enter__()


def _evaluation() -> Evaluation:
    return Evaluation(torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 1, 1]))


def test_predictions_have_one_row_per_picture(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        run.write_predictions(_evaluation(), paths=["a,b.jpg", "ü.jpg", "c.jpg"], classes=["blast", "brown spot"])
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == ["a,b.jpg", "ü.jpg", "c.jpg"]
    assert [row["label"] for row in rows] == ["blast", "brown spot", "brown spot"]
    assert [row["prediction"] for row in rows] == ["blast", "brown spot", "blast"]
    assert float(rows[0]["probability_blast"]) == pytest.approx(0.880797, abs=1e-6)
    assert float(rows[0]["probability_brown spot"]) == pytest.approx(0.119203, abs=1e-6)


def test_rows_that_are_left_out_are_listed(tmp_path: Path) -> None:
    rows = [(3, "a,b.jpg", "train", 'says "no"'), (17, "ü.jpg", "valid", "no such file")]
    with RunFolder(tmp_path) as run:
        run.write_left_out(rows)
    with (tmp_path / "left_out.csv").open(encoding="utf-8", newline="") as stream:
        heading, *found = csv.reader(stream)
    assert heading == ["line", "path", "split", "cause"]
    assert found == [[str(line), *rest] for line, *rest in rows]


def test_where_nothing_is_left_out_there_is_no_list(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        run.write_left_out([])
    assert not (tmp_path / "left_out.csv").exists()


def test_metrics_are_those_of_the_evaluation_and_the_best_epoch(tmp_path: Path) -> None:
    row = {"train_acc": 0.9, "train_loss": 0.3, "valid_acc": 2 / 3}
    state = State(epoch=4, step=40, best_epoch=2, history=[{}, row, {}, {}], train_seconds=2.0, num_images=120)
    with RunFolder(tmp_path) as run:
        run.write_metrics(state, _evaluation(), classes=["a", "b"], num_parameters=7, num_leaked=2, monitor="valid_acc")
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["valid_acc"] == pytest.approx(2 / 3)
    assert (metrics["train_acc"], metrics["train_loss"], metrics["best_epoch"]) == (0.9, 0.3, 2)
    assert metrics["train_images_per_second"] == 60.0
    assert metrics["per_class"]["b"] == pytest.approx({"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2})
    assert metrics["confusion_matrix"] == [[1, 0], [1, 1]]
    assert (metrics["num_parameters"], metrics["num_valid"], metrics["num_leaked"]) == (7, 3, 2)
    assert metrics["peak_memory_bytes"] > 1e6


def test_the_environment_is_written(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        run.write_environment(device=torch.device("cpu"), precision="bf16", seed=3)
    environment = read_json(tmp_path / "environment.json")
    assert environment["seed"] == 3
    assert environment["packages"]["torch"] == str(torch.__version__).partition("+")[0]
    assert {"command", "device", "precision", "git_commit", "python", "threads"} <= set(environment)


def _with_bad_pictures(folder: Path) -> list[str]:
    """Ten pictures that can be used, one missing, one damaged, and one of training that is also for validation."""
    rng, lines = np.random.default_rng(0), ["path,label,split"]
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3)).astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]},{'train' if number < 8 else 'valid'}")
    (folder / "3.png").unlink()
    (folder / "10.png").write_bytes((folder / "10.png").read_bytes()[:-999])
    shutil.copy(folder / "8.png", folder / "2.png")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    write_json(folder / "label2id.json", {"a": 0, "b": 1})
    return [
        *("train.py", "model=plain", "data=metadata", "data.image_size=64", "data.batch_size=4", "trainer.epochs=1"),
        *(f"data.metadata={folder / 'metadata.csv'}", f"data.label2id={folder / 'label2id.json'}"),
        *(f"data.cache_dir={folder / 'cache'}", "trainer.device=cpu", "hydra.run.dir=run"),
    ]


def test_a_run_leaves_out_what_it_is_told_to(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = command(*_with_bad_pictures(tmp_path), "data.on_bad_image=skip", "data.on_leak=keep")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 pictures cannot be used and are left out; left_out.csv lists them" in done.stdout
    assert "1 validation pictures have copies in training" in done.stdout
    with (tmp_path / "run" / "left_out.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["line"], row["path"], row["split"]) for row in rows] == [
        ("5", "3.png", "train"),
        ("12", "10.png", "valid"),
    ]
    assert rows[0]["cause"] == "no such file"
    assert "truncated" in rows[1]["cause"]
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert (metrics["num_valid"], metrics["num_leaked"]) == (3, 1)
    with (tmp_path / "run" / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == ["8.png", "9.png", "11.png"]
