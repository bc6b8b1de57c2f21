from __future__ import annotations

import pytest

from hybridnet.pruner.median import MedianPruner

# At epoch 2 their best values so far are 0.5, 0.7 and 0.8; the last one is not there yet.
OTHERS = [[0.5, 0.4, 0.9], [0.6, 0.7], [0.3, 0.8, 0.8], [0.9]]


@pytest.mark.parametrize(
    ("values", "is_hopeless"),
    [
        ([0.9, 0.1], False),  # its best counts, not its last
        ([0.7, 0.7], False),  # the median itself
        ([0.1, 0.66], False),  # within the margin of 0.05
        ([0.64, 0.1], True),
        ([0.0], False),  # before min_epochs
        ([0.0, 0.0, 0.0], False),  # only two others are there
    ],
)
def test_a_job_ends_below_the_median_of_the_others(values: list[float], is_hopeless: bool) -> None:
    pruner = MedianPruner(min_epochs=2, min_jobs=3, margin=0.05)
    assert pruner.is_hopeless(values, OTHERS) is is_hopeless


def test_losses_are_negative() -> None:
    pruner = MedianPruner(min_epochs=1, min_jobs=1, margin=0.0)
    assert pruner.is_hopeless([-0.9], [[-0.5]])
    assert not pruner.is_hopeless([-0.4], [[-0.5]])


@pytest.mark.parametrize(
    ("wrong", "said"), [({"margin": -1.0}, "margin: must be >= 0"), ({"min_jobs": 0}, "min_jobs: must be >= 1")]
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MedianPruner(**{"min_epochs": 1, "min_jobs": 1, "margin": 0.0} | wrong)
