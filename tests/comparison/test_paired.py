from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.comparison.groups import grouped
from hybridnet.comparison.paired import paired
from hybridnet.comparison.trained import read_all
from hybridnet.errors import InputError
from tests.comparison.folders import CLASSES, read, write_run

LABELS = [0, 1, 2, 0]


def test_rows_and_classes_may_be_in_another_order(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", LABELS, [0, 1, 1, 0]),
        write_run(
            *(tmp_path / "b", [2, 2, 1, 0], [0, 2, 1, 0]),
            model="ca",
            paths=["3.png", "0.png", "1.png", "2.png"],
            classes=CLASSES[::-1],
        ),
    ]
    found = read(runs)
    (fold,) = found.folds
    assert fold.paths == ("0.png", "1.png", "2.png", "3.png") and fold.labels.tolist() == LABELS
    assert fold.cells[0].correct.tolist() == [[True, True, False, True]]
    assert fold.cells[1].predictions.tolist() == [[0, 1, 2, 2]]
    assert found.shares(1).tolist() == [1, 1, 1, 0] and found.accuracies(0) == [0.75]
    assert not found.has_same_answers(0, 1) and found.has_same_answers(1, 1)


def test_other_pictures_and_labels_are_counted(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", LABELS, LABELS),
        write_run(tmp_path / "b", [0, 1, 1, 1], LABELS, seed=1),
        write_run(tmp_path / "c", LABELS, LABELS, model="ca", paths=["0.png", "1.png", "7.png", "8.png"]),
        write_run(tmp_path / "d", LABELS[:3], LABELS[:3], model="ca", seed=1),
    ]
    with pytest.raises(InputError) as caught:
        read(runs)
    pictures, labels = caught.value.faults
    assert pictures.cause.splitlines()[1:] == [
        f"  {runs[2]}: lacks 2 of 4 pictures, such as '2.png'",
        f"  {runs[2]}: has 2 other pictures, such as '7.png'",
        f"  {runs[3]}: lacks 1 of 4 pictures, such as '3.png'",
    ]
    assert f"{runs[1]}: 2 of 4 labels differ, such as '2.png' is 'brown, spot' there and 'healthy' here" in labels.cause


def test_other_classes_are_refused(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", [0, 1], [0, 1]),
        write_run(tmp_path / "b", [0, 1], [0, 1], model="ca", classes=["x", "y"]),
    ]
    with pytest.raises(InputError, match=r"different classes in runs: .* has blast, brown, spot, healthy; others"):
        read(runs)


def test_folds_are_paired_by_their_number(tmp_path: Path) -> None:
    runs = []
    for model in ("plain", "ca"):
        for fold in (0, 1, 2) if model == "plain" else (2, 1):
            names = [f"{fold}-{number}.png" for number in range(2 + fold)]
            labels = [fold] * len(names)
            runs.append(
                write_run(tmp_path / f"{model}{fold}", labels, labels, model=model, seed=fold, fold=fold, paths=names)
            )
    found, notes = paired(grouped(read_all(runs, None))[0], {"1-0.png": "g", "1-2.png": "g"})
    assert [fold.name for fold in found.folds] == ["1", "2"] and found.num_pictures == 7 and found.num_units == 6
    assert found.paths[0] == "1-0.png" and found.labels.tolist() == [1, 1, 1, 2, 2, 2, 2]
    assert notes == ["1 run of plain left out: not every group has that fold."]
    with pytest.raises(InputError, match="no fold in common in runs: plain: fold 0, fold 1; ca: fold 2"):
        read([*runs[:2], runs[3]])
