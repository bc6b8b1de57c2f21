"""`python -m hybridnet.promote`: the best settings of a sweep become an experiment, and are tried on fresh seeds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hybridnet import config, promote, resume
from hybridnet.errors import InputError, Stopped, TrainingError
from tests.conftest import Run, content
from tests.sweep.folders import SweepFolder

Runner = Callable[[Sequence[str]], int]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """Two heads are better than four; seeds 0 and 2."""
    monkeypatch.chdir(tmp_path)
    sweep = SweepFolder(Path("sweep"))
    for heads, value in ((2, 0.9), (4, 0.8)):
        for seed in (0, 2):
            sweep.add(value + seed / 100, f"model.heads={heads}", f"seed={seed}")
    return sweep


def _promote(name: str = "leaves", *, sweep: str | list[str] = "sweep", seeds: int = 0, **options: object) -> None:
    settings = {"out": "conf", "overwrite": False} | options
    promote.promote(folder=sweep, name=name, seeds=seeds, **settings)  # type: ignore[arg-type]


def _composed(name: str = "leaves") -> tuple[object, ...]:
    cfg = config.compose("train", [f"experiment={name}"], config_dirs=["conf"])
    return cfg.model.heads, cfg.model.size, cfg.trainer.epochs, cfg.seed


def test_the_command_writes_the_best_job(sweep: SweepFolder, command: Run) -> None:
    done = command("-m", "hybridnet.promote", "sweep=sweep", "name=leaves", "out=conf")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "wrote conf/experiment/leaves.yaml",
        "use it: python train.py --config-dir conf experiment=leaves",
    ]
    assert _composed() == (2, "lite", 3, 2)
    text = Path("conf/experiment/leaves.yaml").read_text()
    assert text.startswith("# @package _global_\n# The best settings of a sweep")


def test_another_experiment_of_that_name_is_kept(sweep: SweepFolder) -> None:
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/leaves.yaml").write_text("# @package _global_\nseed: 7\n")
    with pytest.raises(InputError, match="error: name in use in .*leaves.yaml: (?s:.*)overwrite=true"):
        _promote()
    assert Path("conf/experiment/leaves.yaml").read_text() == "# @package _global_\nseed: 7\n"
    _promote(overwrite=True)
    before = content(Path("conf"))
    _promote()
    assert content(Path("conf")) == before, "it says the same already"


@pytest.mark.parametrize("name", ["", "a/b", "../a", "1", "a b", "a=b", "a,b", "ä", "a.b"])
def test_a_name_that_is_none_is_refused(sweep: SweepFolder, name: str) -> None:
    with pytest.raises(InputError, match="error: wrong value in name="):
        _promote(name)


def test_a_file_that_is_no_text_is_no_experiment(sweep: SweepFolder) -> None:
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/leaves.yaml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="error: unusable file in conf/experiment/leaves.yaml: 'utf-8' codec"):
        _promote(overwrite=True)


def test_the_command_is_written_as_a_shell_reads_it(sweep: SweepFolder, capsys: pytest.CaptureFixture[str]) -> None:
    _promote(out="my conf")
    assert "use it: python train.py --config-dir 'my conf' experiment=leaves" in capsys.readouterr().out


def test_a_name_that_the_project_has_is_refused_elsewhere(sweep: SweepFolder) -> None:
    """Hydra would take the project's."""
    message = "error: name in use in name=quick: the project has an experiment of this name, which would be taken"
    with pytest.raises(InputError, match=message):
        _promote("quick", overwrite=True)
    assert not Path("conf").exists()


def test_without_a_complete_job_there_is_nothing_to_promote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SweepFolder(Path("sweep")).add(None, "model.heads=2", status="failed")
    with pytest.raises(InputError) as raised:
        _promote()
    assert str(raised.value) == (
        "error: nothing to promote in sweep: no job is complete (1 job: 1 failed)\n"
        "hint: go on with the sweep: python train.py resume=sweep"
    )
    SweepFolder(Path("other"))
    with pytest.raises(InputError, match="resume=sweep or python train.py resume=other"):
        _promote(sweep=["sweep", "other"])


def test_a_place_that_cannot_be_written_is_said_so(sweep: SweepFolder) -> None:
    Path("conf").write_text("")
    with pytest.raises(
        InputError, match="error: unusable file in conf/experiment/leaves.yaml: (?s:.*)hint: .*out=<folder>"
    ):
        _promote()


def test_the_sweeps_own_configuration_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("defaults: [ca, _self_]\nreduction: 7\n")
    SweepFolder(Path("sweep"), config_dir=str(tmp_path / "own")).add(0.9, "model=mine", always=[])
    _promote(out=None)
    assert Path("own/experiment/leaves.yaml").is_file()
    cfg = config.compose("train", ["experiment=leaves"], config_dirs=["own"])
    assert cfg.model.reduction == 7
    _promote(out="own")
    with pytest.raises(InputError, match="error: wrong value in out=conf: the sweep was started with --config-dir"):
        _promote(out="conf")


