from __future__ import annotations

import csv
import errno
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rich
import torch
from PIL import Image
from rich.console import Console

from hybridnet import drawing, figures, results
from hybridnet.files import read_json
from hybridnet.results import Results
from hybridnet.trainer.metrics import Evaluation
from hybridnet.trainer.state import State

CPU = torch.device("cpu")


def _evaluation() -> Evaluation:
    return Evaluation(torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 1, 1]))


def test_predictions_have_one_row_per_picture(tmp_path: Path) -> None:
    Results(tmp_path).write_predictions(
        _evaluation(), paths=["a,b.jpg", "ü.jpg", "c.jpg"], classes=["blast", "brown spot"]
    )
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == ["a,b.jpg", "ü.jpg", "c.jpg"]
    assert [row["label"] for row in rows] == ["blast", "brown spot", "brown spot"]
    assert [row["prediction"] for row in rows] == ["blast", "brown spot", "blast"]
    assert float(rows[0]["probability_blast"]) == pytest.approx(0.880797, abs=1e-6)
    assert float(rows[0]["probability_brown spot"]) == pytest.approx(0.119203, abs=1e-6)


def test_rows_that_are_left_out_are_listed(tmp_path: Path) -> None:
    rows = [(3, "a,b.jpg", "train", 'says "no"'), (17, "ü.jpg", "valid", "no such file")]
    Results(tmp_path).write_left_out(rows)
    with (tmp_path / "left_out.csv").open(encoding="utf-8", newline="") as stream:
        heading, *found = csv.reader(stream)
    assert heading == ["line", "path", "split", "cause"]
    assert found == [[str(line), *rest] for line, *rest in rows]


def test_the_pictures_that_were_used_are_noted_by_their_content(tmp_path: Path) -> None:
    Results(tmp_path).write_pictures({"train": ["aa", "bb"], "valid": ["cc"]})
    assert (tmp_path / "pictures.csv").read_text() == "split,digest\ntrain,aa\ntrain,bb\nvalid,cc\n"


def test_where_nothing_is_left_out_there_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "left_out.csv").write_text("of a run that failed here before its first results")
    Results(tmp_path).write_left_out([])
    assert not (tmp_path / "left_out.csv").exists()


def test_metrics_are_those_of_the_evaluation_and_the_best_epoch(tmp_path: Path) -> None:
    row = {"train_acc": 0.9, "train_loss": 0.3, "valid_acc": 0.625}
    state = State(epoch=4, step=40, best_epoch=2, history=[{}, row, {}, {}], num_images=120)
    state.train_seconds, state.wait_seconds = 2.0, 0.25
    returned = Results(tmp_path).write_metrics(
        state, _evaluation(), classes=["a", "b"], num_parameters=7, num_leaked=2, monitor="valid_acc", device=CPU
    )
    metrics = read_json(tmp_path / "metrics.json")
    assert returned == metrics
    assert metrics.pop("peak_memory_bytes") > 1e6
    assert metrics.pop("per_class") == {
        "a": pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1}),
        "b": pytest.approx({"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}),
    }
    assert metrics == {
        **_evaluation().summary(),
        "train_acc": 0.9,
        "train_loss": 0.3,
        "best_epoch": 2,
        "monitor": "valid_acc",
        "best_valid_acc": 0.625,
        "epochs": 4,
        "steps": 40,
        "num_parameters": 7,
        "train_images_per_second": 60.0,
        "train_seconds": 2.0,
        "data_wait_seconds": 0.25,
        "num_valid": 3,
        "num_leaked": 2,
        "confusion_matrix": [[1, 0], [1, 1]],
    }


def test_the_memory_is_that_of_the_gpu_where_one_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(ru_maxrss=3000)
    monkeypatch.setattr("resource.getrusage", lambda _: usage)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 + device.index)
    assert results._peak_memory_bytes(torch.device("cuda", 1)) == 8
    assert results._peak_memory_bytes(CPU) == 3_072_000
    monkeypatch.setattr(sys, "platform", "darwin")
    assert results._peak_memory_bytes(CPU) == 3000
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert results._peak_memory_bytes(CPU) == 0


