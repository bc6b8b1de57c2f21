from __future__ import annotations

import pytest

from hybridnet.pruner.halving import HalvingPruner


@pytest.mark.parametrize(
    ("value", "rivals", "is_hopeless"),
    [
        (0.1, [], False),  # the first to come
        (0.1, [0.2], True),  # the best of two
        (0.3, [0.2], False),
        (0.25, [0.1, 0.2, 0.3, 0.4, 0.5], True),  # fourth of six, of which two go on
        (0.45, [0.1, 0.2, 0.3, 0.4, 0.5], False),  # the second
        (0.3, [0.3, 0.3, 0.3], False),  # nobody is better
    ],
)
def test_one_of_three_goes_beyond_a_rung(value: float, rivals: list[float], is_hopeless: bool) -> None:
    pruner = HalvingPruner(min_epochs=2, factor=3)
    others = [[rival, 0.0, 1.0] for rival in rivals] + [[1.0]]  # the last one is not there yet
    assert pruner.is_hopeless([0.0, value], others) is is_hopeless


def test_between_the_rungs_nobody_ends() -> None:
    pruner = HalvingPruner(min_epochs=2, factor=3)
    others = [[1.0] * 30]
    assert [epoch for epoch in range(1, 30) if pruner.is_hopeless([0.0] * epoch, others)] == [2, 6, 18]


def test_a_factor_of_one_would_promote_all() -> None:
    with pytest.raises(ValueError, match="factor: must be >= 2, got 1"):
        HalvingPruner(min_epochs=1, factor=1)
