"""Which size each epoch has."""

from __future__ import annotations

import pickle

import pytest

from hybridnet.data.sizes import Sizes, height_and_width
from hybridnet.errors import InputError

LAST = (24, 32)
EARLY = [(8, 8), (12, 16)]


def heights(num_early: int, epochs: int) -> list[int]:
    sizes = Sizes(LAST, early=EARLY[-num_early:] if num_early else [], num_epochs=epochs)
    return [sizes.in_epoch(epoch)[0] for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize(
    ("num_early", "epochs", "expected"),
    [
        (0, 3, [24, 24, 24]),
        (1, 4, [12, 12, 24, 24]),
        (1, 5, [12, 12, 24, 24, 24]),
        (2, 3, [8, 12, 24]),
        (2, 9, [8, 8, 8, 12, 12, 12, 24, 24, 24]),
        (2, 10, [8, 8, 8, 12, 12, 12, 24, 24, 24, 24]),
        (2, 11, [8, 8, 8, 12, 12, 12, 12, 24, 24, 24, 24]),
        (2, 2, [12, 24]),
        (2, 1, [24]),
    ],
)
def test_the_epochs_are_cut_into_equal_parts(num_early: int, epochs: int, expected: list[int]) -> None:
    assert heights(num_early, epochs) == expected


def test_the_last_epoch_always_has_the_last_size_and_no_part_is_much_longer() -> None:
    for epochs in range(1, 60):
        found = heights(2, epochs)
        assert found == sorted(found) and found[-1] == 24
        counts = [found.count(height) for height in (8, 12, 24)]
        assert counts == sorted(counts) and counts[2] - counts[0] <= 1


def test_evaluation_and_what_follows_the_end_have_the_last_size() -> None:
    sizes = Sizes(LAST, early=EARLY, num_epochs=7)
    assert [sizes.in_epoch(epoch) for epoch in (0, 7, 8, 99)] == [LAST] * 4
    assert sizes.in_epoch(1) == (8, 8)


def test_worker_processes_get_the_same() -> None:
    sizes = Sizes(LAST, early=EARLY, num_epochs=7)
    copy = pickle.loads(pickle.dumps(sizes))
    assert [copy.in_epoch(epoch) for epoch in range(9)] == [sizes.in_epoch(epoch) for epoch in range(9)]


@pytest.mark.parametrize(
    ("early", "message"),
    [
        (
            [(8, 8), (25, 25)],
            "error: wrong value in data.progressive=[8,25]: 25×25 is larger than data.image_size, 24×32\n"
            "hint: name smaller sizes for the first epochs; data.image_size follows by itself",
        ),
        (
            [(8, 33)],
            "error: wrong value in data.progressive=[[8,33]]: 8×33 is larger than data.image_size, 24×32\nhint",
        ),
    ],
)
def test_a_size_that_is_larger_than_the_last_is_refused(early: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(InputError) as error:
        Sizes(LAST, early=early, num_epochs=3)
    assert str(error.value).startswith(message)


def test_as_large_as_the_last_is_allowed() -> None:
    assert Sizes(LAST, early=[LAST], num_epochs=2).in_epoch(1) == LAST


def test_shown() -> None:
    assert str(Sizes(LAST, early=EARLY, num_epochs=4)) == "8×8 in epoch 1, 12×16 in epoch 2, 24×32 in epochs 3-4"
    assert str(Sizes(LAST, early=[], num_epochs=1)) == "24×32 in epoch 1"


def test_one_number_is_a_square() -> None:
    assert [*map(height_and_width, (48, (32, 64)))] == [(48, 48), (32, 64)]
