"""Calibration and intervals against numbers computed by hand, and against a simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hybridnet.inference.calibration import accuracy_interval, brier_score, calibration


def test_calibration_by_hand() -> None:
    # Confidences 0.6 (wrong), 0.74 (right), 0.76 (right), 1.0 (right); of the 15 bins: (8/15, 9/15], (11/15, 12/15], …
    probabilities = torch.tensor([[0.6, 0.4], [0.26, 0.74], [0.76, 0.24], [0.0, 1.0]], dtype=torch.float64)
    found = calibration(probabilities, torch.tensor([1, 1, 0, 1]))
    assert found.counts.tolist() == [0] * 8 + [1, 0, 0, 2, 0, 0, 1]
    assert found.confidences[[8, 11, 14]].tolist() == pytest.approx([0.6, 0.75, 1.0])
    assert found.accuracies[[8, 11, 14]].tolist() == pytest.approx([0, 1, 1])
    assert found.expected_error == pytest.approx((0.6 * 1 + 0.25 * 2 + 0 * 1) / 4)


def test_calibration_of_one_class_and_of_certainty() -> None:
    found = calibration(torch.ones(3, 1), torch.zeros(3, dtype=torch.long))
    assert found.counts[-1] == 3
    assert found.expected_error == 0


def test_brier_score_by_hand() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]])
    labels = torch.tensor([0, 1])
    assert brier_score(probabilities, labels) == pytest.approx(((0.25 + 0.09 + 0.04) + (1 + 1)) / 2, abs=1e-6)


def test_wilsons_interval() -> None:
    """15 of 20: the figures of Agresti and Coull's formula, 0.5313 to 0.8881."""
    low, high = accuracy_interval([True] * 15 + [False] * 5, [""] * 20)
    assert (low, high) == pytest.approx((0.5313, 0.8881), abs=1e-4)
    assert accuracy_interval([True] * 10, [""] * 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert accuracy_interval([False] * 10, [""] * 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_copies_are_worth_one_picture() -> None:
    """Each picture four times: a quarter of them, less as 20 groups tell little, but for what n / (n - 1) makes of it.

    Student's t is 1.990 with 79 degrees of freedom and 2.093 with 19: Wilson's interval of 0.75 and n = 18.08.
    """
    is_right = [True] * 15 + [False] * 5
    copied = accuracy_interval(is_right * 4, [str(number) for number in range(20)] * 4)
    assert copied == pytest.approx((0.5191, 0.8930), abs=0.006)
    assert accuracy_interval([True] * 40, [str(number) for number in range(10)] * 4) == pytest.approx(
        accuracy_interval([True] * 10, [""] * 10)
    )


@pytest.mark.parametrize(("num_groups", "size", "certainty"), [(60, 6, 0.0), (5, 40, 8.0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(num_groups: int, size: int, certainty: float) -> None:
    """Groups of pictures that are all right or all wrong, or of plants that are easy or hard; an accuracy of 0.8."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(num_groups), size).astype(str).tolist()
    held = 0
    for _ in range(400):
        share = rng.beta(0.8 * certainty, 0.2 * certainty, num_groups) if certainty else rng.random(num_groups) < 0.8
        low, high = accuracy_interval((rng.random((num_groups, size)) < share[:, None]).ravel().tolist(), groups)
        held += low <= 0.8 <= high
    assert 0.92 < held / 400 < 0.985
