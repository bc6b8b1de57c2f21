"""The commands as a user types them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hybridnet
from hybridnet.data import load_image

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FILES = {
    "status.json",
    "history.json",
    "metrics.json",
    "training_plot.png",
    "confusion_matrix.png",
    "samples.png",
    "predictions.csv",
    "best_model.pt",
    "last.pt",
    "environment.json",
    "train.log",
    ".hydra",
    ".lock",
}


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("overrides", "error", "hint"),
    [
        ("trainer.epoch=3", "error: unknown key in trainer.epoch", "hint: did you mean trainer.epochs?"),
        ("model=hybird", "error: unknown option in model=hybird", "hint: did you mean model=hybrid?"),
        ("--epochs 3", "error: unknown option in --epochs", "hint: did you mean trainer.epochs=<value>?"),
        ("model.heads=3", "error: wrong value in model: channels (512) must be divisible", "hint: set model.heads to"),
        ("optimizer.base_lr=abc", "error: wrong value in optimizer.base_lr=abc", "hint: for instance"),
        ("-m model.heads=4,3", "error: impossible job in model.heads=3: no job was started", "hint: set model.heads"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint_and_leaves_nothing(
    command: Run, tmp_path: Path, overrides: str, error: str, hint: str
) -> None:
    result = command("train.py", *overrides.split())
    assert result.returncode == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith(error)
    assert lines[-1].startswith(hint)
    assert len(lines) <= 3 and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_key_is_answered_before_torch_is_imported(command: Run) -> None:
    result = command("-X", "importtime", "train.py", "+trainer.epoch=3")
    assert result.returncode == 2
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "hydra" in imported
    assert not {"torch", "pandas", "matplotlib", "PIL", "rich"} & imported


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["data.metadata=nowhere.csv"], "error: missing file in data.metadata=nowhere.csv: no such file"),
        (["trainer.device=cuda"], "error: wrong value in trainer: device 'cuda' is not available"),
        (["model.pretrained=true", "model.backbone.weights=x.pt"], "error: wrong value in model: pretrained and"),
        (["model.backbone.weights=x.pt"], "error: missing checkpoint in x.pt: no such file"),
    ],
)
def test_wrong_input_found_later_is_also_code_2(command: Run, overrides: list[str], error: str) -> None:
    if torch.cuda.is_available() and overrides == ["trainer.device=cuda"]:
        pytest.skip("there is a GPU")
    result = command("train.py", *overrides)
    assert result.returncode == 2
    assert result.stderr.splitlines()[0].startswith(error)
    assert "Traceback" not in result.stderr and "Error executing" not in result.stderr


def test_one_run_leaves_a_complete_folder(command: Run, tmp_path: Path, small: list[str]) -> None:
    folder = tmp_path / "run"
    result = command("train.py", *small, "trainer.precision=float32", f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in folder.iterdir()} == FILES
    assert _json(folder / "status.json")["status"] == "complete"

    metrics, history = _json(folder / "metrics.json"), json.loads((folder / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2]
    assert set(history[0]) >= {"train_loss", "train_acc", "valid_loss", "valid_acc", "lr"}
    best = history[metrics["best_epoch"] - 1]
    assert {name: metrics[name] for name in ("valid_acc", "valid_loss", "train_acc", "train_loss")} == {
        name: best[name] for name in ("valid_acc", "valid_loss", "train_acc", "train_loss")
    }
    assert len((folder / "predictions.csv").read_text().splitlines()) == 1 + 9
    assert "run folder" in result.stdout and "epoch 2/2" in result.stdout
    assert _json(folder / "environment.json")["command"][1:2] == [str(Path(__file__).parents[1] / "train.py")]

    _the_best_model_gives_the_stored_predictions(folder, tmp_path / "stripes")
    composed = (folder / ".hydra" / "overrides.yaml").read_text()
    again = command("train.py", *small, "seed=7", f"hydra.run.dir={folder}")
    assert again.returncode == 2
    assert again.stderr.startswith(f"error: used run folder in {folder}: it holds another run")
    assert _json(folder / "metrics.json") == metrics
    assert (folder / ".hydra" / "overrides.yaml").read_text() == composed, "refused before Hydra writes anything"


def _the_best_model_gives_the_stored_predictions(folder: Path, images: Path) -> None:
    """From the run folder alone, by hand: what a user of the model would compute."""
    recipe = torch.load(folder / "best_model.pt", weights_only=True)["preprocessing"]
    height, width = recipe["image_size"]
    mean, std = (torch.tensor(recipe[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    crop_height = 28 * recipe["center_crop"]  # the pictures are 36×28, wider than 48×40: the height limits
    crop_width, crop_height = round(crop_height * width / height), round(crop_height)
    left, top = (36 - crop_width) // 2, (28 - crop_height) // 2
    model = hybridnet.load_model(folder)
    header, *rows = [line.split(",") for line in (folder / "predictions.csv").read_text().splitlines()]
    assert header == ["path", "label", "prediction", *(f"probability_{x}" for x in ("horizontal", "none", "vertical"))]
    for path, _, _, *stored in rows:
        crop = load_image(images / path)[top : top + crop_height, left : left + crop_width]
        picture = Image.fromarray(crop).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            probabilities = model((pixels - mean) / std).softmax(dim=1)[0]
        assert probabilities.tolist() == pytest.approx([float(value) for value in stored], abs=1e-4)


def test_a_multirun_gives_a_folder_for_each_job(command: Run, tmp_path: Path, small: list[str]) -> None:
    constant = [o for o in small if not o.startswith("trainer.epochs")]
    result = command(
        "train.py",
        "-m",
        *constant,
        "++trainer.epochs=1",
        "model.heads=2,4",
        "model.dropout=0.1,0.2",
        "hydra.sweep.dir=s",
    )
    assert result.returncode == 0, result.stderr
    folders = sorted(path.name for path in (tmp_path / "s").iterdir() if path.is_dir())
    assert folders == [
        "0_dropout=0.1,heads=2",
        "1_dropout=0.2,heads=2",
        "2_dropout=0.1,heads=4",
        "3_dropout=0.2,heads=4",
    ]
    for name in folders:
        assert {path.name for path in (tmp_path / "s" / name).iterdir()} == FILES
        assert _json(tmp_path / "s" / name / "status.json")["status"] == "complete"
    log = (tmp_path / "s" / folders[3] / "train.log").read_text()
    assert log.count("epoch 1/1") == 1, "each job's log has its own lines"


def test_one_seed_gives_one_history(command: Run, tmp_path: Path, small: list[str]) -> None:
    """Also after other jobs in the same process, and another seed another history."""
    result = command("train.py", "-m", *small, "seed=1,2,1", "hydra.sweep.dir=s")
    assert result.returncode == 0, result.stderr
    first, other, again = (path.read_text() for path in sorted((tmp_path / "s").glob("*/history.json")))
    assert first == again
    assert first != other


def test_a_failed_job_leaves_its_traceback_and_the_others_run(command: Run, tmp_path: Path, small: list[str]) -> None:
    """An absurd learning rate passes every check and gives a loss that is not finite."""
    result = command(
        "train.py", "-m", *small, "optimizer.head_lr=1e-3,1e30,1e-4", "trainer.log_every=1", "hydra.sweep.dir=s"
    )
    assert result.returncode == 1
    statuses = {path.parent.name: _json(path)["status"] for path in (tmp_path / "s").glob("*/status.json")}
    assert list(dict(sorted(statuses.items())).values()) == ["complete", "failed", "complete"]
    failed = next((tmp_path / "s").glob("1_*"))
    assert "Traceback" in (failed / "train.log").read_text()
    assert "not finite at epoch 1, step" in str(_json(failed / "status.json")["error"])
    assert not (failed / "best_model.pt").exists() and not (failed / "metrics.json").exists()
    assert "not finite" in result.stderr and "Traceback" not in result.stderr


def test_weights_of_an_earlier_run_are_taken_and_told(command: Run, tmp_path: Path, small: list[str]) -> None:
    one_epoch = [*small, "trainer.epochs=1"]
    assert command("train.py", *one_epoch, "model=plain", "~model.size", "hydra.run.dir=first").returncode == 2
    first = command("train.py", *[o for o in one_epoch if "size=lite" not in o], "model=plain", "hydra.run.dir=first")
    assert first.returncode == 0, first.stderr
    second = command("train.py", *one_epoch, "model.backbone.weights=first", "hydra.run.dir=second")
    assert second.returncode == 0, second.stderr
    assert "backbone weights from first: loaded 120 of 120 tensors" in second.stdout
    assert "in the file, not used: fc.weight, fc.bias" in second.stdout


def test_showing_the_configuration_names_mistakes_too(command: Run) -> None:
    shown = command("train.py", "--cfg", "job", "model=ca", "model.reduction=8")
    assert shown.returncode == 0
    assert "reduction: 8" in shown.stdout
    wrong = command("train.py", "--cfg", "job", "trainer.epoch=3")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: unknown key in trainer.epoch")


def test_help_says_what_can_be_chosen(command: Run) -> None:
    result = command("train.py", "--help")
    assert result.returncode == 0
    assert "hybrid" in result.stdout and "scheduler" in result.stdout


def test_a_failure_shows_its_traceback_when_asked_for(command: Run) -> None:
    result = command("train.py", "model.heads=3", HYDRA_FULL_ERROR="1")
    assert result.returncode == 2
    assert "Traceback" in result.stderr
