"""`python -m hybridnet.explain`: a figure for each picture, and clear words about what cannot be explained."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hybridnet
from hybridnet import config
from hybridnet.checkpoint import load_checkpoint, save_checkpoint
from hybridnet.errors import InputError
from hybridnet.explain import explain, figure_names
from hybridnet.files import csv_text, write_text
from hybridnet.inference import explanation_figure
from hybridnet.inference.explanation import Explanation

Run = Callable[..., "subprocess.CompletedProcess[str]"]
CLASSES = ["leaf", "root"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A best_model.pt of a small network."""
    overrides = ["model.stem=small", "model.heads=2", "model.size=lite"]
    torch.manual_seed(0)
    network = hybridnet.create_model("hybrid", num_classes=2, overrides=overrides)
    path = tmp_path_factory.mktemp("trained") / "best_model.pt"
    content = {
        "model": network.state_dict(),
        "model_config": config.plain(config.compose("train", ["model=hybrid", *overrides]).model),
        "num_classes": 2,
        "label2id": {name: index for index, name in enumerate(CLASSES)},
        "preprocessing": {"image_size": [24, 32], "center_crop": 0.9, "mean": [0.5] * 3, "std": [0.25] * 3},
    }
    save_checkpoint(path, content)
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder in an empty working directory, with ten pictures of which its predictions speak."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "run" / "best_model.pt").hardlink_to(trained)
    rows = [("path", "label", "prediction", "probability_leaf", "probability_root")]
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
        label, prediction = CLASSES[number % 2], CLASSES[number in (1, 2, 4, 5, 6, 7, 9)]
        probability = 0.99 - number / 100
        likely = {prediction: probability}
        rows.append((f"{number}.png", label, prediction, *(likely.get(name, 1 - probability) for name in CLASSES)))
    write_text(tmp_path / "run" / "predictions.csv", csv_text(rows))
    write_text(tmp_path / "photos" / "metadata.csv", csv_text([row[:2] for row in rows]))
    return Path("run")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Explanation]:
    """What would be drawn, by the figure's path, without the time that it takes."""
    found: dict[str, Explanation] = {}
    monkeypatch.setattr(explanation_figure, "draw", lambda explained, path: found.update({str(path): explained}))
    return found


def explained(run: Path | str | None, **settings: Any) -> None:
    defaults = {"images": None, "num_images": 8, "metadata": None, "label": None, "out": None}
    explain(run=None if run is None else str(run), **{**defaults, "extra_targets": [], **settings})


def message_of(run: Path | str | None, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        explained(run, **settings)
    return str(error.value)


def table(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))


