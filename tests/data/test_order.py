from __future__ import annotations

import numpy as np
import pytest

from hybridnet.data.order import Order


def _order(*counts: int, sampler: str = "balanced", batch_size: int = 4, seed: int = 1) -> Order:
    """Of so many pictures of each class, one class after the other."""
    return Order(np.repeat(np.arange(len(counts)), counts), sampler=sampler, batch_size=batch_size, seed=seed)


@pytest.mark.parametrize("counts", [(12, 4, 2), (1, 1, 10), (12, 4, 3), (5, 5, 5), (3, 0, 6)], ids=str)
def test_balanced_takes_every_class_equally_often(counts: tuple[int, int, int]) -> None:
    """An epoch stays as long as it was; the pictures of a class take turns."""
    num, num_classes = sum(counts), np.count_nonzero(counts)
    order = _order(*counts, batch_size=num)
    members = [part for part in np.split(np.arange(num), np.cumsum(counts)[:-1]) if len(part)]
    seen = set()
    for epoch in range(1, 15):
        times = np.bincount(order.of(epoch), minlength=num)
        assert times.sum() == num == order.num
        of_class = [times[part] for part in members]
        assert {part.sum() for part in of_class} <= {num // num_classes, -(-num // num_classes)}
        assert all(part.max() - part.min() <= 1 for part in of_class)
        seen |= set(np.flatnonzero(times).tolist())
    assert seen == set(range(num)), "what is left out of one epoch must come in another"


def test_balanced_is_mixed() -> None:
    classes = np.digitize(_order(12, 4, 2).of(1), [12, 16])
    assert (np.diff(classes) != 0).sum() > 5, "not one class after the other"


def test_shuffle_takes_every_picture_once() -> None:
    order = _order(12, 4, 2, sampler="shuffle").of(3)
    assert sorted(order) == list(range(18)) != order.tolist()


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_it_is_a_function_of_seed_and_epoch(sampler: str) -> None:
    first = _order(12, 4, 2, sampler=sampler)
    orders = [first.of(epoch).tolist() for epoch in (1, 2, 3)]
    assert _order(12, 4, 2, sampler=sampler).of(3).tolist() == orders[2]
    other = _order(12, 4, 2, sampler=sampler, seed=2).of(1).tolist()
    assert len({tuple(order) for order in [*orders, other]}) == 4


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
@pytest.mark.parametrize(
    ("num", "batch_size", "expected"), [(9, 4, 8), (8, 4, 8), (10, 4, 10), (5, 5, 5), (1, 4, 1), (3, 1, 3), (4, 3, 3)]
)
def test_no_batch_is_of_one_picture_unless_all_are(num: int, batch_size: int, expected: int, sampler: str) -> None:
    order = _order(num, sampler=sampler, batch_size=batch_size)
    assert order.num == len(order.of(1)) == expected
    assert num == expected or set(order.of(1)) != set(order.of(3)), "another one waits in another epoch"
