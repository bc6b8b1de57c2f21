"""The figures of an evaluation against numbers computed by hand; tests/test_evaluate.py looks at the files."""

from __future__ import annotations

import pytest
import torch

from hybridnet.inference.judgement import measured, mistakes
from hybridnet.trainer.metrics import Evaluation


def test_figures_by_hand() -> None:
    # Probabilities of the right class 0.9, 0.8, 0.1: two of three are right, and the third is among the first two.
    probabilities = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1]])
    evaluation = Evaluation(probabilities.log(), torch.tensor([0, 1, 1, 2]))
    found = measured(evaluation, ["a", "b", "c"], ["x", "x", "", ""], split="test")
    assert found["test_acc"] == 0.5
    assert found["test_loss"] == pytest.approx(-torch.tensor([0.9, 0.8, 0.2, 0.1]).log().mean().item())
    assert (found["num_test"], found["num_groups"]) == (4, 3)
    assert found["top_k_acc"] == {"2": 0.75}
    assert found["per_class"]["b"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2.0}
    assert found["per_class"]["c"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1.0}, "never predicted"
    assert found["confusion_matrix"] == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    gaps = [0.1, 0.2, -0.7, -0.7]  # accuracy minus confidence; the last two share a bin
    assert found["expected_calibration_error"] == pytest.approx((gaps[0] + gaps[1] + 1.4) / 4, abs=1e-6)
    assert "test_top5_acc" not in found


def test_the_most_confident_mistakes_come_first() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 1.0], [0.0, 9.0]])
    assert mistakes(Evaluation(logits, torch.tensor([1, 0, 0, 1]))) == [1, 0, 2]
