"""The commands as a user types them."""

from __future__ import annotations

import csv
import errno
import functools
import gc
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import hybridnet
from hybridnet import config, launch, prepare
from hybridnet.checkpoint import load_checkpoint, save_checkpoint
from hybridnet.data import load_image
from hybridnet.errors import InputError
from hybridnet.files import in_bytes
from hybridnet.inference.runs import digests_of
from hybridnet.launch import _rare_collections, _report, call
from tests.conftest import ROOT, Command, content, outcome, require_whole_files, wait_until, wait_until_saved

RunProcess = Callable[..., "subprocess.CompletedProcess[str]"]
Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., Command]

FILES = {
    "status.json",
    "history.json",
    "history.csv",
    "metrics.json",
    "pictures.csv",
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
        ("model.heads=3 -m seed=1", "error: impossible job in ", "hint: set model.heads"),
        ("seed=0,1", "error: many values in seed=0,1: one run takes one of them", "hint: python train.py -m …"),
        ("++resume=nowhere", "error: no run to continue in resume=nowhere: ", "hint: resume=<run folder>;"),
        ("--config-dir nope seed=1", "error: missing folder in --config-dir=nope: no such folder", "hint: --config"),
        ("--config-name=foo", "error: wrong option in --config-name=foo: this command is composed", "hint: settings "),
    ],
)
def test_a_mistake_is_one_line_and_a_hint_and_leaves_nothing(
    run: Run, tmp_path: Path, overrides: str, error: str, hint: str
) -> None:
    code, output, said = run(*overrides.split())
    assert (code, output) == (2, "")
    lines = said.splitlines()
    assert lines[0].startswith(error)
    assert lines[-1].startswith(hint)
    assert len(lines) <= 3 and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_fails_is_no_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra has one family of errors for both."""

    @functools.wraps(prepare.prepare)
    def broken(**settings: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr("sys.argv", ["prepare", "root=a", "out=b"])
    monkeypatch.setattr(prepare, "prepare", broken)
    with pytest.raises(SystemExit) as ended:
        call("prepare")
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: failure in this run: RuntimeError: broken\n")


def test_the_value_of_a_command_may_take_the_place_of_its_knob(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr("sys.argv", ["predict", "run=a", "images=x", "device=cpu", "batch_size=8"])
    with pytest.raises(SystemExit):
        call("predict")
    assert capsys.readouterr().err.startswith("error: missing pictures in images=x: ")


@pytest.mark.parametrize(
    ("name", "override", "example"),
    [
        ("evaluate", "split=foo", "split=valid"),
        ("evaluate", "tta=foo", "tta=none"),
        ("predict", "top_k=0", "top_k=3"),
        ("export", "format=foo", "format=onnx"),
        ("benchmark", "compile=[foo]", "compile=[auto]"),
    ],
)
def test_a_wrong_value_of_a_command_has_its_default_as_an_example(
    name: str, override: str, example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr("sys.argv", [name, override])
    with pytest.raises(SystemExit):
        call(name)
    assert f"hint: for instance {example}" in capsys.readouterr().err.splitlines()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Calls `python -m hybridnet.<name> <words>` in this process, in an empty folder; gives code, output and errors."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.chdir(tmp_path)

    def run(name: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", [name, *words])
        code = 0
        try:
            call(name)
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


COMMANDS = sorted(file.stem for file in (ROOT / "conf").glob("*.yaml") if file.stem != "train")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_shows_its_configuration_and_carries_nothing_out(called: Run, tmp_path: Path, name: str) -> None:
    code, output, error = called(name, "--cfg", "job")
    assert (code, error) == (0, "")
    assert output.startswith("_target_: hybridnet.")
    assert yaml.safe_load(output).keys() == config.compose(name).keys()
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_the_configuration_is_shown_as_hydra_does(called: Run) -> None:
    words = ("predict", "data.batch_size=8", "--cfg", "job")
    assert "\nbatch_size: ${data.batch_size}\n" in called(*words)[1]
    assert "\nbatch_size: 8\n" in called(*words, "--resolve")[1]
    assert called(*words, "--package", "data") == (0, "# @package data\nbatch_size: 8\n", "")
    assert called(*words, "-p", "data.batch_size") == (0, "8\n", "")
    code, output, error = called(*words, "--package", "date")
    assert (code, output) == (2, "") and error.endswith("hint: did you mean data?\n")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("-m", "-m: this command has no use for it\nhint: start it once for each value; python train.py -m … trains"),
        (
            "--config-dir own",
            "--config-dir: this command has no use for it\nhint: leave it out: yamls of your own are ",
        ),
        (
            "--config-name=foo",
            "--config-name=foo: this command is composed from conf/evaluate.yaml\nhint: leave it out",
        ),
        ("--info", "--info: this command has no use for it\nhint: --cfg job shows the configuration"),
        ("--cfg hydra", "--cfg hydra: this command has no settings of Hydra's\nhint: --cfg job shows"),
        ("--resolve", "--resolve: it says how to show the configuration\nhint: --cfg job --resolve\n"),
        ("--package data", "--package data: it says how to show the configuration\nhint: --cfg job --package data\n"),
        ("--hydra-help", "--hydra-help: this command has no use for it\nhint: --help shows the keys"),
    ],
)
def test_a_command_ignores_no_option(called: Run, words: str, error: str) -> None:
    code, output, said = called("evaluate", "run=nowhere", *words.split())
    assert (code, output) == (2, "")
    assert said.startswith(f"error: wrong option in {error}")
    assert len(said.splitlines()) == 2


def test_of_many_values_a_command_takes_one(called: Run) -> None:
    hint = "hint: start it once for each value; a list is written [a,b], text with a comma in quotes\n"
    assert called("evaluate", "run=nowhere", "tta=none,flip")[2].endswith(hint)


@pytest.mark.parametrize("name", ["report", "compare", "promote"])
def test_the_key_of_a_sweep_is_told_as_it_is_typed(called: Run, name: str) -> None:
    assert called(name, "swep=x")[2].endswith("hint: did you mean sweep?\n")
    hint = called(name, "zzz=x")[2].splitlines()[-1]
    assert hint.startswith("hint: choose from ") and "sweep," in hint and "folder" not in hint


def test_a_misspelt_key_is_answered_before_torch_is_imported(process: RunProcess) -> None:
    result = process("-X", "importtime", "train.py", "+trainer.epoch=3")
    assert result.returncode == 2
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "hydra" in imported
    assert not {"torch", "pandas", "matplotlib", "PIL", "rich"} & imported


def test_before_the_first_step_only_what_it_needs_is_imported(process: RunProcess, small: list[str]) -> None:
    script = (
        "import sys, runpy\n"
        "from hybridnet.trainer.supervised import Trainer\n"
        "def fit(*_, **__):\n"
        "    late = {'matplotlib', 'sklearn', 'torchvision', 'pandas', 'tensorboard', 'mlflow', 'wandb'}\n"
        "    print('torch' in sys.modules, sorted(late & set(sys.modules)))\n"
        "    raise KeyboardInterrupt\n"
        "Trainer.fit = fit\n"
        f"sys.argv = ['train.py', *{small!r}]\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
    )
    result = process("-c", script, PYTHONPATH=str(ROOT))
    assert result.returncode == 130, result.stderr
    assert "True []" in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["data.metadata=nowhere.csv"], "error: missing file in data.metadata=nowhere.csv: no such file"),
        (["data=folder", "data.root=nowhere"], "error: missing folder in data.root=nowhere: no such folder"),
        (
            ["data=cifar10", "model.stem=small", "data.root=nowhere"],
            "error: no CIFAR-10 in data.root=nowhere: no such folder",
        ),
        (["-m", "seed=1,2", "data.metadata=nowhere.csv"], "error: impossible job in seed=1: no job was started"),
        (["trainer.device=cuda"], "error: wrong value in trainer: device 'cuda' is not available"),
        (["model.pretrained=true", "model.backbone.weights=x.pt"], "error: wrong value in model: pretrained and"),
        (
            ["model.backbone.weights=x.pt"],
            "error: missing weights in model.backbone.weights=x.pt: no such file or run folder",
        ),
    ],
)
def test_what_a_new_run_lacks_is_found_before_there_is_a_folder(
    run: Run, overrides: list[str], error: str, tmp_path: Path
) -> None:
    if torch.cuda.is_available() and overrides == ["trainer.device=cuda"]:
        pytest.skip("there is a GPU")
    code, _, said = run(*overrides)
    assert code == 2
    assert said.splitlines()[0].startswith(error)
    assert "Traceback" not in said and "Error executing" not in said
    assert not (tmp_path / "outputs").exists()


def test_what_is_wrong_with_a_table_is_found_before_there_is_a_folder(
    run: Run, small: list[str], tmp_path: Path
) -> None:
    code, _, said = run("-m", *small, "data.fold=0,1")
    assert code == 2 and said.splitlines()[0] == "error: impossible job in data.fold=0: no job was started"
    assert "no fold, which data.fold=0 needs" in said
    (tmp_path / "table.csv").write_text("file,class\n")
    code, _, said = run(*small, "data.metadata=table.csv")
    assert code == 2 and said.startswith("error: missing columns in data.metadata=table.csv: no path, label, split")
    assert not (tmp_path / "outputs").exists()


def test_all_that_a_new_run_lacks_is_told_at_once(run: Run) -> None:
    given = ("data=metadata", "data.metadata=nowhere.csv", "data.label2id=no.json", "model.backbone.weights=x.pt")
    lines = run(*given)[2].splitlines()
    assert [line for line in lines if line.startswith("error")] == [
        "error: missing file in data.metadata=nowhere.csv: no such file",
        "error: missing file in data.label2id=no.json: no such file",
        "error: missing weights in model.backbone.weights=x.pt: no such file or run folder",
    ]


def test_what_is_complete_needs_no_files(run: Run, small: list[str], tmp_path: Path) -> None:
    """A run, and a sweep, whose pictures are gone: nothing is left to do."""
    places = {"run": ["hydra.run.dir=run"], "sweep": ["-m", "seed=1,2", "hydra.sweep.dir=sweep"]}
    for place in places.values():
        assert run(*small, "trainer.epochs=1", *place)[0] == 0
    (tmp_path / "stripes").rename(tmp_path / "gone")
    assert "holds a complete run" in run(*small, "trainer.epochs=1", *places["run"], "resume=auto")[1]
    for again in ([*small, "trainer.epochs=1", *places["sweep"]], ["resume=sweep"]):
        code, said, error = run(*again)
        assert (code, error) == (0, "") and "2 jobs: all are done" in said


def test_one_run_leaves_a_complete_folder(process: RunProcess, tmp_path: Path, small: list[str]) -> None:
    folder = tmp_path / "run"
    result = process("train.py", *small, "trainer.precision=float32", f"hydra.run.dir={folder}")
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
    again = process("train.py", *small, "seed=7", f"hydra.run.dir={folder}")
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


def test_a_multirun_gives_a_folder_for_each_job(run: Run, tmp_path: Path, small: list[str]) -> None:
    constant = [o for o in small if not o.startswith("trainer.epochs")]
    sweep = ["++trainer.epochs=1", "model.heads=2,4", "model.dropout=0.1,0.2", "hydra.sweep.dir=s"]
    code, _, error = run("-m", *constant, *sweep)
    assert code == 0, error
    folders = sorted(path.name for path in (tmp_path / "s").glob("[0-9]*"))
    assert folders == [
        "0_dropout=0.1,heads=2",
        "1_dropout=0.2,heads=2",
        "2_dropout=0.1,heads=4",
        "3_dropout=0.2,heads=4",
    ]
    for name in folders:
        files = {path.name for path in (tmp_path / "s" / name).iterdir()}
        assert files == FILES - {"last.pt"} | {"job.json", ".job.lock"}
        assert _json(tmp_path / "s" / name / "status.json")["status"] == "complete"
    log = (tmp_path / "s" / folders[3] / "train.log").read_text()
    assert log.count("epoch 1/1") == 1, "each job's log has its own lines"


def test_a_sweep_without_a_ledger_is_refused(run: Run, tmp_path: Path, small: list[str]) -> None:
    code, _, error = run(*small, "hydra.mode=MULTIRUN", "hydra.sweep.dir=s")
    assert (code, error) == (
        2,
        "error: wrong value in hydra.mode=MULTIRUN: a sweep is asked for with -m\n"
        "hint: python train.py -m …, without hydra.mode\n",
    )
    assert not list(tmp_path.rglob("status.json"))


def test_a_report_that_cannot_be_made_does_not_fail_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _report(tmp_path / "nowhere")
    said = capsys.readouterr().out
    assert said.startswith("no report: error: no sweep in ") and "python -m hybridnet.report sweep=" in said


def test_collections_are_rare_only_while_jobs_are_checked() -> None:
    usual = gc.get_threshold()
    try:
        with pytest.raises(RuntimeError), _rare_collections():
            assert gc.get_threshold() == (100_000, *usual[1:])
            raise RuntimeError
        assert gc.get_threshold() == usual
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_one_seed_gives_one_history(run: Run, tmp_path: Path, tiny: list[str]) -> None:
    """Also after other jobs in the same process, and another seed another history."""
    for order in ("1,2", "2,1"):
        code, _, error = run("-m", *tiny, f"seed={order}", f"hydra.sweep.dir={order[0]}")
        assert code == 0, error
    first, other, other_again, again = (
        (tmp_path / folder / "history.json").read_text()
        for folder in ("1/0_seed=1", "1/1_seed=2", "2/0_seed=2", "2/1_seed=1")
    )
    assert (first, other) == (again, other_again)
    assert first != other


NOT_FINITE = r"loss that is not finite in epoch 1, step 2: learning rates: .*backbone 0\.0\d+.* head .*e\+\d\d"
TOO_LARGE = r"out of memory in cpu: a batch of 6 pictures of 32×32 does not fit \(CUDA out of memory\. Tried .*\)"
MISTAKE = "IndexError: list index out of range"
LOST = r"lost worker process in data\.num_workers=1: process \d+ was killed by SIGKILL; usually .* no memory left"


@pytest.mark.parametrize(
    ("sweep", "message", "has_checkpoint"),
    [
        ("optimizer.head_lr=1e+30,1e-3", NOT_FINITE, False),
        ("model/backbone=raising,small", re.escape(MISTAKE), True),
        ("model/backbone=hungry,small", TOO_LARGE, True),
        ("data/augment=deadly data.num_workers=1,0", LOST, False),
    ],
    ids=["not finite", "exception", "out of memory", "killed worker"],
)
def test_a_job_that_fails_leaves_its_traceback_and_the_others_run(
    start: Start, tiny: list[str], tmp_path: Path, reference: Path, sweep: str, message: str, has_checkpoint: bool
) -> None:
    command = start("-m", *tiny, *sweep.split(), "hydra.sweep.dir=s")
    assert command.wait() == 1, command.stdout
    wait_until(lambda: not command.session(), "its processes end", seconds=10)
    failed, other = sorted((tmp_path / "s").glob("[0-9]_*"))
    swept = next(text for text in sweep.split() if "," in text).partition(",")[0]
    swept = f"error: failed job in 0 ({swept}): "
    hint = f"\nhint: s/{failed.name}/train.log has the traceback; python train.py resume=s tries it again\n"
    assert re.fullmatch(f"{re.escape(swept)}{message}{re.escape(hint)}", command.stderr), command.stderr
    assert "Traceback" not in command.stdout
    assert "job 0 (" in command.stdout and "1 of 2 jobs done\n" in command.stdout

    assert outcome(other) | {"files": set()} == outcome(reference) | {"files": set()}
    status, record = _json(failed / "status.json"), _json(failed / "job.json")
    assert (status["status"], record["status"], record["attempt"]) == ("failed", "failed", 1)
    assert re.search(message.removeprefix("IndexError: "), status["error"]) and re.search(message, record["error"])
    log = (failed / "train.log").read_text()
    assert log.count("Traceback (most recent call last)") >= 1 and record["error"] in log
    assert "Traceback" not in (other / "train.log").read_text()
    assert not (failed / "metrics.json").exists()
    assert (failed / "last.pt").exists() == (failed / "best_model.pt").exists() == has_checkpoint
    says_how = f"continue with python train.py resume={failed.relative_to(tmp_path)}\n" in command.stdout
    assert says_how == has_checkpoint
    require_whole_files(failed)


def test_what_is_reported_is_what_was_saved(start: Start, run: Run, tiny: list[str], tmp_path: Path) -> None:
    """A weight of the best model is another one on the disk, as with faulty memory: no figures; the run can go on."""
    options, folder = [*tiny, "trainer.epochs=1", "hydra.run.dir=run"], tmp_path / "run"
    command = start(*options, hold=("rename history.csv", 1)).wait_until_held()
    content = load_checkpoint(folder / "best_model.pt")
    next(iter(content["model"].values()))[0] *= 1.0001
    save_checkpoint(folder / "best_model.pt", content)
    command.go_on()
    assert command.wait() == 1
    assert command.stderr == (
        f"error: damaged checkpoint in {folder / 'best_model.pt'}: it does not hold the weights that were evaluated\n"
        "hint: the disk or the memory may be faulty\n"
    )
    assert _json(folder / "status.json")["status"] == "failed"
    assert not (folder / "metrics.json").exists()
    assert run("resume=run")[0] == 0
    assert _json(folder / "metrics.json")["valid_acc"] == _json(folder / "history.json")[0]["valid_acc"]


def test_weights_of_an_earlier_run_are_taken_and_told(command: RunProcess, tmp_path: Path, small: list[str]) -> None:
    one_epoch = [*small, "trainer.epochs=1"]
    assert command("train.py", *one_epoch, "model=plain", "~model.size", "hydra.run.dir=first").returncode == 2
    first = command("train.py", *[o for o in one_epoch if "size=lite" not in o], "model=plain", "hydra.run.dir=first")
    assert first.returncode == 0, first.stderr
    second = command("train.py", *one_epoch, "model.backbone.weights=first", "hydra.run.dir=second")
    assert second.returncode == 0, second.stderr
    assert "backbone weights from first: loaded 120 of 120 tensors" in second.stdout
    assert "in the file, not used: fc.weight, fc.bias" in second.stdout
    assert digests_of(tmp_path / "second", "backbone") == digests_of(tmp_path / "first", "train")
    seen = digests_of(tmp_path / "second", "backbone")
    again = command("train.py", "resume=second", "trainer.epochs=2")
    assert again.returncode == 0, again.stderr
    assert digests_of(tmp_path / "second", "backbone") == seen, "told by the run itself"
    noted = tmp_path / "first" / "pictures.csv"
    noted.write_text(noted.read_text().replace("valid,", "train,"))  # as if it were of another split
    third = command("train.py", *one_epoch, "model.backbone.weights=first", "hydra.run.dir=third")
    assert third.returncode == 2
    assert "the backbone was trained with 9 of the 9 validation pictures" in third.stderr


def test_a_run_keeps_its_table_when_pictures_are_added(
    run: Run, tiny: list[str], stripes: Path, tmp_path: Path
) -> None:
    rows = list(csv.DictReader((stripes / "metadata.csv").read_text().splitlines()))
    for number, row in enumerate(rows):
        folder = tmp_path / "photos" / row["label"]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(stripes / row["path"], folder / f"{number}.png")
    own = [text for text in tiny if not text.startswith(("data=", "data.metadata", "data.label2id"))]
    words = [*own, "data=folder", "data.root=photos", "trainer.epochs=1"]
    assert run(*words, "hydra.run.dir=first")[0] == 0
    Image.new("RGB", (30, 40), "red").save(tmp_path / "photos" / rows[0]["label"] / "new.png")
    code, output, _ = run(*words, "hydra.run.dir=second")
    assert code == 0 and "1 new picture, 0 gone; the" in output
    code, output, error = run("resume=first", "trainer.epochs=2")
    assert code == 0, error
    assert "the run goes on with the table that it began with: data/folder/metadata.csv" in output
    editions = [_json(tmp_path / name / "environment.json")["edition"] for name in ("first", "second")]
    assert editions == ["", "photos_2/metadata.csv"]


def test_showing_the_configuration_names_mistakes_too(command: RunProcess) -> None:
    shown = command("train.py", "--cfg", "job", "model=ca", "model.reduction=8")
    assert shown.returncode == 0
    assert "reduction: 8" in shown.stdout
    wrong = command("train.py", "--cfg", "job", "trainer.epoch=3")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: unknown key in trainer.epoch")
    wrong = command("train.py", "--cfg", "job", "--package", "modl")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: unknown key in --package=modl") and "did you mean model?" in wrong.stderr


def test_of_a_sweep_the_configuration_of_the_first_job_is_shown(run: Run, tmp_path: Path) -> None:
    code, output, error = run("-m", "seed=range(3,5)", "model=ca,plain", "hydra.sweep.dir=s", "--cfg", "job")
    assert (code, error) == (0, "")
    assert "\nseed: 3\n" in output and "CoordinateAttention" in output
    code, output, error = run("+sweep=models", "seed=3", "--cfg", "job")
    assert (code, error) == (0, "") and "\nseed: 3\n" in output
    code, output, error = run("--multirun", "seed=0,1", "trainer.epoch=3", "--cfg", "job")
    assert (code, output) == (2, "") and error.startswith("error: unknown key in trainer.epoch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_what_has_relative_paths_is_not_continued_elsewhere(run: Run, tmp_path: Path, kind: str) -> None:
    overrides = ["data=metadata", "data.metadata=rel/metadata.csv", f"data.label2id={tmp_path}/a/rel/label2id.json"]
    folder = tmp_path / "a" / "folder"
    (folder / ".hydra").mkdir(parents=True)
    (tmp_path / "a" / "rel").mkdir()
    (tmp_path / "a" / "rel" / "metadata.csv").touch()
    if kind == "sweep":
        asked = {"overrides": [*overrides, "seed=0,1"], "config_dir": None, "monitor": "valid_acc"}
        (folder / "sweep.json").write_text(
            json.dumps({**asked, "num_jobs": 2, "num_threads": None, "working_directory": f"{tmp_path}/a"})
        )
    else:
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        (folder / ".hydra" / "hydra.yaml").write_text(f"hydra: {{runtime: {{cwd: {tmp_path}/a}}}}")
    before = content(tmp_path)
    code, output, error = run("resume=a/folder", "trainer.epochs=3")
    assert (code, output) == (2, "")
    assert error.startswith(
        f"error: missing path in data.metadata=rel/metadata.csv: the {kind} began in {tmp_path}/a, "
        f"where rel/metadata.csv is\nhint: start it there (cd {tmp_path}/a)"
    )
    assert len(error.splitlines()) == 2
    assert content(tmp_path) == before


def test_help_says_what_can_be_chosen(process: RunProcess) -> None:
    result = process("train.py", "--help")
    assert result.returncode == 0
    assert "hybrid" in result.stdout and "scheduler" in result.stdout


def test_a_failure_shows_its_traceback_when_asked_for(run: Run) -> None:
    code, _, error = run("model.heads=3", HYDRA_FULL_ERROR="1")
    assert code == 2
    assert "Traceback" in error


RESNET = ["model=plain", "model.backbone.layers=[1,1,1,1]", "data=metadata"]
RESNET += ["data.metadata=gone.csv", "data.label2id=gone.json"]  # whose pictures are an error once they are read


@pytest.fixture
def no_pictures(tmp_path: Path) -> None:
    (tmp_path / "gone.csv").write_text("path,label,split\na.png,a,train\nb.png,a,valid\n")
    (tmp_path / "gone.json").write_text('{"a": 0}')


@contextmanager
def _mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system of its own at `folder`. Only root may do that, and not in every container."""
    if shutil.which("mount") is None or subprocess.run(["mount", *options, folder], stderr=subprocess.PIPE).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield folder


