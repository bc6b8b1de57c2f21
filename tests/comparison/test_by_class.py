from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from hybridnet.comparison.by_class import by_class
from tests.comparison.folders import answers, read, write_run


def test_one_run_by_hand_and_by_another_library(tmp_path: Path) -> None:
    """Labels 0 0 1 1, said 0 1 1 1: class 1 has precision 2/3, recall 1, F1 0.8; class 2 does not occur."""
    runs = [
        write_run(tmp_path / "a", [0, 0, 1, 1], [0, 1, 1, 1]),
        write_run(tmp_path / "b", [0, 0, 1, 1], [0, 0, 1, 1], model="ca"),
    ]
    found = by_class(read(runs), 0)
    assert found.precision == pytest.approx([1, 2 / 3, np.nan], nan_ok=True)
    assert found.recall == pytest.approx([0.5, 1, np.nan], nan_ok=True)
    assert found.f1 == pytest.approx([2 / 3, 0.8, np.nan], nan_ok=True) and found.support.tolist() == [2, 2, 0]
    labels = np.arange(60) % 3
    told = answers(labels, 0.7, seed=0)
    runs = [write_run(tmp_path / "c", labels, told), write_run(tmp_path / "d", labels, labels, model="ca")]
    assert np.array(by_class(read(runs), 0)) == pytest.approx(np.array(precision_recall_fscore_support(labels, told)))


def test_the_counts_of_all_runs_and_folds(tmp_path: Path) -> None:
    """Fold 0 has two runs, which count half each: recall of class 0 is (1 + 0) / 2 there, 1 in fold 1."""
    runs = []
    for model in ("plain", "ca"):
        for fold, seed, told in ((0, 0, [0]), (0, 1, [1]), (1, 0, [0])):
            folder = tmp_path / f"{model}{fold}{seed}"
            runs.append(write_run(folder, [0], told, model=model, seed=seed, fold=fold, paths=[f"{fold}.png"]))
    found = by_class(read(runs), 1)
    assert found.recall[0] == pytest.approx(0.75) and found.support.tolist() == [2, 0, 0]