def test_the_command_draws_a_picture_of_a_run_that_was_moved(run: Path, command: Run) -> None:
    run.rename("moved")
    done = command("-m", "hybridnet.explain", "run=moved", "images=photos/3.png", "label=root")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "wrote explanations.csv and figures of 1 picture to outputs/explain/moved"
    with Image.open("outputs/explain/moved/3.png") as image:
        assert image.format == "PNG" and image.width > 900
    (row,) = table("outputs/explain/moved/explanations.csv")
    assert (row["figure"], row["path"], row["label"]) == ("3.png", "photos/3.png", "root")
    assert row["prediction"] in CLASSES and 0.5 <= float(row["probability"]) <= 1


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("imagse=a.jpg",), "error: unknown key in imagse: the configuration has no 'imagse'"),
        ((), "error: missing value in run: no run is named"),
        (("run=x", "num_images=0"), "error: wrong value in num_images=0: must be >= 1, got 0"),
    ],
)
def test_wrong_words_are_answered_in_one_line(arguments: tuple[str, ...], first: str, command: Run) -> None:
    done = command("-m", "hybridnet.explain", *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == first


def test_junk_is_listed_and_the_rest_is_drawn(
    run: Path, drawn: dict[str, Explanation], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos", "notes.txt").write_text("no picture")
    Path("photos", "torn.jpg").touch()
    explained(run, images="photos", out="figures")
    assert list(drawn) == [f"figures/{number}.png" for number in range(10)]
    text = capsys.readouterr().out
    assert "left out, as no picture: 3\n" in text
    assert "  photos/torn.jpg: is empty (0 bytes)" in text and "  photos/notes.txt: is none of JPEG" in text
    assert [row["path"] for row in table("figures/explanations.csv")] == [f"photos/{n}.png" for n in range(10)]


def test_without_pictures_there_is_an_error(run: Path, drawn: dict[str, Explanation]) -> None:
    Path("photos", "notes.txt").write_text("no picture")
    message = message_of(run, images=["photos/notes.txt", "photos/metadata.csv"])
    assert message.splitlines()[0].endswith(": no file of 2 is one")
    assert "  photos/notes.txt: is none of JPEG, PNG, WebP, BMP and TIFF" in message
    assert not drawn


def test_predictions_are_those_of_the_model(run: Path, drawn: dict[str, Explanation]) -> None:
    explained(run / "best_model.pt", images="photos/3.png")
    model = hybridnet.load_model(run)
    (row,) = table("outputs/explain/run/explanations.csv")
    (expected,) = model.predict("photos/3.png", precision="float32")
    assert (row["prediction"], row["probability"]) == (expected.label, f"{expected.probability:.6f}")
    assert row["label"] == "" and drawn["outputs/explain/run/3.png"].true_label is None


def test_true_classes_come_from_the_table_and_then_from_label(
    run: Path, drawn: dict[str, Explanation], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("photos/1.png", "other.png")
    several = [str(Path("photos/../photos/1.png").absolute()), "photos/2.png", "other.png"]
    explained(run, images=several, metadata="photos/metadata.csv", label="leaf", out="a")
    assert [found.true_label for found in drawn.values()] == ["root", "leaf", "leaf"]
    drawn.clear()
    explained(run, images=several, metadata="photos/metadata.csv", out="a")
    assert [found.true_label for found in drawn.values()] == ["root", "leaf", None]
    assert "note: 1 picture not in the table, with a true class that is not known" in capsys.readouterr().out


def test_a_class_may_be_called_by_a_number(run: Path, trained: Path, drawn: dict[str, Explanation]) -> None:
    content = load_checkpoint(trained) | {"label2id": {"0": 0, "1": 1}}
    (run / "best_model.pt").unlink()
    save_checkpoint(run / "best_model.pt", content)
    explained(run, images="photos/1.png", label=1, out="a")
    assert [found.true_label for found in drawn.values()] == ["1"]


def test_by_itself_it_takes_the_most_confident_mistakes_and_right_answers_of_each_class(
    run: Path, drawn: dict[str, Explanation]
) -> None:
    """Wrong are 2, 3, 4 and 6; right are 0 and 8 (leaf), and 1, 5, 7 and 9 (root)."""
    for num, expected in ((4, "2 3 0 1"), (9, "2 3 4 6 0 1 5 8 7")):
        drawn.clear()
        explained(run, metadata="photos/metadata.csv", num_images=num)
        assert [Path(path).stem for path in drawn] == expected.split(), num
    assert drawn["outputs/explain/run/2.png"].true_label == "leaf"


def test_the_runs_own_table_is_found_where_the_training_was(run: Path, drawn: dict[str, Explanation]) -> None:
    (run / ".hydra").mkdir()
    write_text(run / ".hydra" / "config.yaml", "data: {metadata: photos/metadata.csv}\n")
    explained(run, num_images=2)
    assert [Path(path).stem for path in drawn] == ["2", "0"]
    shutil.rmtree("photos")
    message = message_of(run)
    assert "missing pictures in run=run: none of the pictures that predictions.csv names is there" in message
    assert "images=<file, folder or pattern> names others" in message
    (run / "predictions.csv").unlink()
    assert "missing value in images: run=run has no predictions.csv to choose from" in message_of(run)


def _rewritten(run: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    rows = [change(row) for row in table(str(run / "predictions.csv"))]
    write_text(run / "predictions.csv", csv_text([list(rows[0]), *(row.values() for row in rows)]))


def test_predictions_are_read_by_the_names_of_the_columns(run: Path, drawn: dict[str, Explanation]) -> None:
    """A spreadsheet may have put them into another order, and added some."""
    _rewritten(run, lambda row: {"note": "nan", **dict(reversed(row.items())), "number": "2"})
    explained(run, metadata="photos/metadata.csv", num_images=4)
    assert [Path(path).stem for path in drawn] == ["2", "3", "0", "1"]
    assert drawn["outputs/explain/run/2.png"].true_label == "leaf"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            lambda row: {name: row[name] for name in ("path", "label", "prediction")},
            "error: missing columns in run=run: predictions.csv has no probability_leaf, probability_root\nhint: ",
        ),
        (
            lambda row: {name: row[name] for name in ("path", "prediction", "probability_leaf", "probability_root")},
            "error: missing columns in run=run/predictions.csv: no label; found 'path', 'prediction', ",
        ),
        (
            lambda row: row | {"probability_root": "0,5"},
            "error: wrong rows in run=run: predictions.csv has a probability that is no number: could not convert",
        ),
    ],
)
def test_predictions_without_probabilities_are_said_so(
    run: Path, change: Callable[[dict[str, str]], dict[str, str]], error: str
) -> None:
    _rewritten(run, change)
    assert message_of(run, metadata="photos/metadata.csv").startswith(error)


def test_paths_that_lead_out_of_the_table_are_not_opened(run: Path, drawn: dict[str, Explanation]) -> None:
    text = (run / "predictions.csv").read_text().replace("\n2.png", "\n../photos/2.png")
    write_text(run / "predictions.csv", text)
    explained(run, metadata="photos/metadata.csv", num_images=2)
    assert [Path(path).stem for path in drawn] == ["3", "0"]  # not 2


def test_all_that_is_wrong_is_told_at_once(run: Path) -> None:
    Path("file").touch()
    lines = message_of(run, images="nowhere", label=1, out="file").splitlines()
    assert [line for line in lines if line.startswith("error")] == [
        "error: missing pictures in images=nowhere: no such file or folder",
        "error: unknown class in label=1: the model has leaf, root",
        "error: unusable folder in out=file: File exists",
    ]
    both = message_of("elsewhere", images="nowhere")
    assert "missing run in run=elsewhere: no such folder" in both and "images=nowhere" in both


def test_a_table_of_other_classes_is_refused(run: Path) -> None:
    write_text(Path("photos", "metadata.csv"), "path,label\n1.png,stem\n2.png,stem\n3.png,leaf\n")
    message = message_of(run, images="photos/[123].png", metadata="photos/metadata.csv")
    assert (
        message == "error: unknown class in data.metadata: 2 pictures with the label 'stem'; the model has leaf, root"
    )


def test_equal_stems_of_different_folders_have_figures_of_their_own(run: Path, drawn: dict[str, Explanation]) -> None:
    for folder in ("leaf", "root"):
        (Path("photos") / folder).mkdir()
        shutil.copy("photos/1.png", Path("photos") / folder / "9.png")
    explained(run, images=["photos/leaf", "photos/root", "photos/9.png", "photos/8.png"], out="figures")
    assert list(drawn) == [f"figures/{name}.png" for name in ("leaf_9", "root_9", "9", "8")]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/x.jpg", "b/x.jpg", "b/y.jpg"], ["a_x", "b_x", "y"]),
        (["a/x.jpg", "a/x.png", "a/X.bmp"], ["x", "x_2", "X_3"]),
        (["p/a/x.jpg", "p/a/b/x.jpg", "x.png"], ["p_a_x", "p_a_b_x", "x"]),
        (["b_x.png", "x.jpg", "b/x.jpg"], ["b_x", "x", "b_x_2"]),
        (["x.tar.gz", "no extension"], ["x.tar", "no extension"]),
    ],
)
def test_no_two_figures_have_one_name(files: list[str], names: list[str]) -> None:
    found = figure_names([Path(file) for file in files])
    assert len({name.casefold() for name in found}) == len(files)
    assert found == [f"{name}.png" for name in names]


@pytest.mark.usefixtures("two_drives")
def test_of_equal_stems_on_two_drives_the_second_has_a_number() -> None:
    assert figure_names([Path("a/x.jpg"), Path("b/x.jpg")]) == ["x.png", "x_2.png"]