def test_of_several_sweeps_the_best_is_promoted(sweep: SweepFolder, runs: list[list[str]]) -> None:
    SweepFolder(Path("other")).add(0.99, "model.heads=8", "seed=5")
    _promote(sweep=["sweep", "other"], seeds=1)
    assert _composed() == (8, "lite", 3, 5)
    assert Path("sweep/promoted/leaves").is_dir() and not Path("other/promoted").exists()


def test_the_projects_own_configuration_folder_needs_no_option(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "CONF_DIR", tmp_path / "conf")
    for out in (None, "conf"):
        _promote(out=out)
        assert capsys.readouterr().out.splitlines() == [
            "wrote conf/experiment/leaves.yaml",
            "use it: python train.py experiment=leaves",
        ]


# On fresh seeds


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands for train.py: trains what is not there yet; each seed has the accuracy 0.7 + heads / 20 + seed / 100."""
    commands: list[list[str]] = []

    def run(words: Sequence[str]) -> int:
        commands.append(list(words))
        given = dict(word.split("=", 1) for word in words if "=" in word)
        folder = Path(given["hydra.sweep.dir"])
        trained = SweepFolder(folder) if not folder.exists() else _again(folder)
        known = {job.identity for job in trained.jobs()}
        for seed in map(int, given["seed"].split(",")):
            if _identity(seed) not in known:
                _add(trained, 0.7 + _composed()[0] / 20 + seed / 100, seed)
        return 0

    monkeypatch.setattr(promote, "_run", run)
    return commands


def _identity(seed: int) -> str:
    cfg = config.compose("train", ["experiment=leaves", f"seed={seed}"], config_dirs=["conf"])
    return resume.identity(config.flat(cfg)[0], swept=["seed"])


def _add(trained: SweepFolder, value: float | None, seed: int, **options: str) -> None:
    """A job of the experiment as it is now."""
    trained.add(value, f"seed={seed}", always=["experiment=leaves"], identity=_identity(seed), **options)


def _again(folder: Path) -> SweepFolder:
    sweep = SweepFolder.__new__(SweepFolder)
    sweep.folder, sweep.monitor = folder, "valid_acc"
    sweep.num_jobs = len(sweep.jobs())
    return sweep


def test_fresh_seeds_are_those_that_the_sweep_has_not_had(
    sweep: SweepFolder, runs: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeds 1, 3 and 4: 0.81, 0.83 and 0.84, mean 0.8267; the sweep said (0.90 + 0.92) / 2."""
    _promote(seeds=3)
    place = Path("sweep/promoted/leaves").resolve()
    assert runs == [
        [
            *(sys.executable, str(config.CONF_DIR.parent / "train.py"), "-m", "--config-dir", "conf"),
            *("experiment=leaves", "seed=1,3,4", f"hydra.sweep.dir={place}"),
        ]
    ]
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["in", "the", "sweep", "0.9100", "±", "0.0141", "(n", "=", "2),", "the", "best", "of", "2"] in shown
    assert ["on", "fresh", "seeds", "0.8267", "±", "0.0153", "(n", "=", "3)"] in shown
    assert next(line for line in shown if line[0] == "difference")[:2] == ["difference", "-0.0833:"]
    text = Path("conf/experiment/leaves.yaml").read_text()
    assert "# Fresh:    valid_acc 0.8267 ± 0.0153 (n = 3) on seeds that the sweep has not seen: 1, 3, 4\n" in text
    assert _composed() == (2, "lite", 3, 2)
    assert len(sweep.jobs()) == 4, "the sweep itself is as it was"


