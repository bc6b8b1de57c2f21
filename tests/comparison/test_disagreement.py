from __future__ import annotations

from pathlib import Path

from hybridnet.comparison.disagreement import Disputed, disputed
from tests.comparison.folders import CLASSES, compare, write_run


def test_pictures_that_only_one_gets_right(tmp_path: Path) -> None:
    """The second picture: ca is right three times, plain says once 0 and twice 2."""
    told = {
        "plain": ([0, 0, 2, 0], [0, 2, 2, 1], [0, 2, 2, 0]),
        "ca": ([0, 1, 0, 0], [0, 1, 0, 0], [1, 1, 2, 1]),
    }
    runs = [
        write_run(tmp_path / f"{model}{seed}", [0, 1, 2, 0], own, model=model, seed=seed)
        for model, of_seeds in told.items()
        for seed, own in enumerate(of_seeds)
    ]
    comparison = compare(runs, num_draws=10)
    found = disputed(comparison.paired, comparison.pairs[0])
    assert found == [
        Disputed("1.png", CLASSES[1], None, True, (1.0, 0.0), CLASSES[2]),
        Disputed("2.png", CLASSES[2], None, False, (1 / 3, 1.0), CLASSES[0]),
    ]


def test_folds_follow_each_other(tmp_path: Path) -> None:
    runs = []
    for fold in (0, 1):
        for model, told in (("plain", [[0, 2], [1, 1]]), ("ca", [[0, 1], [0, 1]])):
            folder, names = tmp_path / f"{model}{fold}", [f"{fold}/a", f"{fold}/b"]
            runs.append(write_run(folder, [0, 1], told[fold], model=model, fold=fold, paths=names))
    comparison = compare(runs, num_draws=10)
    found = disputed(comparison.paired, comparison.pairs[0])
    assert [(one.path, one.fold, one.is_first, one.wrong) for one in found] == [
        ("0/b", "0", True, CLASSES[2]),
        ("1/a", "1", True, CLASSES[1]),
    ]