class _Data:
    """Two pictures of 32×48 as the model sees them: the first red and the second blue."""

    classes = ("blast", "brown spot")
    normalize = SimpleNamespace(undo=lambda images: (images * 255).to(torch.uint8))

    def first_train_batch(self) -> Any:
        return SimpleNamespace(labels=torch.tensor([1, 0]))

    def to_input(self, batch: Any, dtype: torch.dtype) -> torch.Tensor:
        images = torch.zeros(2, 32, 48, 3, dtype=dtype)
        images[0, ..., 0] = images[1, ..., 2] = 1.0
        return images


def _state_of_one_epoch() -> State:
    names = ("epoch", "train_loss", "valid_loss", "train_acc", "valid_acc", "lr", "head_lr")
    return State(epoch=1, best_epoch=1, history=[dict.fromkeys(names, 1)])


def test_the_figures_are_those_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}
    for name in ("plot_history", "plot_confusion", "plot_samples"):
        monkeypatch.setattr(figures, name, lambda *content, **options: (*content, options))
    monkeypatch.setattr(drawing, "write", lambda content, path: drawn.update({path.name: content}))
    state = State(epoch=1, best_epoch=1, history=[{"epoch": 1}])
    Results(tmp_path).draw(state, _evaluation(), _Data(), title="hybrid")
    assert drawn["training_plot.png"] == ([{"epoch": 1}], {"best_epoch": 1, "title": "hybrid"})
    counts, options = drawn["confusion_matrix.png"]
    assert counts.tolist() == [[1, 0], [1, 1]]
    assert options == {"classes": ("blast", "brown spot"), "title": "hybrid: 66.67% of 3"}
    images, options = drawn["samples.png"]
    assert images.shape == (2, 32, 48, 3)
    assert images[:, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert options == {"labels": ["brown spot", "blast"], "title": "First training batch as the model sees it"}


def test_the_figures_are_pictures(tmp_path: Path) -> None:
    Results(tmp_path).draw(_state_of_one_epoch(), _evaluation(), _Data(), title="hybrid")
    for name in ("training_plot.png", "confusion_matrix.png", "samples.png"):
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_figure_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread writes them; the other figures are written all the same."""
    usual = drawing.write

    def write(picture: Image.Image, path: Path) -> None:
        if path.name == "samples.png":
            raise OSError(errno.ENOSPC, "No space left", str(path))
        usual(picture, path)

    monkeypatch.setattr(drawing, "write", write)
    with pytest.raises(OSError, match="No space left"):
        Results(tmp_path).draw(_state_of_one_epoch(), _evaluation(), _Data(), title="hybrid")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion_matrix.png", "training_plot.png"]


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(file=io.StringIO(), width=120)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    return console


def test_the_summary_has_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("valid_acc", "valid_macro_f1", "valid_loss", "train_acc", "train_loss")
    metrics = {name: 0.1234 * number for number, name in enumerate(names, 1)}
    metrics |= {"best_epoch": 3, "epochs": 10, "train_seconds": 754.4, "train_images_per_second": 1234.5}
    Results(tmp_path / "run").print_summary(metrics)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines() if line.strip()]
    assert lines == [
        "Result",
        "validation accuracy 0.1234 (macro F1 0.2468)",
        "validation loss 0.3702",
        "best epoch 3 of 10",
        "training accuracy 0.4936 (loss 0.6170) in that epoch",
        "training 12:34, 1234 images/s",
        "run folder run",
    ]


@pytest.mark.parametrize("is_shown", [True, False])
def test_the_curves_are_opened_or_their_place_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_shown: bool
) -> None:
    caplog.set_level("INFO")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawing, "show", {tmp_path / "run" / "training_plot.png": is_shown}.get)
    Results(tmp_path / "run").show_curves()
    assert caplog.messages == ([] if is_shown else ["no viewer here; the curves are in run/training_plot.png"])
