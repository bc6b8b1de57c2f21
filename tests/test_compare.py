"""`python -m hybridnet.compare`: runs are compared picture by picture, from their predictions alone."""

from __future__ import annotations

import csv
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridnet import config
from hybridnet.compare import compare
from hybridnet.errors import InputError
from hybridnet.files import read_json
from tests.comparison.folders import write_run, write_study
from tests.conftest import Run, content
from tests.sweep.folders import SweepFolder

DEFAULTS = {"runs": None, "folder": None, "split": None, "benchmark": None, "baseline": None, "pairs": "baseline"}
DEFAULTS |= {"num_bootstrap": 200, "seed": 0}
TABLES = {"compare.md", "compare.csv", "pairs.csv", "runs.csv", "classes.csv", "only_one.csv", "compare.png"}


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_three_seeds_of_a_sweep_give_interval_p_and_n(tmp_path: Path, command: Run) -> None:
    """Beside them a run that lies elsewhere, and a job that has failed."""
    sweep = SweepFolder(tmp_path / "sweep")
    for number, run in enumerate(write_study(tmp_path / "made", {"plain": 0.7, "hybrid": 0.72})):
        job = sweep.add(0.7, f"model.x={number}")
        for file in run.rglob("*.*"):
            if file.is_file():
                (job.folder / file.relative_to(run)).parent.mkdir(exist_ok=True)
                shutil.copy(file, job.folder / file.relative_to(run))
    sweep.add(None, "model.heads=8", status="failed", error="x")
    before = content(tmp_path / "sweep")
    done = command("-m", "hybridnet.compare", "sweep=sweep", "runs=made/plain0", "out=out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no difference beyond chance (n = 3)" in done.stdout
    assert "1 job of the sweep not complete: left out." in done.stdout
    assert "is a copy of" in done.stdout
    assert done.stdout.splitlines()[-1] == "comparison: out/compare.md"
    (pair,) = _rows(tmp_path / "out" / "pairs.csv")
    assert (pair["first"], pair["second"], pair["n_first"], pair["n_second"]) == ("hybrid", "plain", "3", "3")
    assert float(pair["low"]) < float(pair["difference"]) < float(pair["high"]) and 0 < float(pair["p"]) <= 1
    text = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    again = "python -m hybridnet.compare runs=made/plain0 sweep=sweep pairs=baseline num_bootstrap=10000 seed=0"
    assert f"    {again}\n" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == TABLES, "no pictures: their files are not there"
    after = content(tmp_path / "sweep")
    assert {name: text for name, text in after.items() if "lock" not in name} == before


def test_the_command_that_makes_it_again_can_be_read(tmp_path: Path) -> None:
    """Jobs of a sweep have commas and = in their names."""
    jobs = []
    for number, run in enumerate(write_study(tmp_path, {"plain": 0.7, "hybrid": 0.72}, seeds=1)):
        jobs.append(str(run.rename(tmp_path / f"{number}_fold=0,model={run.name}")))
    compare(**DEFAULTS | {"runs": jobs, "out": str(tmp_path / "out")})
    text = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "python -m hybridnet.compare" in line]
    assert config.compose("compare", shlex.split(line)[3:]).runs == jobs


