from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hybridnet.data.division import Division, divide
from hybridnet.data.extension import Place
from hybridnet.errors import InputError

DIVISION = Division(valid=0.25, test=0.0, folds=0, groups=None, copies="similar", on_duplicates="keep", seed=42)
LABELS = ["leaf", "root"] * 8
GROUPS = list(range(16))
NOTHING: list[Any] = [None] * 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"valid": 0.0}, "valid=0.0 and test=0.0 must leave something for training"),
        ({"valid": 0.6, "test": 0.4}, "valid=0.6 and test=0.4 must leave"),
        ({"folds": 1}, "folds=1: one fold leaves nothing to train on"),
    ],
)
def test_empty_split_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DIVISION._replace(**change).check()


def test_folds_do_not_need_valid() -> None:
    DIVISION._replace(valid=0.0, folds=5).check()


def test_shares() -> None:
    splits, folds = divide(LABELS, GROUPS, DIVISION._replace(test=0.125), given=[""] * 16, stays=NOTHING)
    assert Counter(splits) == {"train": 10, "valid": 4, "test": 2}
    assert folds == [""] * 16


def test_what_is_not_for_testing_is_divided_into_folds() -> None:
    splits, folds = divide(LABELS, GROUPS, DIVISION._replace(test=0.25, folds=3), given=[""] * 16, stays=NOTHING)
    assert Counter(folds) == {"": 4, "0": 4, "1": 4, "2": 4}
    assert {*zip(folds, splits, strict=True)} == {("", "test"), ("0", "valid"), ("1", "train"), ("2", "train")}


def test_of_a_split_that_is_given_no_more_is_drawn() -> None:
    given = ["valid", "valid"] + [""] * 14
    splits, _ = divide(LABELS, GROUPS, DIVISION._replace(test=0.5), given=given, stays=NOTHING)
    assert splits[:2] == ["valid", "valid"]
    assert Counter(splits[2:]) == {"train": 7, "test": 7}


def test_what_has_a_place_stays_and_counts() -> None:
    stays = [Place("valid", "")] * 4 + NOTHING[4:]
    splits, _ = divide(LABELS, GROUPS, DIVISION, given=[""] * 16, stays=stays)
    assert splits == ["valid"] * 4 + ["train"] * 12
    stays = [Place("train", "1")] * 4 + NOTHING[4:]
    _, folds = divide(LABELS, GROUPS, DIVISION._replace(folds=4), given=[""] * 16, stays=stays)
    assert folds[:4] == ["1"] * 4 and "1" not in folds[4:]
