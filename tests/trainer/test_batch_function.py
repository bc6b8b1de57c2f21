"""Functions of data and a batch: captured where the step is."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridnet.trainer import batch_function
from hybridnet.trainer.batch_function import BatchFunction
from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.graphs import NUM_WARM_UPS
from tests.trainer.replaying import CpuGraphs

CPU = torch.device("cpu")
OFF = Compilation(compiles=False, captures=False, is_optional=False)
CAPTURES = Compilation(compiles=False, captures=True, is_optional=False)


class Work:
    """Counts how often Python does it."""

    num_calls = 0

    def __call__(self, data: Any, batch: Any) -> tuple[Tensor, Tensor]:
        self.num_calls += 1
        return data.to_input(batch, torch.float32) * 2, data.targets(batch)


def captured(function: Any, compilation: Compilation = CAPTURES) -> BatchFunction:
    return BatchFunction(function, compilation, CPU, name="work")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_function, "CudaGraphs", CpuGraphs)


def test_captured_results_are_those_of_their_batches(graphs: None, tiny_data: type) -> None:
    """Also of the short last one of each epoch, which has a graph of its own."""
    data, work, plain = tiny_data(), Work(), Work()
    function = captured(work)
    for epoch in range(1, 9):
        for batch in data.train_batches(epoch):
            for found, expected in zip(function(data, batch), plain(data, batch), strict=True):
                assert torch.equal(found, expected)
    assert work.num_calls == 2 * (NUM_WARM_UPS + 1) and plain.num_calls == 40


def test_another_layout_is_captured_anew(graphs: None, tiny_data: type) -> None:
    """The shapes are the same, and what is done is not."""
    data = tiny_data()

    def make(data: Any, batch: Any) -> tuple[Tensor, Tensor]:
        return batch.images * (-1 if batch.layout == "negative" else 1), data.targets(batch)

    class Negative(type(data.batch(slice(2)))):
        layout = "negative"

    function = captured(make)
    for _ in range(NUM_WARM_UPS + 2):
        for batch in (data.batch(slice(2)), Negative(data.images[:2], data.labels[:2])):
            assert torch.equal(function(data, batch)[0], make(data, batch)[0])


def test_other_data_are_captured_anew(graphs: None, tiny_data: type) -> None:
    one, other = tiny_data(own_share=0.75), tiny_data(own_share=0.5)
    function = captured(Work())
    for _ in range(NUM_WARM_UPS + 2):
        for data in (one, other):
            assert function(data, data.batch(slice(4)))[1].max() == data.own_share


@pytest.mark.parametrize("compilation", [OFF, CAPTURES], ids=["off", "captures"])
def test_plain_where_steps_are_and_for_batches_that_cannot(
    compilation: Compilation, graphs: None, tiny_data: type
) -> None:
    class Opaque:
        images, labels = torch.randn(2, 3, 4, 4), torch.tensor([0, 2])

    data, work = tiny_data(), Work()
    function = captured(work, compilation)
    for _ in range(2 * NUM_WARM_UPS):
        function(data, data.batch(slice(2)) if compilation is OFF else Opaque())
    assert work.num_calls == 2 * NUM_WARM_UPS


def test_work_that_cannot_be_captured_goes_on_without(
    monkeypatch: pytest.MonkeyPatch, tiny_data: type, caplog: pytest.LogCaptureFixture
) -> None:
    """Even where the step must be captured: it is made for the data of others as well."""

    class Unwilling(CpuGraphs):
        def captured(self, function: object) -> object:
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(batch_function, "CudaGraphs", Unwilling)
    data, work = tiny_data(), Work()
    function = captured(work)
    with caplog.at_level(logging.WARNING):
        for _ in range(NUM_WARM_UPS + 3):
            function(data, data.batch(slice(2)))
    assert work.num_calls == NUM_WARM_UPS + 3
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("the work cannot be recorded")
