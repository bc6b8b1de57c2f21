"""The answers on the validation pictures: captured where the step is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridnet.trainer import batch_function
from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.device import find_precision
from hybridnet.trainer.evaluator import Evaluator
from hybridnet.trainer.ranks import ALONE
from tests.trainer.replaying import CpuGraphs

OFF = Compilation(compiles=False, captures=False, is_optional=False)
CAPTURES = Compilation(compiles=False, captures=True, is_optional=False)


class Counting(nn.Module):
    """Counts how often Python runs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.num_calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.num_calls += 1
        return self.model(images)


def evaluator(model: nn.Module, compilation: Compilation, device: str = "cpu") -> Evaluator:
    precision = find_precision("bf16", torch.device(device))
    return Evaluator(model, lambda data, batch: batch.images, precision=precision, compilation=compilation, ranks=ALONE)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_captured_answers_are_those_of_the_weights_as_they_are(
    device: str, model: nn.Module, tiny_data: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They move from one evaluation to the next, and so do BatchNorm's statistics."""
    if device == "cpu":
        monkeypatch.setattr(batch_function, "CudaGraphs", CpuGraphs)
    model.to(device)
    data, counting = tiny_data(), Counting(model)
    captured, plain = evaluator(counting, CAPTURES, device), evaluator(model, OFF, device)
    for _ in range(8):
        found, expected = captured(data), plain(data)
        torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0 if device == "cpu" else 1e-3)
        assert torch.equal(found.labels, data.labels)
        with torch.no_grad():
            model.train()(data.images.to(device))
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    assert counting.num_calls == 2 * 4, "it was not captured, or not for both sizes of batch"


def test_a_batch_is_asked_for_after_the_one_before_is_answered(model: nn.Module, tiny_data: type) -> None:
    events: list[Any] = []

    def guarded(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            events.append(len(batch))
            yield batch

    evaluator(model, OFF)(tiny_data(), guarded=guarded, after_batch=lambda: events.append("answered"))
    assert events == [5, "answered"] * 4 + [3, "answered"]


def test_nothing_is_kept_for_a_backward_pass(model: nn.Module, tiny_data: type) -> None:
    found = evaluator(model.train(), OFF)(tiny_data())
    assert not model.training and found.logits.is_inference() and not found.logits.requires_grad
    assert found.logits.dtype == torch.float32
