"""Inputs and targets: made beside the step before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hybridnet.trainer import batch_function
from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.graphs import NUM_WARM_UPS
from hybridnet.trainer.inputs import Inputs
from tests.trainer.replaying import CpuGraphs

CPU = torch.device("cpu")
OFF = Compilation(compiles=False, captures=False, is_optional=False)
CAPTURES = Compilation(compiles=False, captures=True, is_optional=False)


def work(data: Any, batch: Any) -> tuple[Tensor, Tensor]:
    return data.to_input(batch, torch.float32) * 2, data.targets(batch)


@pytest.mark.parametrize("compilation", [OFF, CAPTURES], ids=["off", "captures"])
def test_inputs_stay_until_the_next_ones_are_used(
    compilation: Compilation, tiny_data: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next ones are made while the step is carried out that reads them."""
    monkeypatch.setattr(batch_function, "CudaGraphs", CpuGraphs)
    data, inputs = tiny_data(), Inputs(work, compilation, CPU)
    batches = [data.batch(slice(4 * n, 4 * n + 4)) for n in range(5)] * 2
    made = [inputs(data, batch) for batch in batches]
    for found, batch in zip(made, batches, strict=True):
        images, targets = work(data, batch)
        assert torch.equal(found.batch.labels, batch.labels)
        assert torch.equal(found.images, images) and torch.equal(found.targets, targets)


@pytest.mark.gpu
@pytest.mark.parametrize("compilation", [OFF, CAPTURES], ids=["off", "captures"])
def test_inputs_made_beside_steps_on_a_gpu_are_those_of_their_batches(
    compilation: Compilation, tiny_data: type
) -> None:
    """Each step is slow and reads them at its beginning and at its end, when the next two may be under way."""
    data, inputs = tiny_data(), Inputs(work, compilation, torch.device("cuda"))
    read, expected = [], []
    for epoch in range(1, 9):
        for batch in data.train_batches(epoch):
            there, images, targets = inputs(data, batch)
            for _ in range(2):
                read.append((there.labels.clone(), images.clone(), targets.clone()))
                torch.cuda._sleep(2 * 10**6)  # a millisecond
            expected += [(batch.labels, *work(data, batch))] * 2
    for found, right in zip(read, expected, strict=True):
        assert all(torch.equal(a.cpu(), b) for a, b in zip(found, right, strict=True))


@pytest.mark.gpu
def test_inputs_of_the_next_step_do_not_wait_for_the_end_of_this_one_on_a_gpu(tiny_data: type) -> None:
    data, made = tiny_data(), Inputs(work, CAPTURES, torch.device("cuda"))
    for _ in range(NUM_WARM_UPS + 2):
        made(data, data.batch(slice(4)))
    torch.cuda.synchronize()
    made(data, data.batch(slice(4)))
    torch.cuda._sleep(10**9)  # half a second: the step
    step = torch.cuda.current_stream().record_event()
    made(data, data.batch(slice(4)))
    made._aside.stream.synchronize()
    assert not step.query()
