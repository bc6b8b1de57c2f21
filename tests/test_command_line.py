from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridnet import command_line, config
from hybridnet.errors import InputError
from tests.conftest import ROOT

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Types a command line."""
    return lambda *words: monkeypatch.setattr(sys, "argv", ["train.py", *words])


def test_options_may_stand_between_settings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 7\n")
    words = ["model=plain", "--config-dir", "conf", "experiment=own", "--cfg", "job", "model.dropout=0.25"]
    code, output, error = run(*words)
    assert (code, error) == (0, "")
    assert "\nseed: 7\n" in output and "\n  dropout: 0.25\n" in output and "PlainClassifier" in output


def test_a_yaml_that_hydra_would_not_take_is_refused(run: Run, tmp_path: Path) -> None:
    """The project's of the same name comes first; a copy of it is no matter."""
    for name in ("quick.yaml", "cpu.yaml"):
        (tmp_path / "conf" / "experiment").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "conf" / "experiment" / name, tmp_path / "conf" / "experiment")
    words = ["--config-dir", "conf", "experiment=quick", "--cfg", "job"]
    code, _, error = run(*words)
    assert (code, error) == (0, "")
    with (tmp_path / "conf" / "experiment" / "quick.yaml").open("a") as stream:
        stream.write("seed: 7\n")
    code, output, error = run(*words)
    assert (code, output) == (2, "")
    assert error == (
        "error: name in use in conf/experiment/quick.yaml: the project has another file of this name, which is taken\n"
        "hint: rename it\n"
    )


def test_a_folder_of_any_name_is_taken_as_it_stands(run: Run, tiny: list[str], tmp_path: Path) -> None:
    """Hydra would take the characters of its own syntax for that."""
    name = "läufe/it's 0_model=plain, seed=0 (1)"
    (tmp_path / name).mkdir(parents=True)
    code, _, error = run(*tiny, "trainer.epochs=1", f"hydra.run.dir={name}")
    assert (code, error) == (0, "")
    code, output, error = run(f"resume={name}")
    assert (code, error) == (0, "") and "nothing is left to do" in output


@pytest.mark.parametrize(
    ("name", "word", "hint"),
    [
        ("predict", "leaf 1.jpg", "'images=leaf 1.jpg'"),
        ("predict", "photos", "images=photos"),
        ("predict", "run", "run=run"),
        ("export", "run/best_model.pt", "run=run/best_model.pt"),
        ("evaluate", "run", "run=run"),
        ("evaluate", "t.csv", "data.metadata=t.csv"),
        ("compare", "run", "runs=run"),
        ("compare", "sweep", "sweep=sweep"),
        ("report", "sweep", "sweep=sweep"),
        ("prepare", "photos", "root=photos"),
        ("doctor", "ids.json", "data.label2id=ids.json"),
        ("train", "run", "resume=run"),
        ("train", "sweep", "resume=sweep"),
    ],
)
def test_a_word_that_names_something_is_answered_with_its_key(
    typed: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, word: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, file in (("run", "best_model.pt"), ("sweep", "sweep.json"), ("photos", "1.jpg")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).touch()
    for file in ("leaf 1.jpg", "t.csv", "ids.json"):
        (tmp_path / file).touch()
    typed(word)
    with pytest.raises(InputError) as raised:
        command_line.read(name)
    assert str(raised.value) == (f"error: unreadable override in {word}: settings are written key=value\nhint: {hint}")
    for other in ("nowhere", 300 * "a"):  # too long for the name of a file
        typed(other)
        assert command_line.read(name).overrides == [other], "what it is not said to be is Hydra's to judge"


def test_what_is_continued_is_typed_as_it_began(typed: Callable, reference: Path) -> None:
    typed("--cfg", "job", f"resume={reference}", "trainer.epochs=9")
    arguments = command_line.continued(command_line.read("train"))
    *others, place, resume = arguments.overrides
    assert (place, resume) == (f"hydra.run.dir='{reference}'", f"resume='{reference}'")
    assert others == config.merged(config.read_overrides(reference), ["trainer.epochs=9"])
    own = config.config_dir(reference)
    assert [word for word in sys.argv[1:] if word not in arguments.overrides] == ["--cfg", "job", "--config-dir", own]


def test_a_preset_of_a_sweep_asks_for_many_runs(typed: Callable) -> None:
    typed("+sweep=mine", "seed=1")
    assert command_line.continued(command_line.read("train")).multirun
    assert sys.argv[1:] == ["+sweep=mine", "seed=1", "-m"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["-m", "seed=1,2"], "error: wrong option in -m with torchrun: several processes train one model together"),
        (["verify_resume=true"], "error: wrong option in verify_resume with torchrun: it compares runs of one process"),
    ],
)
def test_several_processes_train_one_model(typed: Callable, words: list[str], error: str) -> None:
    typed("seed=1")
    command_line.require_one_run(command_line.read("train"))
    typed(*words)
    with pytest.raises(InputError) as raised:
        command_line.require_one_run(command_line.read("train"))
    assert str(raised.value) == f"{error}\nhint: start it with python train.py: one process"
