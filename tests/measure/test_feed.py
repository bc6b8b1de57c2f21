"""The loop on real data against the same loop on one batch, which is the data's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor

from hybridnet import config
from hybridnet.measure.feed import Feed, measure_feed


class Counting:
    """Counts what is asked of the data."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.epochs: list[int] = []
        self.num_made = 0
        self.shown: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def train_batches(self, epoch: int, *, first: int) -> Iterator[Any]:
        self.epochs.append(epoch)
        for batch in self.data.train_batches(epoch, first=first):
            self.num_made += 1
            yield batch

    def to_input(self, batch: Any, dtype: Any) -> Tensor:
        self.shown.append(batch.labels)
        return self.data.to_input(batch, dtype)


def start(small: list[str], **settings: Any) -> tuple[Feed, Counting]:
    own = ["model=plain", "trainer.device=cpu", "trainer.precision=float32"]
    cfg = config.compose("train", [*(text for text in small if not text.startswith("model.")), *own])
    data = Counting(config.build(cfg.data))
    data.data.setup()
    trainer = config.build(cfg.trainer)
    model = config.build(cfg.model, num_classes=3)
    return measure_feed(trainer, model, data, cfg, rounds=2, seconds=1e-6, **settings), data


def test_data_and_one_batch_take_turns(small: list[str]) -> None:
    feed, data = start(small)
    assert (feed.batch_size, feed.textbook, feed.against_textbook) == (6, None, None)
    assert feed.steps == 3, "24 pictures in batches of 6, without the last one, which may be short"
    assert len(data.shown) == 7 * feed.steps, "two and one to warm up, and two rounds of both"
    assert len(data.epochs) == 4 and data.num_made == 1 + 3 * feed.steps, "one batch is the data's first"
    assert len(set(data.epochs)) == 4, "every round sees another order"
    assert 0 < feed.share.low <= feed.share.median <= feed.share.high
    assert feed.real.median > 0 and feed.resident.median == pytest.approx(feed.real.median / feed.share.median, rel=0.9)


def test_another_loop_has_its_turn_in_every_round(small: list[str]) -> None:
    asked = []
    feed, _ = start(small, textbook=lambda steps: asked.append(steps) or 2.0)
    assert asked == [feed.steps] * 2
    assert feed.textbook.median == 0.5 and feed.against_textbook.median == pytest.approx(2 * feed.real.median)
