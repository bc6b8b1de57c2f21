"""`python -m hybridnet.export`: what is written is what was compared; anything else is not left behind."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import hybridnet
from hybridnet import config, export
from hybridnet.checkpoint import save_checkpoint
from hybridnet.data.listed import ListedImages
from hybridnet.errors import InputError, TrainingError
from hybridnet.files import read_json, write_text
from hybridnet.inference.formats import onnx, torch_export, trial
from hybridnet.inference.runs import RunSettings
from tests.conftest import ROOT, Run, content, write_stripes

needs_onnx = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('onnxruntime')", reason="extra export")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, of a small model that has learned nothing, and its table in `stripes`."""
    folder = tmp_path_factory.mktemp("export")
    table = write_stripes(folder / "stripes") / "metadata.csv"
    pair = [f"data.metadata={table}", "data.image_size=[40,48]", "model/backbone=resnet18"]
    cfg = config.compose("train", ["model=plain", "data=metadata", "model.stem=small", *pair])
    cfg.model.backbone.layers = [1, 1, 1, 1]
    torch.manual_seed(0)
    network = config.build(cfg.model, num_classes=3)
    checkpoint = {
        "model": network.state_dict(),
        "model_config": config.plain(cfg.model),
        "num_classes": 3,
        "label2id": read_json(table.with_name("label2id.json")),
        "preprocessing": {"image_size": [40, 48], "center_crop": 0.9, "mean": [0.5] * 3, "std": [0.25] * 3},
    }
    (folder / "run" / ".hydra").mkdir(parents=True)
    save_checkpoint(folder / "run" / "best_model.pt", checkpoint)
    write_text(folder / "run" / ".hydra" / "config.yaml", f"data: {{metadata: {table}, fold: null}}\n")
    return folder


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(trial, "SECONDS", 1e-6)


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(original / "run", tmp_path / "run"))


def start(*overrides: str) -> list[str]:
    """The lines that it prints, without blank ones."""
    cfg = config.compose("export", list(overrides))
    assert config.find_faults(cfg) == {}
    with contextlib.redirect_stdout(io.StringIO()) as output:
        config.build(cfg)
    return [line for line in output.getvalue().splitlines() if line.strip()]


@needs_onnx
def test_onnx_and_int8(run: Path, original: Path) -> None:
    lines = start("run=run", "int8=true")
    assert {path.name for path in run.iterdir()} == {".hydra", "best_model.pt", "model.onnx", "model.int8.onnx"}
    network, plain, int8 = (re.split(r"\s{2,}", line.strip()) for line in lines[3:6])
    assert (network[0], plain[0], int8[0]) == ("PyTorch, float32", "model.onnx", "model.int8.onnx")
    assert 0 < float(plain[2]) < 1e-5 and plain[3] == "9 of 9" and plain[4] == network[1]
    assert 1e-5 < float(int8[2]) < 0.2
    words = f"compared on 9 validation pictures of {original / 'stripes' / 'metadata.csv'}, at 40×48 and 30×60 pixels"
    assert lines[6] == f"{words}, in batches of 16 and 1: the worst counts"
    assert lines[7] == "takes any number of pictures of 2×2 pixels and larger"
    assert re.fullmatch(
        r"int8: [\d.]+ times as fast, 3.\d times as small; calibrated on 24 training pictures", lines[8]
    )
    assert lines[9:] == ["written: run/model.onnx", "written: run/model.int8.onnx"]