@contextmanager
def _read_only(folder: Path) -> Iterator[Path]:
    """Nobody but root respects permissions, and nobody but root can mount."""
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    with _mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield folder


def _limit_files(command: Command, num_bytes: int) -> None:
    import resource  # not on Windows

    resource.prlimit(command.process, resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


@pytest.mark.usefixtures("no_pictures")
def test_a_file_size_limit_is_noticed_before_data_are_read(start: Start, tmp_path: Path) -> None:
    command = start(*RESNET, "hydra.run.dir=run", hold=("start", 1)).wait_until_held()
    _limit_files(command, 10_000_000)
    command.go_on()
    assert command.wait() == 2
    assert command.stderr == (
        f"error: file size limit in {tmp_path / 'run'}: a checkpoint has 79 MB, the limit of a file is 10 MB\n"
        "hint: raise it with ulimit -f unlimited, or train a smaller model\n"
    )
    assert not (tmp_path / "run" / "status.json").exists()


@pytest.mark.usefixtures("no_pictures")
def test_a_disk_without_room_is_noticed_before_data_are_read(run: Run, tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk", "10m") as disk:
        code, _, error = run(*RESNET, "hydra.run.dir=disk/run")
        assert code == 2
        assert error == (
            f"error: no room in {disk / 'run'}: the checkpoints need 275 MB, 10 MB are free\n"
            "hint: make room, choose another disk with hydra.run.dir=<folder>, or train a smaller model\n"
        )
        assert not (disk / "run" / "status.json").exists()


def test_a_file_size_limit_while_training(
    start: Start, run: Run, tiny: list[str], tmp_path: Path, reference: Path
) -> None:
    """Reached by last.pt at the end of the second epoch; the best model would still have fitted."""
    folder = tmp_path / "run"
    command = start(*tiny, "hydra.run.dir=run", hold=("step", 6)).wait_until_held()
    wait_until_saved(folder)
    before = (folder / "last.pt").read_bytes()
    limit = len(before) - 1000
    assert (folder / "best_model.pt").stat().st_size < limit
    _limit_files(command, limit)
    command.go_on()
    assert command.wait() == 1
    assert command.stderr == (
        f"error: file size limit in {folder / 'last.pt'}: the limit of a file is {in_bytes(limit)}\n"
        "hint: ulimit -f unlimited; what was saved before is whole; then continue with python train.py resume=run\n"
    )
    _goes_on_after(run, command, folder, before=before, reference=reference)


def test_a_disk_that_is_full_while_training(
    start: Start, run: Run, tiny: list[str], tmp_path: Path, reference: Path
) -> None:
    with _small_disk(tmp_path / "disk", "3m") as disk:
        command = start(*tiny, "hydra.run.dir=disk/run", hold=("step", 6)).wait_until_held()
        wait_until_saved(disk / "run")
        before = (disk / "run" / "last.pt").read_bytes()
        with pytest.raises(OSError, match="No space left"), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        command.go_on()
        assert command.wait() == 1
        assert command.stderr == (
            f"error: disk full in {disk / 'run' / 'last.pt'}: No space left on device, 0 kB are free\n"
            "hint: make room; what was saved before is whole; then continue with python train.py resume=disk/run\n"
        )
        assert "status.json still says running: " in command.stdout
        (disk / "filler").unlink()
        _goes_on_after(run, command, disk / "run", before=before, reference=reference, status="running")


def _goes_on_after(
    run: Run, command: Command, folder: Path, *, before: bytes, reference: Path, status: str = "failed"
) -> None:
    """The run that could not write is whole, and once it can it ends as it would have without the trouble."""
    assert (folder / "last.pt").read_bytes() == before
    assert _json(folder / "status.json")["status"] == status
    assert not [*folder.rglob(".*.tmp")]
    require_whole_files(folder)
    assert "Traceback" not in command.stdout
    code, output, error = run(f"resume={folder}")
    assert (code, error) == (0, "")
    assert "continuing after epoch 1, batch 0 of the next one (step 4)" in output
    assert outcome(folder) == outcome(reference)


@pytest.mark.usefixtures("no_pictures")
def test_a_folder_that_cannot_be_written_is_noticed_before_data_are_read(
    run: Run, parted: Path, tmp_path: Path, reference: Path
) -> None:
    before = content(parted)
    hint = "hint: choose another place with hydra.run.dir=<folder>, or hydra.sweep.dir=<folder> with -m\n"
    why = "Permission denied" if os.geteuid() else "Read-only file system"
    with _read_only(parted):
        assert run(*RESNET, "hydra.run.dir=run/new") == (
            2,
            "",
            f"error: unusable output folder in run/new: {why}\n{hint}",
        )
        code, _, error = run("resume=run", "data.metadata=nowhere.csv")
        assert code == 2
        hint = "hint: make it writable: what is continued is continued in its own folder\n"
        assert error == f"error: unusable output folder in {parted / 'train.log'}: {why}\n{hint}"
    assert content(parted) == before
    assert run("resume=run")[0] == 0
    assert outcome(parted) == outcome(reference)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_words(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    code, message = _code_and_message(OSError(number, os.strerror(number), "out/predictions.csv"), capsys)
    assert code == 1 and message.startswith(
        f"error: no room in out/predictions.csv: {os.strerror(number)}\nhint: make room"
    )


def _code_and_message(error: Exception, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended, launch._errors_as_exit_codes():
        raise error
    return ended.value.code, capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_not_taken_for_the_output_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as another user's sweep; and most commands have no hydra.run.dir."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    code, message = _code_and_message(PermissionError(errno.EACCES, "Permission denied", "theirs"), capsys)
    assert code == 1
    assert message.startswith("error: failure in this run: PermissionError: [Errno 13] Permission denied: 'theirs'\n")


@pytest.mark.parametrize(
    ("sweep", "name", "is_of_output"),
    [(None, "run", True), ("sweep", "sweep/0/train.log", True), ("sweep", "/dev/shm/joblib", False)],
)
def test_what_hydra_cannot_write_is_of_the_output_folder(
    monkeypatch: pytest.MonkeyPatch, sweep: str | None, name: str, is_of_output: bool
) -> None:
    def fail() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr(launch.hydra, "main", lambda **_: lambda job: fail)
    expected = InputError if is_of_output else PermissionError
    with pytest.raises(expected, match=f"unusable output folder in {name}: " if is_of_output else name):
        launch._start(print, "train", sweep=Path(sweep) if sweep else None)


def test_a_process_that_follows_ends_without_what_libraries_do_at_their_end(process: RunProcess) -> None:
    code = """
import atexit
from hybridnet.launch import launch
atexit.register(print, "at the end")
launch(None, "train", check=None, follow=lambda: print("followed"))
"""
    done = process("-c", code, RANK="1", WORLD_SIZE="2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "followed\n", "")
