"""Root's own splits; `tests/test_prepare.py` has what the command makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybridnet.data.given import describe, kept_splits, require_whole_groups
from hybridnet.data.pictures import Picture
from hybridnet.errors import Fault, InputError


def pictures(*places: str) -> list[Picture]:
    """From `train/leaf`; `/leaf` has no split."""
    pairs = [place.split("/") for place in places]
    return [Picture(Path("x"), "x", label, b"", 1, np.zeros(0), split) for split, label in pairs]


WHOLE = pictures("train/leaf", "train/root", "valid/leaf", "test/root")


@pytest.mark.parametrize(
    ("found", "settings", "kept", "note"),
    [
        (pictures("/leaf", "/root"), {"test": 0.1}, ["", ""], ""),
        (WHOLE, {}, ["", "", "valid", "test"], "root's folders are splits; kept: train, valid, test"),
        (WHOLE, {"folds": 3}, ["", "", "", "test"], "{}; kept: test; divided into folds: train, valid"),
        ([*WHOLE[:2], WHOLE[3]], {"folds": 3}, ["", "", "test"], "{}; kept: test; divided into folds: train"),
        (WHOLE[:3], {"test": 0.1}, ["", "", "valid"], "{}; kept: valid; drawn from train: test"),
        (WHOLE[:2], {"test": 0.1}, ["", ""], "{}; drawn from train: valid, test"),
        ([*WHOLE[:2], WHOLE[3]], {}, ["", "", "test"], "{}; kept: test; drawn from train: valid"),
        (
            WHOLE[:3],
            {"folds": 3, "test": 0.1},
            [""] * 3,
            "{}; drawn from train, valid: test; divided into folds: train, valid",
        ),
    ],
)
def test_what_is_kept_and_how_it_is_told(
    found: list[Picture], settings: dict[str, float], kept: list[str], note: str
) -> None:
    settings = {"test": 0.0, "folds": 0} | settings
    assert kept_splits(found, **settings) == kept
    assert describe(found, kept, valid=0.2, **settings) == note.format("root's folders are splits")


def test_a_test_split_is_not_drawn_where_there_is_one() -> None:
    with pytest.raises(
        InputError, match=r"wrong value in test=0\.1: root has a folder of the test split, .*\nhint: test=0"
    ):
        kept_splits(WHOLE, test=0.1, folds=0)


def test_every_class_needs_a_picture_for_training() -> None:
    found = [*WHOLE, *pictures("valid/stem", "test/bud")]
    with pytest.raises(InputError) as error:
        kept_splits(found, test=0.0, folds=0)
    cause, hint = "root's folders have none of its pictures for training", "move some there, or leave the class out"
    assert error.value.faults == tuple(
        Fault("too few pictures", f"class '{name}'", cause, hint) for name in ("bud", "stem")
    )
    with pytest.raises(InputError, match="class 'bud'") as error:  # folds divide those for validation, too
        kept_splits(found, test=0.0, folds=2)
    assert len(error.value.faults) == 1


def test_a_group_in_two_splits_is_refused() -> None:
    named = {"groups": "plant", "source": "root's folders"}
    require_whole_groups(["1", "1", None, None, "2"], ["train", "train", "train", "test", "test"], **named)
    with pytest.raises(InputError, match="in groups=plant: groups divided by root's folders: '1' in test, train\n"):
        require_whole_groups(["1", "2", "1"], ["train", "train", "test"], **named)
