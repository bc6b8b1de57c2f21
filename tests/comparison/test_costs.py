from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybridnet.comparison.costs import Cost, cost_notes, costs, read_benchmark
from hybridnet.comparison.groups import Group, grouped
from hybridnet.comparison.trained import read_all
from hybridnet.errors import InputError
from hybridnet.files import csv_text, write_json, write_text
from tests.comparison.folders import write_run, write_study

HEADING = ["model", "size", "stage", "stem", "image_size", "batch_size", "compile", "parameters", "macs"]
HEADING += ["training_images_per_second", "training_peak_bytes", "inference_p50_ms"]


def _groups(runs: list[Path]) -> list[Group]:
    return grouped(read_all(runs, None))[0]


def _row(model: str, size: str = "", *, side: int = 224, batch: int = 32, **others: Any) -> list[Any]:
    own = {"stage": "", "stem": "imagenet", "compile": "auto", "parameters": 11_178_564, "macs": 1_814_000_000} | others
    place = [model, size, own["stage"], own["stem"], side, batch, own["compile"], own["parameters"], own["macs"]]
    return [*place, 10.0 * batch, 1_000_000 * batch, own.get("latency", 0.5 * batch)]


def _write(folder: Path, rows: list[list[Any]]) -> None:
    write_text(folder / "benchmark.csv", csv_text([HEADING, *rows]))
    results = [dict(zip(HEADING, row, strict=True)) for row in rows]
    write_json(folder / "benchmark.json", {"environment": {"device_name": "a GPU"}, "results": results})


def test_without_a_benchmark_the_runs_tell(tmp_path: Path) -> None:
    groups = _groups(write_study(tmp_path, {"plain": 0.7, "hybrid": 0.8}))
    found, causes = costs(groups, None)
    assert found == [Cost(11e6, 50.0, 1e9), Cost(12e6, 49.0, 1.1e9)] and causes == []
    notes = list(cost_notes(groups, None))
    assert "measured by the way (a test's machine)" in notes[0] and "whole process's" in notes[1]
    environment = {"device": "cuda:0", "device_name": "another"}
    for group in groups[:1]:
        for run in group.runs:
            write_json(run.folder / "environment.json", environment)
    assert "different hardware (another, a test's machine) and not to be compared" in next(
        iter(cost_notes(groups, None))
    )


@pytest.mark.parametrize("name", ["benchmark.csv", "benchmark.json", ""])
def test_a_benchmark_tells_of_the_same_model(tmp_path: Path, name: str) -> None:
    rows = [_row("plain", batch=batch) for batch in (1, 32, 256)]
    rows += [_row("hybrid", "lite"), _row("hybrid", "full", stage=3), _row("hybrid", "full", side=448)]
    rows += [_row("hybrid", "full", batch=batch, parameters=14_625_381, latency=7) for batch in (16, 64)]
    rows += [_row("hybrid", "full", batch=1, compile="graph")]
    _write(tmp_path, rows)
    groups = _groups([
        write_run(tmp_path / "a", [0], [0], num_parameters=11_181_642),
        write_run(tmp_path / "b", [0], [0], model="hybrid", num_parameters=14_628_459),
    ])  # fmt: skip
    benchmark = read_benchmark(tmp_path / name)
    found, causes = costs(groups, benchmark)
    assert found == [
        Cost(11_181_642, 320.0, 32e6, 1.814e9, 0.5),
        Cost(14_628_459, 160.0, 16e6, 1.814e9, 7),
    ]
    assert causes == [] and f"of {name or 'benchmark.json'} on a GPU: of a training" in next(
        cost_notes(groups, benchmark)
    )


def test_what_it_has_not_measured_stays_empty(tmp_path: Path) -> None:
    _write(tmp_path, [_row("plain"), _row("hybrid", "lite"), _row("ca", side=48)])
    groups = _groups([
        write_run(tmp_path / "a", [0], [0], num_parameters=21_000_000, train_images_per_second=5),
        write_run(tmp_path / "b", [0], [0], model="hybrid"),
        write_run(tmp_path / "c", [0], [0], model="ca"),
    ])  # fmt: skip
    found, causes = costs(groups, read_benchmark(tmp_path / "benchmark.csv"))
    assert found == [Cost(21_000_000), Cost(), Cost()]
    assert causes == [
        "benchmark.csv has nothing of plain: it has 21,000,000 parameters, and 11,178,564 there.",
        "benchmark.csv has nothing of hybrid: no model hybrid full.",
        "benchmark.csv has nothing of ca: its pictures have 224 pixels, those of the benchmark 48.",
    ]


def test_another_stem_is_another_network(tmp_path: Path) -> None:
    """It has as good as as many parameters, and fifteen times as many multiplications."""
    typed = {"data.image_size": 64}
    small = {"side": 64, "stem": "small", "parameters": 11_170_884, "macs": 2_221_672_448}
    groups = _groups([
        write_run(tmp_path / "a", [0], [0], num_parameters=11_178_564, typed=typed),
        write_run(tmp_path / "b", [0], [0], num_parameters=11_170_884, typed=typed | {"model.stem": "small"}),
    ])  # fmt: skip
    _write(tmp_path, [_row("plain", side=64, macs=148_050_944), _row("plain", **small)])
    found, causes = costs(groups, read_benchmark(tmp_path / "benchmark.csv"))
    assert [cost.macs for cost in found] == [148_050_944, 2_221_672_448] and causes == []
    _write(tmp_path, [_row("plain", side=64, stem="")])  # of a version that did not say it
    found, causes = costs(groups, read_benchmark(tmp_path / "benchmark.csv"))
    assert found[0].macs and found[1] == Cost(11_170_884)
    assert causes[0].endswith("it has the stem small; \"overrides=['model.stem=small']\" measures that.")


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("b.csv", "path,label\n1,2\n", "it has no column model, size"),
        ("b.json", "{}", "it has no 'results'"),
        ("b.json", "[1", "not a benchmark in benchmark="),
        ("b.json", '{"results": [1]}', "not a benchmark in benchmark="),
        ("b.csv", "\0\1", "unreadable file"),
        ("c.csv", "", "unreadable file in benchmark=.*: is empty"),
    ],
)
def test_what_is_no_benchmark_is_refused(tmp_path: Path, name: str, text: str, error: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=error):
        read_benchmark(tmp_path / name)
    with pytest.raises(InputError, match="missing file in benchmark=.*\nhint: python -m hybridnet.benchmark"):
        read_benchmark(tmp_path / "nowhere.csv")