@needs_onnx
def test_the_readme_runs_a_file_without_torch(original: Path, run: Path, tmp_path: Path) -> None:
    """Its lines, word for word, see what `predict` sees."""
    start("run=run", "out=model.onnx")
    picture = original / "stripes" / "26.png"
    shutil.copy(picture, tmp_path / "leaf.png")
    lines = (ROOT / "README.md").read_text(encoding="utf-8").split("### Export")[1].split("\n### ")[0]
    code = next(block for block in re.findall(r"(?:^ {4}.*\n|^\n)+", lines, re.M) if "onnxruntime" in block)
    code = "\n".join(line[4:] for line in code.replace("leaf.jpg", "leaf.png").splitlines())
    assert "torch" not in code and len(code.strip().splitlines()) <= 21
    with contextlib.redirect_stdout(io.StringIO()) as output:
        compiled = compile(code, "README.md", "exec")
        exec(compiled, {})
    label, probability = output.getvalue().rsplit(maxsplit=1)
    expected = hybridnet.load_model(run).predict(picture, precision="float32")[0]
    assert label == expected.label and float(probability) == pytest.approx(expected.probability, abs=0.002)


def test_torch_export_after_the_data_are_gone(run: Path) -> None:
    write_text(run / ".hydra" / "config.yaml", "data: {metadata: gone/metadata.csv}\n")
    lines = start("run=run", "format=torch_export", "num_images=5")
    assert lines[0] == (
        "the run's pictures cannot be used (run: the table that it was trained with (gone/metadata.csv) is not there)"
    )
    assert lines[1].startswith("so random ones are compared; images=")
    assert lines[-3].startswith("compared on 5 random pictures, at 40×48 and 30×60 pixels")
    about = {torch_export.ABOUT: ""}
    program = torch.export.load(run / "model.pt2", extra_files=about)
    assert json.loads(about[torch_export.ABOUT])["classes"] == ["horizontal", "none", "vertical"]
    images = torch.randn(2, 3, 64, 33)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), hybridnet.load_model(run)(images))


