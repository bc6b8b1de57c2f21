"""Subjects are compared with the first of them; one that does not fit into memory is listed as such."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hybridnet import config
from hybridnet.measure import comparison
from hybridnet.measure.comparison import OUT_OF_MEMORY, Comparison, Subject
from hybridnet.measure.works import Case, Work, make_work

PLAIN, ECA, CA = (Subject(Case(name, None, 64), "off") for name in ("plain", "eca", "ca"))


@pytest.fixture
def compared() -> Comparison:
    cfg = config.compose("train", ["trainer.device=cpu", "trainer.precision=float32", "trainer.compile=off"])
    return Comparison({"off": config.build(cfg.trainer)}, num_classes=2, rounds=3, seconds=1e-6)


def full_memory(model: str, *, after: int) -> Any:
    """`make_work`, whose work fails at one model's call number `after`."""

    def make(case: Case, *arguments: Any, **options: Any) -> Work:
        if case.model != model:
            return make_work(case, *arguments, **options)
        if after == 0:
            raise torch.OutOfMemoryError("no room")
        left = iter(range(after - 1))

        def call() -> None:
            if next(left, None) is None:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

        return Work(call, warm_ups=1)

    return make


def test_every_subject_is_measured_beside_the_first(compared: Comparison) -> None:
    pairs = list(compared.measured([PLAIN, ECA, CA], "inference", 2))
    assert [subject for subject, _ in pairs] == [PLAIN, ECA, PLAIN, CA]
    found = dict(pairs)
    assert len(found[PLAIN].series.means) == 6 and len(found[CA].series.means) == 3
    assert found[PLAIN].speed is None
    reference = found[PLAIN].series.means[3:]
    ratios = sorted(a / b for a, b in zip(reference, found[CA].series.means, strict=True))
    assert found[CA].speed.median == pytest.approx(ratios[1])


def test_the_first_alone(compared: Comparison) -> None:
    ((subject, found),) = compared.measured([PLAIN], "training", 2)
    assert subject == PLAIN and len(found.series.means) == 3 and found.speed is None


@pytest.mark.parametrize("after", [0, 2, 4])
def test_memory_that_is_full_ends_one_subject_only(
    after: int, compared: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "make_work", full_memory("eca", after=after))
    found = dict(compared.measured([PLAIN, ECA, CA], "inference", 2))
    assert found[ECA].note == OUT_OF_MEMORY and not found[ECA].series.means
    assert len(found[CA].series.means) == 3 and found[CA].speed


def test_where_the_first_does_not_fit_the_others_stand_alone(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "make_work", full_memory("plain", after=0))
    found = dict(compared.measured([PLAIN, CA], "inference", 2))
    assert found[PLAIN].note == OUT_OF_MEMORY
    assert len(found[CA].series.means) == 3 and found[CA].speed is None


def test_another_error_is_not_hidden(compared: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(comparison, "make_work", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(compared.measured([PLAIN], "inference", 2))
