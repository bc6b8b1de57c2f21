from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.comparison.predictions import normal, read_predictions
from hybridnet.errors import InputError
from tests.comparison.folders import CLASSES, write_predictions


def test_a_table_is_read_as_places_in_the_classes(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions.csv", [0, 1, 2], [0, 2, 2], classes=CLASSES, paths=["./a", "b//c", "d"])
    found = read_predictions(tmp_path, None)
    assert found.paths == ("a", "b/c", "d") and found.classes == CLASSES and len(found) == 3
    assert found.labels.tolist() == [0, 1, 2] and found.predictions.tolist() == [0, 2, 2]
    assert normal(".\\b\\c") == "b/c"


def test_another_split_is_where_evaluate_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "evaluation" / "test" / "predictions.csv"
    write_predictions(path, [1], [0], classes=CLASSES, paths=["a"])
    assert read_predictions(tmp_path, "test").labels.tolist() == [1]
    with pytest.raises(InputError, match=r"no predictions in .*: there is no predictions.csv\nhint: .*resume="):
        read_predictions(tmp_path, None)
    with pytest.raises(InputError, match=r"there is no evaluation/valid/predictions.csv\nhint: .*split=valid writes"):
        read_predictions(tmp_path, "valid")


def test_without_probabilities_the_classes_are_those_that_occur(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("prediction,path,label\ny,1.png,x\nx,2.png,x\n")
    found = read_predictions(tmp_path, None)
    assert found.classes == ("x", "y") and found.predictions.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("path,label\na,x\n", "missing columns in runs=.*predictions.csv: no prediction"),
        ("path,label,prediction\n", "no rows in runs=.*"),
        ("path,label,prediction\na,x,x\n./a,x,x\nb,x,x\n", "a picture with several rows: 'a'$"),
        ("path,label,prediction,probability_x\na,x,y\nb,x,x,1\n", r"line 2 has 3"),
        ("path,label,prediction,probability_x\na,z,y,1\nb,x,x,1\n", "probability_…: line 2 'z', line 2 'y'$"),
        ("\x89PNG\r\n\0\0\0", "unreadable file in runs="),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "predictions.csv").write_text(text, encoding="latin-1" if "PNG" in text else "utf-8")
    with pytest.raises(InputError, match=error):
        read_predictions(tmp_path, None)
