from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybridnet.advice import advice
from tests.conftest import Run

SETTINGS = {
    "model.dropout": 0.1,
    "trainer.epochs": 10,
    "optimizer._target_": "hybridnet.optimizer.adamw.adamw",
    "optimizer.head_lr": 1e-3,
    "optimizer.weight_decay": 1e-2,
    "data.cache": "store",
    "data.num_workers": "auto",
    "data.pin_memory": "auto",
}


def _metrics(**others: Any) -> dict[str, Any]:
    good = {"train_acc": 0.97, "valid_acc": 0.95, "num_valid": 400, "train_seconds": 100.0, "data_wait_seconds": 2.0}
    return good | others


def _advice(metrics: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    return advice(metrics, settings, train_acc=metrics["train_acc"])


def test_a_good_training_gets_none() -> None:
    assert _advice(_metrics(), SETTINGS) == []


def test_overfitting() -> None:
    assert _advice(_metrics(train_acc=0.99, valid_acc=0.81), SETTINGS) == [
        "overfitting: up to 0.990 of the training pictures are right, 0.810 of the validation pictures; "
        "try model.dropout=0.3 optimizer.weight_decay=0.05"
    ]


def test_an_early_best_epoch_before_all_is_learned_by_heart_is_overfitting() -> None:
    """Its own training accuracy would call for more epochs."""
    [line] = advice(_metrics(train_acc=0.6, valid_acc=0.62), SETTINGS, train_acc=0.99)
    assert line.startswith("overfitting: up to 0.990 of the training pictures are right, 0.620 of the validation")


def test_a_gap_that_few_validation_pictures_leave_by_chance_is_none() -> None:
    metrics = _metrics(train_acc=0.95, valid_acc=0.82)
    assert _advice(metrics, SETTINGS)
    assert _advice(metrics | {"num_valid": 20}, SETTINGS) == []  # 2 · √(0.82 · 0.18 / 20) = 0.17


def test_the_weight_decay_of_sgd_is_another_quantity() -> None:
    sgd = {"optimizer._target_": "hybridnet.optimizer.sgd.sgd", "optimizer.weight_decay": 5e-4}
    [line] = _advice(_metrics(train_acc=0.99, valid_acc=0.81), SETTINGS | sgd)
    assert line.endswith("; try model.dropout=0.3")


def test_underfitting() -> None:
    settings = SETTINGS | {"optimizer.head_lr": 1e-4}
    assert _advice(_metrics(train_acc=0.6, valid_acc=0.58), settings) == [
        "underfitting: at most 0.600 of the training pictures are right; "
        "try trainer.epochs=30 optimizer.head_lr=0.001 model.dropout=0.05"
    ]


def test_few_right_answers_with_a_gap_are_overfitting_alone() -> None:
    """Less of the training pictures would be right by what helps against that."""
    [line] = _advice(_metrics(train_acc=0.7, valid_acc=0.35), SETTINGS)
    assert line.startswith("overfitting: ") and "model.dropout=0.3" in line


def test_mixed_pictures_that_are_hard_in_training_are_no_underfitting() -> None:
    assert _advice(_metrics(train_acc=0.5, valid_acc=0.92), SETTINGS) == []


@pytest.mark.parametrize(
    ("others", "overrides"),
    [
        ({"data.cache": "none"}, "data.cache=store"),
        ({}, "data.num_workers=8"),
        ({"data.num_workers": 1, "data.pin_memory": False}, "data.num_workers=auto data.pin_memory=auto"),
    ],
)
def test_slow_data(others: dict[str, Any], overrides: str) -> None:
    assert _advice(_metrics(data_wait_seconds=35.0), SETTINGS | others) == [
        f"slow data: 35% of the training's time went by waiting for pictures; try {overrides}"
    ]


def test_the_wait_for_the_first_batch_of_a_short_training_is_none() -> None:
    assert _advice(_metrics(train_seconds=9.0, data_wait_seconds=5.0), SETTINGS) == []


def test_what_was_tried_already_is_not_said_again() -> None:
    tried = {"model.dropout": 0.3, "optimizer.weight_decay": 0.1}
    assert _advice(_metrics(train_acc=0.99, valid_acc=0.81), SETTINGS | tried) == []
    tried = {"trainer.epochs": 30, "model.dropout": 0.0}
    assert _advice(_metrics(train_acc=0.6, valid_acc=0.58), SETTINGS | tried) == []


def test_parts_of_ones_own_need_not_have_the_settings() -> None:
    own = {"optimizer._target_": "torch.optim.Adam", "trainer.epochs": 30}
    bad = _metrics(train_acc=0.7, valid_acc=0.4, data_wait_seconds=50.0)
    assert _advice(bad, own) == []


def test_a_run_ends_with_it_and_a_job_of_a_sweep_does_not(command: Run, tmp_path: Path) -> None:
    few = ["model=plain", "trainer.epochs=1", "data.train_limit=16", "data.valid_limit=16", "trainer.device=cpu"]
    ended = command("train.py", *few, "hydra.run.dir=run")
    assert ended.returncode == 0, ended.stderr
    assert "; try trainer.epochs=30 model.dropout=0.05" in (tmp_path / "run/train.log").read_text("utf-8")
    sweep = command("train.py", "-m", *few, "seed=0,1", "sweep.try_models=false")
    assert sweep.returncode == 0, sweep.stderr
    assert "underfitting" in ended.stdout
    assert "underfitting" not in sweep.stdout


@pytest.mark.parametrize("value", [None, "auto", {"first": 0.1}])
def test_settings_of_ones_own_parts_may_mean_anything(value: Any) -> None:
    """And a training that is done does not fail."""
    settings = dict.fromkeys(SETTINGS, value)
    for metrics in (_metrics(train_acc=0.99, valid_acc=0.81), _metrics(train_acc=0.3, valid_acc=0.3)):
        assert _advice(metrics, settings) == []
    assert _advice(_metrics(train_seconds=0.0, data_wait_seconds=0.0), settings) == []
    assert _advice(_metrics(train_acc=0.99, valid_acc=0.81), {}) == []