def test_safetensors_and_pictures_of_the_users(run: Path, original: Path) -> None:
    pytest.importorskip("safetensors")
    (run / "photos").mkdir()
    for number in (24, 25):
        shutil.copy(original / "stripes" / f"{number}.png", run / "photos")
    (run / "photos" / "notes.txt").write_text("no picture")
    damaged = (run / "photos" / "24.png").read_bytes()
    (run / "photos" / "torn.png").write_bytes(damaged[: len(damaged) // 2])
    lines = start("run=run/best_model.pt", "format=safetensors", "images=run/photos", "out=new/m.safetensors")
    assert "accuracy" in lines[1] and "2 of 2" in lines[4]
    assert lines[5].startswith("compared on 3 pictures of images=run/photos (1 file left out: no picture), at ")
    assert lines[6].startswith("left out: run/photos/torn.png: ")
    assert lines[7:] == ["written: new/m.safetensors"]
    weights = hybridnet.load_model("new/m.safetensors").state_dict()
    assert all(torch.equal(weights[name], value) for name, value in hybridnet.load_model(run).state_dict().items())


@pytest.mark.parametrize(("num", "more"), [(3, []), (5, ["left out: 2 more"])])
def test_files_that_are_left_out_are_named_or_counted(num: int, more: list[str]) -> None:
    agreement = SimpleNamespace(image_size=(40, 48), causes=dict.fromkeys(range(num), "torn"))
    pictures = SimpleNamespace(words="9 pictures", items=[f"{number}.png" for number in range(9)])
    lines = list(export._lines({Path("a.pt2"): SimpleNamespace(agreements=[agreement], smallest=None)}, pictures, []))
    assert lines[0].startswith("compared on 9 pictures, at 40×48 pixels, in batches of ")
    assert lines[1:] == [*(f"left out: {n}.png: torn" for n in range(3)), *more, "written: a.pt2"]


def test_the_table_says_of_each_file_how_it_differs_from_the_network() -> None:
    """Its own time and accuracy, and of the labels the batch size that differs most."""
    Path("a.onnx").write_bytes(b"x" * 2000)
    agreements = [
        SimpleNamespace(indices=range(9), num_other=num, accuracies=lambda labels: (0.75, 0.5)) for num in (1, 3, 2)
    ]
    tried = SimpleNamespace(agreements=agreements, max_error=0.012)
    table = export._table({Path("a.onnx"): tried}, SimpleNamespace(labels=[0]), [0.5, 0.125])
    network, file = zip(*(column.cells for column in table.columns), strict=True)
    assert network == ("PyTorch, float32", "", "", "", "0.7500", "500.0")
    assert (file[0], *file[2:]) == ("a.onnx", "1.2e-02", "6 of 9", "0.5000", "125.0")


def test_a_full_disk_is_said_in_a_line() -> None:
    message = r"unusable file in out=a\.onnx: No space left.*\nhint: choose another place"
    with pytest.raises(InputError, match=message), export._explained("onnx", Path("a.onnx")):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_int8_is_compared_with_the_plain_graph() -> None:
    for name, size in (("a.onnx", 300), ("a.int8.onnx", 100)):
        Path(name).write_bytes(b"x" * size)
    tried = SimpleNamespace(agreements=[SimpleNamespace(image_size=(40, 48), causes={})], smallest=None)
    pictures = SimpleNamespace(words="", calibration_words="training pictures")
    files = {Path("a.onnx"): tried, Path("a.int8.onnx"): tried}
    _, line, *_ = export._lines(files, pictures, [9.0, 4.0, 2.0], num_calibration=128)
    assert line == "int8: 2.0 times as fast, 3.0 times as small; calibrated on 128 training pictures"


def test_calibration_takes_some_pictures_of_all_parts_of_the_list() -> None:
    listed = [Path(f"{number}.png") for number in range(4000)]
    chosen = export._calibration(listed)
    assert len(set(chosen)) == len(chosen) == 128 and chosen == export._calibration(listed)
    parts = [listed.index(file) // 1000 for file in chosen]
    assert all(20 <= parts.count(part) <= 44 for part in range(4))
    assert sorted(export._calibration(listed[:9])) == listed[:9]


def test_a_batch_of_which_nothing_can_be_decoded_calibrates_nothing(run: Path) -> None:
    preprocessing = hybridnet.load_model(run).preprocessing
    grey = np.full((50, 60, 3), 128, np.uint8)
    images = ListedImages(
        [*(Path(f"gone{number}.png") for number in range(16)), grey, Path("gone.png"), grey], preprocessing
    )
    (batch,) = export._inputs(images, preprocessing)
    assert batch.shape == (2, 3, 40, 48) and batch.is_contiguous() and len(images.causes) == 17
    torch.testing.assert_close(batch, torch.full_like(batch, (128 / 255 - 0.5) / 0.25))


@needs_onnx
def test_only_pictures_that_calibrate_are_counted(run: Path, original: Path) -> None:
    (run / "photos").mkdir()
    for number in (24, 25):
        shutil.copy(original / "stripes" / f"{number}.png", run / "photos")
    content = (run / "photos" / "24.png").read_bytes()
    (run / "photos" / "torn.png").write_bytes(content[: len(content) // 2])
    lines = start("run=run", "int8=true", "images=run/photos")
    assert lines[-3].startswith("int8: ") and lines[-3].endswith("; calibrated on 2 of them")


def test_modules_of_your_own_are_built_again_from_the_file(reference: Path) -> None:
    pytest.importorskip("safetensors")
    shutil.copytree(reference, "own")
    with pytest.raises(InputError, match=r"hint: if you trust it: extra_targets=\[own_parts\.\]"):
        start("run=own", "format=safetensors")
    start("run=own", "format=safetensors", "extra_targets=[own_parts.]", "num_images=2")
    model = hybridnet.load_model("own/model.safetensors", extra_targets=["own_parts."])
    images = torch.randn(2, 3, 24, 40)
    with torch.no_grad():
        assert model(images).equal(hybridnet.load_model("own", extra_targets="own_parts.")(images))


@pytest.mark.parametrize(("limit", "num"), [(None, 32), (100, 32), (5, 5)])
def test_no_more_random_pictures_than_are_needed(limit: int | None, num: int, run: Path) -> None:
    write_text(run / ".hydra" / "config.yaml", "data: {metadata: gone/metadata.csv}\n")
    model = hybridnet.load_model(run)
    assert len(export._own_pictures(RunSettings(run), model, limit=limit, is_real=False).items) == num


def test_what_computes_something_else_is_not_left(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "model.pt2").write_bytes(b"of an earlier export")
    before = content(run)
    original = torch_export.load
    monkeypatch.setattr(torch_export, "load", lambda path, **_: lambda images: original(path)(images).flip(1))
    with pytest.raises(TrainingError, match="error: wrong result in the exported model at 40×48, batch size 16: prob"):
        start("run=run", "format=torch_export", "num_images=2")
    assert content(run) == before


def test_what_torch_cannot_trace_is_said_in_a_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("outer") from ValueError("Constraints\n  violated")

    monkeypatch.setattr(torch.export, "export", broken)
    with pytest.raises(
        TrainingError, match="export failed in format=torch_export: ValueError: Constraints violated\nhint"
    ):
        start("run=run", "format=torch_export")
    assert not list(run.glob("*model.pt2*"))


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["run=null"], "error: missing value in run: no run is named"),
        (["run=nowhere"], "error: missing run in run=nowhere: no such folder"),
        (["run=empty"], "error: missing checkpoint in empty/best_model.pt: no such file"),
        (["run=run/.hydra/config.yaml"], "error: unusable checkpoint in run/.hydra/config.yaml: "),
        (["out=model.bin"], "out=model.bin: expected a file with the suffix .pt2\nhint: out=model.pt2"),
        (["out=run/best_model.pt"], "expected a file with the suffix .pt2"),
        (["out=run/best_model.pt/model.pt2"], "error: unusable file in out=run/best_model.pt/model.pt2: "),
        (["out=folder.pt2"], "error: unusable file in out=folder.pt2: is a folder"),
        (["int8=true"], "error: wrong option in int8=true: format=torch_export has none\nhint: set format=onnx"),
        (["images=nowhere"], "error: missing pictures in images=nowhere: no such file or folder"),
        (["tolerance=0"], "tolerance: must be > 0"),
    ],
)
def test_wrong_input_is_told_before_anything_is_written(overrides: list[str], error: str, run: Path) -> None:
    Path("empty").mkdir()
    Path("folder.pt2").mkdir()
    with pytest.raises(ValueError, match=re.escape(error).replace("\\ ", " ")):
        config.build(config.compose("export", ["run=run", "format=torch_export", *overrides]))
    assert not list(Path().rglob("*.pt2/*")) and not (run / "model.pt2").exists()


def test_all_that_is_wrong_is_told_at_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "PACKAGES", ("onnx_that_is_not_there", "torch"))
    with pytest.raises(InputError) as caught:
        start("run=run", "out=model.bin", "images=nowhere")
    assert [fault.what for fault in caught.value.faults] == ["wrong value", "missing package", "missing pictures"]
    assert str(caught.value.faults[1]) == (
        "error: missing package in format=onnx: onnx_that_is_not_there is not installed\n"
        'hint: pip install -e ".[export]"'
    )


@needs_onnx
def test_int8_is_not_calibrated_on_random_pictures(run: Path) -> None:
    write_text(run / ".hydra" / "config.yaml", "data: {metadata: gone/metadata.csv}\n")
    with pytest.raises(InputError, match=r"missing file in run: .*gone.*\nhint: int8 needs pictures like those"):
        start("run=run", "int8=true")
    assert not (run / "model.onnx").exists()


def test_the_command_ends_with_2(command: Run) -> None:
    done = command("-m", "hybridnet.export", "run=nowhere", "format=torch_export")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: missing run in run=nowhere: no such folder\n"
        "hint: run=outputs/runs/<run folder>, which python train.py has written\n"
    )