def test_a_run_and_its_copy_do_not_differ(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of the real thing, and the same run elsewhere."""
    for file in ("predictions.csv", "metrics.json", ".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml"):
        (tmp_path / "copy" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(reference / file, tmp_path / "copy" / file)
    compare(**DEFAULTS | {"runs": [str(reference), str(tmp_path / "copy")], "out": str(tmp_path / "out")})
    (pair,) = _rows(tmp_path / "out" / "pairs.csv")
    assert [float(pair[name]) for name in ("difference", "low", "high", "p")] == [0, 0, 0, 1]
    assert (pair["first"], pair["second"]) == ("copy", "run")
    accuracy = float(_rows(tmp_path / "out" / "compare.csv")[0]["accuracy"])
    assert accuracy == pytest.approx(read_json(reference / "metrics.json")["valid_acc"], abs=1e-9)
    assert pair["verdict"] == "no difference: the same predictions (n = 1)"
    assert "no difference: the same predictions" in capsys.readouterr().out


def test_pictures_that_only_one_gets_right_are_shown(tmp_path: Path) -> None:
    """Their groups are in the table, too; a file that is no picture is passed over."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(6):
        Image.fromarray(np.full((30, 40, 3), 30 * number, dtype=np.uint8)).save(data / f"{number}.png")
    (data / "1.png").write_text("no picture")
    rows = ["path,label,split,group", *(f"{number}.png,blast,valid,{number // 2}" for number in range(6))]
    (data / "metadata.csv").write_text("\n".join(rows) + "\n")
    table = str(data / "metadata.csv")
    runs = [
        write_run(tmp_path / "a", [0] * 6, [0, 0, 0, 1, 1, 1], metadata=table),
        write_run(tmp_path / "b", [0] * 6, [1, 1, 0, 0, 1, 1], metadata=table, model="ca"),
    ]
    out = tmp_path / "out"
    out.mkdir()
    (out / "only_one_7.png").touch()
    compare(**DEFAULTS | {"runs": list(map(str, runs)), "out": str(out)})
    assert {path.name for path in out.iterdir()} == TABLES | {"only_one_1.png"}
    text = (out / "compare.md").read_text(encoding="utf-8")
    assert "they are 3 groups" in text and "(only_one_1.png)" in text
    assert [row["path"] for row in _rows(out / "only_one.csv")] == ["3.png", "0.png", "1.png"]


def test_folds_of_one_setting_have_figures_and_nothing_to_compare_them_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accuracies 1/2, 3/4 and 1: mean 0.75, std 0.25."""
    labels = [0, 0, 1, 1]
    runs = [tmp_path / f"fold{fold}" for fold in range(3)]
    for fold, run in enumerate(runs):
        told = [0, 0, 1, 1][: 2 + fold] + [2] * (2 - fold)
        names = [f"{fold}-{number}.png" for number in range(4)]
        write_run(run, labels, told, fold=fold, paths=names, num_parameters=11_000_000)
    out = tmp_path / "out"
    out.mkdir()
    (out / "compare.png").touch()
    compare(**DEFAULTS | {"runs": list(map(str, runs)), "out": str(out)})
    assert {path.name for path in out.iterdir()} == TABLES - {"compare.png"}
    (row,) = _rows(out / "compare.csv")
    assert (row["setting"], row["n"], row["accuracy"], row["std"]) == ("plain", "3", "0.75", "0.25")
    assert 0 <= float(row["low"]) < 0.75 < float(row["high"]) <= 1
    assert _rows(out / "pairs.csv") == [] == _rows(out / "only_one.csv")
    assert [row["recall"] for row in _rows(out / "classes.csv")] == ["1.0", "0.5", ""]
    text = (out / "compare.md").read_text(encoding="utf-8")
    told = "All runs are of one group, which differ in seed and fold alone: there is nothing to compare it with."
    assert text.startswith("# Comparison: plain\n\n12 validation pictures in 3 folds, 3 runs.\n")
    assert "| plain | 0.7500 ± 0.2500 | 3 | \\[0." in text and told in text
    assert "| class | pictures | recall of plain | F1 of plain |" in text and "ifference" not in text
    printed = capsys.readouterr().out
    assert "0.7500 ± 0.2500" in printed and told in printed and "11.00 M" in printed and "ifference" not in printed


def test_another_split_another_baseline_and_all_pairs(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"plain": 0.6, "ca": 0.8, "hybrid": 0.9}, seeds=1)
    for run in runs:
        (run / "evaluation" / "test").mkdir(parents=True)
        (run / "predictions.csv").rename(run / "evaluation" / "test" / "predictions.csv")
    out = tmp_path / "new" / "out"
    options = {"runs": [str(run) for run in runs], "split": "test", "baseline": "ca", "pairs": "all", "out": str(out)}
    compare(**DEFAULTS | options | {"seed": 3})
    assert [(row["first"], row["second"]) for row in _rows(out / "pairs.csv")] == [
        *(("plain", "ca"), ("hybrid", "ca"), ("plain", "hybrid"))
    ]
    text = (out / "compare.md").read_text(encoding="utf-8")
    assert text.startswith("# Comparison: ca, plain, hybrid\n"), "the baseline comes first"
    assert "90 test pictures" in text and "split=test baseline=ca pairs=all num_bootstrap=200 seed=3\n" in text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, "error: missing value in runs: no run is named\nhint: runs="),
        ({"runs": "a"}, "error: nothing to compare in runs: there is only one run"),
        ({"runs": ["a", "nowhere"]}, "error: missing run in runs=nowhere: no such folder"),
        ({"runs": ["a", "b"], "baseline": "hybird"}, "error: unknown group in baseline=hybird"),
        ({"runs": ["a", "b"], "benchmark": "a"}, "error: missing file in benchmark=a/benchmark.json"),
        ({"runs": ["a", "b"], "split": "test"}, "hint: python -m hybridnet.evaluate run=a split=test writes it"),
        ({"runs": ["a", "b"], "out": "a/metrics.json"}, "error: unusable folder in out=a/metrics.json: "),
        ({"runs": ["a", "b"], "out": ""}, "error: missing value in out=: no folder is named"),
        ({"folder": "a"}, "error: no sweep in .*a: there is no sweep.json"),
    ],
)
def test_mistakes_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "a", [0, 1], [0, 1])
    write_run(tmp_path / "b", [0, 1], [0, 1], model="ca")
    with pytest.raises(InputError, match=error):
        compare(**DEFAULTS | {"out": "out"} | options)
    assert not (tmp_path / "out" / "compare.md").exists()


def test_the_exit_code_of_a_mistake_is_2(command: Run) -> None:
    done = command("-m", "hybridnet.compare", "sweep=nowhere", "runs=[a,b]")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("error: ") == 3 and "Traceback" not in done.stderr
