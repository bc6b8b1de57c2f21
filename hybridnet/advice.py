"""What to try after a training that learned by heart, learned too little, or waited for its pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

LARGE_GAP = 0.1  # of accuracies, and beyond two standard errors of the validation's
LOW_ACCURACY = 0.8
LONG_WAIT = 0.2  # of the seconds of training
FEW_SECONDS = 10.0  # the first batch is always waited for


def advice(metrics: Mapping[str, Any], settings: Mapping[str, Any], *, train_acc: float) -> list[str]:
    """A line for everything that went wrong and has an override that was not tried: what was seen, and that override.

    Args:
        metrics: as in `metrics.json`.
        settings: the run's value at every dotted key.
        train_acc: of any epoch the largest. An early epoch may be the best one because all that follow overfit.
    """
    overfits = _overfitting(metrics, train_acc)
    findings = [
        (overfits, _against_overfitting(settings)),
        (None if overfits else _underfitting(metrics, train_acc), _against_underfitting(settings)),
        (_waiting(metrics), _against_waiting(settings)),
    ]
    lines = ((seen, [f"{key}={value}" for key, value in changes]) for seen, changes in findings if seen)
    return [f"{seen}; try {' '.join(overrides)}" for seen, overrides in lines if overrides]


def _overfitting(metrics: Mapping[str, Any], trained: float) -> str | None:
    valid = metrics["valid_acc"]
    error = math.sqrt(valid * (1 - valid) / metrics["num_valid"])
    if trained - valid < max(LARGE_GAP, 2 * error):
        return None
    return (
        f"overfitting: up to {trained:.3f} of the training pictures are right, {valid:.3f} of the validation pictures"
    )


def _underfitting(metrics: Mapping[str, Any], trained: float) -> str | None:
    # Of mixed pictures few are right in training, however well the model does.
    if max(trained, metrics["valid_acc"]) >= LOW_ACCURACY:
        return None
    return f"underfitting: at most {trained:.3f} of the training pictures are right"


def _waiting(metrics: Mapping[str, Any]) -> str | None:
    seconds, waited = metrics["train_seconds"], metrics["data_wait_seconds"]
    if seconds < FEW_SECONDS or waited < LONG_WAIT * seconds:
        return None
    return f"slow data: {waited / seconds:.0%} of the training's time went by waiting for pictures"


def _against_overfitting(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from _at_least(settings, "model.dropout", 0.3)
    if str(settings.get("optimizer._target_")).endswith(".adamw"):  # SGD's weight decay is another quantity
        yield from _at_least(settings, "optimizer.weight_decay", 5e-2)


def _against_underfitting(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from _at_least(settings, "trainer.epochs", 30)
    yield from _at_least(settings, "optimizer.head_lr", 1e-3)
    if _number(settings, "model.dropout", 0) > 0.05:
        yield "model.dropout", 0.05


def _against_waiting(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if settings.get("data.cache") == "none":
        yield "data.cache", "store"
    elif "data.num_workers" in settings:
        yield "data.num_workers", 8 if settings["data.num_workers"] == "auto" else "auto"
    if settings.get("data.pin_memory") is False:
        yield "data.pin_memory", "auto"


def _at_least(settings: Mapping[str, Any], key: str, value: float) -> Iterator[tuple[str, float]]:
    """The override, where the setting is there and lower."""
    if _number(settings, key, value) < value:
        yield key, value


def _number(settings: Mapping[str, Any], key: str, otherwise: float) -> float:
    """The setting, where it is a number: a part of somebody's own may mean anything by it."""
    found = settings.get(key)
    return found if isinstance(found, int | float) else otherwise
