"""Which rows are used: bad pictures and leaks in every combination; nothing takes the place of what is left out."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridnet.data.decoded import Entry, Reduction
from hybridnet.data.selection import LEAKS, LeftOut, Selection, select
from hybridnet.data.store import Store
from hybridnet.data.table import Split
from hybridnet.data.unusable import REPAIR
from hybridnet.errors import Fault, InputError

TABLE = Path("photos/metadata.csv")
MISSING = FileNotFoundError(2, "No such file or directory")
BROKEN = "image file is truncated"


def split_of(labels: list[int], *, first_line: int, prefix: str) -> Split:
    paths = [f"{prefix}{number}.png" for number in range(len(labels))]
    lines = list(range(first_line, first_line + len(labels)))
    return Split(Path("photos"), paths, np.array(labels, dtype=np.int64), lines, [""] * len(lines))


def select_from(
    train: list[int],
    valid: list[int],
    *,
    groups: list[int] | None = None,
    bad: dict[int, str | OSError] | None = None,
    on_bad_image: str = "error",
    on_leak: str = "error",
) -> Selection:
    """Selects from labels; pictures are counted through both splits, and picture i is i + 1 pixels high.

    Training rows stand behind the validation rows in the table, from line 101 and from line 2.
    """
    groups, bad = groups or list(range(len(train) + len(valid))), bad or {}
    digests: list[str | OSError] = [f"{number:032x}" for number in range(len(groups))]
    entries = {}
    for number, group in enumerate(groups):
        cause = bad.get(number, "")
        if isinstance(cause, OSError):
            digests[number] = cause
        else:
            entries[digests[number]] = Entry(number + 1, 9, 0, 0, group, cause)
    of_train = split_of(train, first_line=101, prefix="t")
    of_valid = split_of(valid, first_line=2, prefix="v")
    files = [*of_train.file_names, *of_valid.file_names]
    return select(
        Store(files, entries, digests, Reduction(24, 28), None),
        of_train,
        of_valid,
        table=TABLE,
        on_bad_image=on_bad_image,
        on_leak=on_leak,
    )


def fault_of(*arguments: Any, **settings: Any) -> Fault:
    with pytest.raises(InputError) as error:
        select_from(*arguments, **settings)
    (fault,) = error.value.faults
    assert fault.where == f"data.metadata={TABLE}"
    return fault


def assert_used(selection: Selection, *, train: list[int], valid: list[int], before: int) -> None:
    """The rows with these numbers, with their own labels, lines and pictures."""
    assert selection.train.paths == [f"t{number}.png" for number in train]
    assert selection.train.files == [Path("photos") / path for path in selection.train.paths]
    assert selection.train.lines == [101 + number for number in train]
    assert selection.valid.paths == [f"v{number}.png" for number in valid]
    assert selection.valid.lines == [2 + number for number in valid]
    of_train, of_valid = selection.pictures
    assert of_train.sizes[:, 0].tolist() == [number + 1 for number in train]
    assert of_valid.sizes[:, 0].tolist() == [before + number + 1 for number in valid]
    assert of_train.files == selection.train.files
    assert of_valid.files == selection.valid.files
    assert [[int(digest, 16) for digest in part] for part in selection.digests] == [
        train,
        [before + number for number in valid],
    ]


@pytest.mark.parametrize(("on_bad_image", "on_leak"), list(product(["error", "skip"], ["error", "skip", "keep"])))
def test_where_nothing_is_wrong_everything_is_used(
    on_bad_image: str, on_leak: str, caplog: pytest.LogCaptureFixture
) -> None:
    selection = select_from([0, 1, 0], [1, 0], on_bad_image=on_bad_image, on_leak=on_leak)
    assert_used(selection, train=[0, 1, 2], valid=[0, 1], before=3)
    assert (selection.left_out, selection.num_leaked) == ([], 0)
    assert not caplog.messages


# Pictures that cannot be used: 1 of training, 5 of validation.

BAD = {"train": [0, 1, 0, 1], "valid": [1, 0, 1], "bad": {1: BROKEN, 5: MISSING}}


@pytest.mark.parametrize("on_leak", ["error", "skip", "keep"])
def test_bad_pictures_are_listed_in_the_order_of_the_table(on_leak: str) -> None:
    fault = fault_of(**BAD, on_bad_image="error", on_leak=on_leak)
    assert fault.what == "unusable images"
    assert fault.cause == f"2 of them\n  line 3 'v1.png': no such file\n  line 102 't1.png': {BROKEN}"
    assert fault.hint == REPAIR
    assert "data.on_bad_image=skip" in fault.hint


def test_where_most_pictures_are_missing_their_paths_are_explained() -> None:
    fault = fault_of([0, 1], [0], bad=dict.fromkeys(range(2), MISSING))
    assert fault.hint == f"relative paths are relative to the table's folder, {TABLE.parent.absolute()}"


def test_most_pictures_are_those_of_both_splits() -> None:
    assert fault_of([0, 1], [0] * 4, bad=dict.fromkeys(range(2), MISSING)).hint == REPAIR


def test_of_many_bad_pictures_the_first_twenty_are_listed() -> None:
    fault = fault_of([0] * 30, [0] * 5, bad=dict.fromkeys(range(3, 26), BROKEN))
    assert fault.cause.startswith("23 of them\n  line 104 't3.png'")
    assert fault.cause.count(BROKEN) == 20
    assert "line 123 't22.png'" in fault.cause
    assert "line 124" not in fault.cause
    assert fault.cause.endswith("… and 3 more")


@pytest.mark.parametrize("on_leak", ["error", "skip", "keep"])
def test_bad_pictures_are_left_out_and_not_replaced(on_leak: str, caplog: pytest.LogCaptureFixture) -> None:
    selection = select_from(**BAD, on_bad_image="skip", on_leak=on_leak)
    assert_used(selection, train=[0, 2, 3], valid=[0, 2], before=4)
    assert selection.train.labels.tolist() == [0, 0, 1]
    assert selection.valid.labels.tolist() == [1, 1]
    assert selection.left_out == [
        LeftOut(3, "v1.png", "valid", "no such file"),
        LeftOut(102, "t1.png", "train", BROKEN),
    ]
    assert selection.num_leaked == 0
    assert caplog.messages == ["left out: 2 pictures that cannot be used; see left_out.csv"]


@pytest.mark.parametrize(
    ("bad", "rest"),
    [
        ([0, 2], "training picture of 1 class"),
        ([0, 1, 2, 3], "training picture of 2 classes"),
        ([4, 5, 6], "validation picture"),
    ],
)
def test_nothing_is_trained_when_a_class_or_the_validation_is_lost(bad: list[int], rest: str) -> None:
    settings = {"bad": dict.fromkeys(bad, BROKEN), "on_bad_image": "skip"}
    fault = fault_of([0, 1, 0, 1], [0, 1, 0], **settings)
    assert fault.what == "too few pictures"
    assert fault.cause == f"without those that are left out there is no {rest}"


def test_a_class_may_be_lost_for_validation() -> None:
    selection = select_from([0, 1], [0, 1], bad={3: BROKEN}, on_bad_image="skip")
    assert_used(selection, train=[0, 1], valid=[0], before=2)


# Training pictures 1 and 3 are copies of validation pictures 0 and 2; 0 and 2 are copies of each other.

LEAK = {"train": [0, 1, 0, 1, 1], "valid": [1, 0, 1], "groups": [7, 8, 7, 9, 3, 8, 5, 9]}


def test_leaks_are_listed() -> None:
    fault = fault_of(**LEAK)
    assert fault.what == "validation pictures in training"
    assert fault.cause == (
        "2 of them\n  line 102 't1.png': is a copy of line 2 'v0.png' (valid)"
        "\n  line 104 't3.png': is a copy of line 4 'v2.png' (valid)"
    )
    assert fault.hint == LEAKS
    assert all(f"data.on_leak={choice}" in fault.hint for choice in ("skip", "keep"))


def test_leaks_are_not_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    selection = select_from(**LEAK, on_leak="skip")
    assert_used(selection, train=[0, 2, 4], valid=[0, 1, 2], before=5)
    assert [row.line for row in selection.left_out] == [102, 104]
    assert selection.left_out[0] == LeftOut(102, "t1.png", "train", "is a copy of line 2 'v0.png' (valid)")
    assert selection.num_leaked == 0
    assert caplog.messages == ["left out: 2 training pictures, copies of validation pictures; see left_out.csv"]


def test_leaks_may_be_kept_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    selection = select_from(**LEAK, on_leak="keep")
    assert_used(selection, train=[0, 1, 2, 3, 4], valid=[0, 1, 2], before=5)
    assert (selection.left_out, selection.num_leaked) == ([], 2)
    assert caplog.messages == ["2 validation pictures with copies in training: the accuracy is too good to be true"]


def test_a_single_leak_that_is_kept_is_used_and_counted() -> None:
    selection = select_from([0, 1], [1], groups=[3, 4, 4], on_leak="keep")
    assert_used(selection, train=[0, 1], valid=[0], before=2)
    assert (selection.left_out, selection.num_leaked) == ([], 1)


def test_validation_pictures_are_counted_not_their_copies() -> None:
    groups = [4, 4, 4, 1, 4, 4, 2]  # three training pictures are copies of two validation pictures
    selection = select_from([0, 0, 0, 1], [0, 0, 1], groups=groups, on_leak="keep")
    assert selection.num_leaked == 2


@pytest.mark.parametrize("on_leak", ["error", "skip", "keep"])
def test_copies_within_a_split_are_no_leak(on_leak: str) -> None:
    selection = select_from([0, 0, 1], [0, 0], groups=[1, 1, 2, 3, 3], on_leak=on_leak)
    assert_used(selection, train=[0, 1, 2], valid=[0, 1], before=3)
    assert selection.num_leaked == 0


@pytest.mark.parametrize("on_leak", ["error", "skip", "keep"])
@pytest.mark.parametrize("bad", [1, 5])
def test_a_bad_picture_is_no_leak(bad: int, on_leak: str) -> None:
    """Neither a bad training picture nor the copy of a bad validation picture."""
    settings = {**LEAK, "groups": [0, 8, 2, 3, 4, 8, 6, 7]}
    selection = select_from(**settings, bad={bad: BROKEN}, on_bad_image="skip", on_leak=on_leak)
    assert (len(selection.left_out), selection.num_leaked) == (1, 0)
    assert len(selection.train) + len(selection.valid) == 7


def test_copies_with_another_label_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """Pictures 0, 1 and 3 are one, and so are 4 and 5; what is left out does not count."""
    groups, train = [0, 0, 1, 0, 2, 2, 3], [0, 1, 1, 0, 0, 0]
    select_from(train, [1], groups=groups)
    assert "1 picture has copies with another label, and a model cannot learn both; python -m" in caplog.text
    caplog.clear()
    select_from([0, 1, 1, 0, 0, 1], [1], groups=groups)
    assert "2 pictures have copies with another label" in caplog.text
    caplog.clear()
    select_from(train, [1], groups=groups, bad={1: BROKEN}, on_bad_image="skip")
    assert "another label" not in caplog.text


def test_bad_pictures_and_leaks_together() -> None:
    selection = select_from(**LEAK, bad={0: BROKEN}, on_bad_image="skip", on_leak="skip")
    assert_used(selection, train=[2, 4], valid=[0, 1, 2], before=5)
    assert [row.line for row in selection.left_out] == [101, 102, 104]


def test_bad_pictures_are_told_before_leaks() -> None:
    assert fault_of(**LEAK, bad={0: BROKEN}).what == "unusable images"
    assert fault_of(**LEAK, bad={0: BROKEN}, on_bad_image="skip").what == "validation pictures in training"


def test_a_class_of_leaks_alone_cannot_be_trained() -> None:
    fault = fault_of([0, 1], [0, 1], groups=[0, 5, 3, 5], on_leak="skip")
    assert fault.cause == "without those that are left out there is no training picture of 1 class"