def test_a_seed_that_was_not_typed_is_not_fresh_either(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.add(0.9)  # with 42
    found = promote.fresh_seeds(promote.read_study([sweep.folder]), 45)
    assert found == [seed for seed in range(46) if seed != 42]


def test_the_same_command_goes_on(sweep: SweepFolder, runs: list[list[str]]) -> None:
    _promote()
    trained = SweepFolder(Path("sweep/promoted/leaves"))
    _add(trained, 0.5, 1)
    _promote(seeds=2)
    assert [job.overrides[-1] for job in trained.jobs()] == ["seed=1", "seed=3"]
    assert "0.6650" in Path("conf/experiment/leaves.yaml").read_text()
    _promote(seeds=3)
    assert "1, 3, 4\n" in Path("conf/experiment/leaves.yaml").read_text()


def test_only_trainings_of_the_experiment_as_it_is_now_count(sweep: SweepFolder, runs: list[list[str]]) -> None:
    """Eight heads become the best and are promoted under the same name; with another seed two are the best again."""
    shown = []
    for value, seed in ((0.85, 0), (0.99, 4), (0.5, 6)):
        sweep.add(value, "model.heads=8", f"seed={seed}")
        _promote(seeds=1, overwrite=True)
        fresh = Path("conf/experiment/leaves.yaml").read_text().partition("# Fresh:    valid_acc ")[2]
        shown.append((_composed()[0], fresh[:6]))
    assert shown == [(2, "0.8100"), (8, "1.1100"), (2, "0.8100")]


def test_what_was_complete_is_reported_also_after_a_failure(
    sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(words: Sequence[str]) -> int:
        trained = SweepFolder(Path("sweep/promoted/leaves"))
        _add(trained, 0.5, 1)
        _add(trained, None, 3, status="failed")
        return 1

    monkeypatch.setattr(promote, "_run", run)
    with pytest.raises(
        TrainingError, match="error: failed jobs in sweep/promoted/leaves: 1 of 2 trainings on fresh seeds"
    ):
        _promote(seeds=2)
    assert "# Fresh:    valid_acc 0.5000 (n = 1)" in Path("conf/experiment/leaves.yaml").read_text()


@pytest.mark.parametrize(("status", "value"), [("complete", None), ("pruned", 0.5)])
def test_a_training_without_a_result_is_not_counted(
    status: str, value: float | None, sweep: SweepFolder, runs: list[list[str]]
) -> None:
    _promote()
    _add(SweepFolder(Path("sweep/promoted/leaves")), value, 1, status=status)
    with pytest.raises(TrainingError, match="0 of 1 trainings"):
        _promote(seeds=1)


def test_a_place_is_quoted_where_an_override_needs_it() -> None:
    assert [promote._value(text) for text in ("/a.b-c/d_1", "/a b/c,d")] == ["/a.b-c/d_1", "'/a b/c,d'"]


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (
            0,
            TrainingError,
            "error: failed jobs in a: 1 of 2 trainings on fresh seeds are complete\nhint: the same command",
        ),
        (2, InputError, "error: wrong input in a: the trainings on fresh seeds were refused"),
        (130, Stopped, "SIGINT"),
        (143, Stopped, "SIGTERM"),
        (-15, Stopped, "SIGTERM"),
    ],
)
def test_a_training_that_was_not_completed_is_no_success(code: int, error: type[BaseException], message: str) -> None:
    with pytest.raises(error, match=message):
        promote._require_complete(code, 1, [3, 4], Path("a"))
    promote._require_complete(0, 2, [3, 4], Path("a"))


def test_a_code_of_failure_is_one_though_all_are_complete() -> None:
    with pytest.raises(TrainingError, match="2 of 2 trainings on fresh seeds are complete"):
        promote._require_complete(1, 2, [3, 4], Path("a"))


def test_the_command_ends_with_1_after_a_failure(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promote, "_run", lambda words: 1)
    cfg = config.compose("promote", ["folder=sweep", "name=leaves", "out=conf", "seeds=2"])
    assert not config.find_faults(cfg)
    with pytest.raises(TrainingError, match="0 of 2 trainings"):
        config.build(cfg)


def test_without_a_train_py_it_is_said_so(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "conf").symlink_to(config.CONF_DIR)
    monkeypatch.setattr(config.session, "CONF_DIR", tmp_path / "installed" / "conf")
    with pytest.raises(InputError, match="error: no train.py in .*installed: it lies beside conf"):
        _promote(seeds=1)
    assert Path("conf/experiment/leaves.yaml").exists()


