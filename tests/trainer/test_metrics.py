from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from hybridnet.checkpoint import load_checkpoint, save_checkpoint
from hybridnet.trainer.metrics import Evaluation, RunningTotals
from hybridnet.trainer.ranks import ALONE

CPU = torch.device("cpu")


def test_a_short_last_batch_weighs_what_it_should() -> None:
    totals = RunningTotals(CPU, ALONE)
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    totals.add(torch.tensor(1.0), logits, torch.tensor([0, 0, 1]), num_images=3, step=1)
    totals.add(torch.tensor(5.0), logits[:1], torch.tensor([1]), num_images=1, step=2)
    assert totals.num_images == 4
    assert totals.read() == ((3 * 1.0 + 1 * 5.0) / 4, 2 / 4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_step_with_a_bad_loss_is_named(bad: float) -> None:
    totals = RunningTotals(CPU, ALONE)
    for step, loss in enumerate([1.0, 2.0, bad, 3.0, bad], start=11):
        totals.add(torch.tensor(loss), torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64), num_images=2, step=step)
    with pytest.raises(FloatingPointError, match="^13$"):
        totals.read()


def filled(*losses: float) -> RunningTotals:
    totals = RunningTotals(CPU, ALONE)
    for step, loss in enumerate(losses, start=1):
        totals.add(torch.tensor(loss), torch.eye(3), torch.tensor([0, 1, 1]), num_images=3, step=step)
    return totals


def test_sums_are_exact_in_a_checkpoint(tmp_path: Path) -> None:
    """A float32 would lose the last digits of the sum, and with them the history's."""
    one, other = filled(0.1, 1e6, 0.3), RunningTotals(CPU, ALONE)
    save_checkpoint(tmp_path / "a.pt", one.state_dict())
    other.load_state_dict(load_checkpoint(tmp_path / "a.pt"))
    assert other.state_dict() == one.state_dict()
    for totals in (one, other):
        totals.add(torch.tensor(0.7), torch.eye(2), torch.tensor([0, 1]), num_images=2, step=4)
    loss_sum = sum(torch.tensor(loss).mul(n).double().item() for loss, n in [(0.1, 3), (1e6, 3), (0.3, 3), (0.7, 2)])
    assert other.read() == one.read() == (loss_sum / 11, 8 / 11)
    assert torch.tensor(loss_sum).item() != loss_sum


def test_an_epoch_begins_at_nothing() -> None:
    totals = filled(1.0, 2.0)
    totals.reset()
    assert totals.state_dict() == {"num_images": 0, "sums": [0.0, 0.0]}
    totals.add(torch.tensor(5.0), torch.eye(2), torch.tensor([0, 0]), num_images=2, step=3)
    assert totals.read() == (5.0, 0.5)


def test_a_bad_loss_stays_bad() -> None:
    """Whatever follows, also a new epoch: its weights are spoilt."""
    totals = filled(1.0, float("nan"))
    totals.reset()
    totals.add(torch.tensor(5.0), torch.eye(2), torch.tensor([0, 0]), num_images=2, step=3)
    with pytest.raises(FloatingPointError, match="^2$"):
        totals.read()


def _random(num_images: int = 301, num_classes: int = 7) -> Evaluation:
    """Classes of different frequency; class 5 never occurs and class 6 is never predicted."""
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3, 4, 6])[torch.randint(9, (num_images,))]
    logits = torch.randn(num_images, num_classes) + 2 * torch.nn.functional.one_hot(labels, num_classes)
    logits[:, 5:] = -9.0
    return Evaluation(logits, labels)


def test_everything_agrees_with_scikit_learn() -> None:
    evaluation = _random()
    labels, predictions = evaluation.labels.numpy(), evaluation.predictions.numpy()
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        labels, predictions, labels=range(7), zero_division=np.nan
    )
    assert np.isnan([recall[5], precision[5], precision[6]]).all(), "undefined, not zero"
    per_class = evaluation.per_class()
    assert per_class["precision"].tolist() == pytest.approx(precision.tolist(), nan_ok=True)
    assert per_class["recall"].tolist() == pytest.approx(recall.tolist(), nan_ok=True)
    assert per_class["f1"].tolist() == pytest.approx(f1.tolist(), nan_ok=True)
    assert per_class["support"].tolist() == support.tolist()
    summary = evaluation.summary()
    assert summary["valid_acc"] == pytest.approx(reference.accuracy_score(labels, predictions), abs=1e-15)
    assert summary["valid_macro_f1"] == pytest.approx(
        reference.f1_score(labels, predictions, average="macro", zero_division=0)
    )
    probabilities = evaluation.logits.double().softmax(dim=1).numpy()
    assert summary["valid_loss"] == pytest.approx(reference.log_loss(labels, probabilities, labels=range(7)))
    assert summary["valid_top5_acc"] == pytest.approx(
        reference.top_k_accuracy_score(labels, evaluation.logits.numpy(), k=5, labels=range(7))
    )
    expected = reference.confusion_matrix(labels, predictions, labels=range(7))
    assert evaluation.confusion().tolist() == expected.tolist()


def test_rows_of_the_confusion_matrix_are_labels() -> None:
    evaluation = Evaluation(torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    assert evaluation.confusion().tolist() == [[0, 2], [0, 1]]


def test_top5_needs_more_than_five_classes() -> None:
    evaluation = Evaluation(torch.randn(4, 5), torch.tensor([0, 1, 2, 3]))
    assert "valid_top5_acc" not in evaluation.summary()


def test_the_loss_of_even_logits_is_the_log_of_the_number_of_classes() -> None:
    assert Evaluation(torch.zeros(3, 4), torch.tensor([0, 1, 3])).loss() == pytest.approx(math.log(4), abs=1e-15)