def test_a_signal_is_handed_on(tmp_path: Path) -> None:
    """SIGTERM to this process alone reaches the command, which ends in its own way; a terminal's reach it once."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143 if os.getsid(0) == os.getpid() else 1))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    before = signal.getsignal(signal.SIGTERM)
    assert promote._run([sys.executable, str(script)]) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_before_there_is_a_process_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: Any, popen: Any = subprocess.Popen, **options: Any) -> subprocess.Popen:
        process = popen(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(subprocess, "Popen", start)
    assert promote._run([sys.executable, "-c", "import time; time.sleep(60)"]) == -signal.SIGTERM


# Of folds


TABLE = "path,label,split,fold\n0.png,a,valid,0\n1.png,a,train,1\n"
SAVED = "data: {_target_: hybridnet.data.metadata.MetadataImages, metadata: table.csv}\n"


@pytest.fixture
def folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Two heads are better than four, over the folds 1 and 0; train.py is stood for, and its commands are recorded.

    A fresh training has the accuracy 0.5 + seed / 100 + fold / 10.
    """
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(TABLE)
    always = ["data=metadata", "data.metadata=table.csv"]
    sweep = SweepFolder(Path("sweep"))
    for heads, value in ((2, 0.9), (4, 0.8)):
        for fold in (1, 0):
            swept = [f"model.heads={heads}", f"data.fold={fold}", "seed=0"]
            sweep.add(value + fold / 100, *swept, always=always, saved=SAVED)
    commands: list[list[str]] = []

    def run(words: Sequence[str]) -> int:
        commands.append(list(words))
        given = dict(word.split("=", 1) for word in words if "=" in word)
        trained = SweepFolder(Path(given["hydra.sweep.dir"]))
        for seed in given["seed"].split(","):
            for fold in given["data.fold"].split(","):
                typed = [f"seed={seed}", f"data.fold={fold}"]
                cfg = config.compose("train", ["experiment=leaves", *typed], config_dirs=["conf"])
                identity = resume.identity(config.flat(cfg)[0], swept=[])
                failed = (seed, fold) == ("3", "1")
                value = None if failed else 0.5 + int(seed) / 100 + int(fold) / 10
                trained.add(value, *typed, identity=identity, status="failed" if failed else "complete")
        return 0

    monkeypatch.setattr(promote, "_run", run)
    return commands


def test_the_fold_is_no_part_of_an_experiment(folds: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    _promote()
    cfg = config.compose("train", ["experiment=leaves"], config_dirs=["conf"])
    assert (cfg.model.heads, cfg.data.fold, cfg.data.metadata) == (2, None, "table.csv")
    about = "the sweep's were 0,1; data.fold is not set: the table's column split decides"
    assert capsys.readouterr().out.splitlines()[1:] == [
        "use it: python train.py --config-dir conf experiment=leaves",
        f"folds: {about}",
    ]
    text = Path("conf/experiment/leaves.yaml").read_text()
    assert f"# Folds:    {about}\n" in text and "#           its best job: 0.9100\n" in text and "\n  fold" not in text


def test_a_table_that_validates_by_its_folds_alone_needs_one(
    folds: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("table.csv").write_text(TABLE.replace("valid", "train"))
    _promote()
    command, about = capsys.readouterr().out.splitlines()[1:]
    assert command == "use it: python train.py --config-dir conf experiment=leaves data.fold=0"
    assert about.endswith("data.fold=<fold> is to be typed: the table's column split has no validation")
    text = Path("conf/experiment/leaves.yaml").read_text()
    assert "# Command:  python train.py --config-dir conf experiment=leaves data.fold=0\n" in text
    assert "data.fold=<fold> is to be typed" in " ".join(text.replace("#", "").split())


@pytest.mark.parametrize("table", [None, "path\n"])
def test_a_table_that_cannot_be_read_decides_nothing(folds: list[list[str]], table: str | None) -> None:
    Path("table.csv").unlink()
    if table is not None:
        Path("table.csv").write_text(table)
    _promote()
    assert "data.fold is not set" in Path("conf/experiment/leaves.yaml").read_text()


def test_fresh_seeds_are_trained_on_the_folds_of_the_sweep(
    folds: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """0.51, 0.61, 0.52 and 0.62: mean 0.565. Both means are over the folds 0 and 1."""
    _promote(seeds=2)
    assert folds[0][-3:-1] == ["seed=1,2", "data.fold=0,1"]
    text = " ".join(Path("conf/experiment/leaves.yaml").read_text().replace("#", "").split())
    assert "Fresh: valid_acc 0.5650 ± 0.0580 (n = 4) on seeds that the sweep has not seen: 1, 2, each on the " in text
    assert "each on the folds 0, 1 defaults" in text
    printed = " ".join(capsys.readouterr().out.split())
    assert "0.9050 ± 0.0071 (n = 2), the best of 2, over 2 folds" in printed and "0.5650 ± 0.0580 (n = 4)" in printed


def test_a_seed_without_one_of_the_folds_is_in_no_mean(folds: list[list[str]]) -> None:
    with pytest.raises(TrainingError, match="5 of 6 trainings on fresh seeds are complete"):
        _promote(seeds=3)
    text = " ".join(Path("conf/experiment/leaves.yaml").read_text().replace("#", "").split())
    assert "0.5650 ± 0.0580 (n = 4) on seeds that the sweep has not seen: 1, 2, each" in text


def test_a_fold_that_the_whole_sweep_had_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = SweepFolder(Path("sweep"))
    for heads in (2, 4):
        sweep.add(heads / 10, f"model.heads={heads}", always=["data=metadata", "data.fold=1"])
    _promote()
    assert config.compose("train", ["experiment=leaves"], config_dirs=["conf"]).data.fold == 1
    assert "# Folds:" not in Path("conf/experiment/leaves.yaml").read_text()
