from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from hybridnet.errors import TrainingError
from hybridnet.trainer.graphs import NUM_WARM_UPS, Captured, CudaGraphs
from tests.trainer.replaying import CpuGraphs

CPU = torch.device("cpu")


class Counting:
    """Adds the inputs to a sum that stays in its place; counts the calls of Python."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.total = torch.zeros(3)

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.num_calls += 1
        self.total += x.sum(dim=0)
        return x * 2, self.total + y


def test_replays_do_what_calls_do() -> None:
    function, plain = Counting(), Counting()
    graphs = CpuGraphs(CPU)
    captured = Captured(function, graphs, name="step", is_optional=False)
    for number in range(1, 9):
        x, y = torch.full((5, 3), 1.0 * number), torch.full((3,), 0.5 * number)
        for found, expected in zip(captured(x, y), plain(x, y), strict=True):
            assert torch.equal(found, expected), number
    assert function.num_calls == NUM_WARM_UPS + 1  # the last one was captured
    assert (graphs.num_eager, graphs.num_replays) == (NUM_WARM_UPS, 8 - NUM_WARM_UPS)


def test_every_shape_has_a_capture_of_its_own() -> None:
    function, plain, graphs = Counting(), Counting(), CpuGraphs(CPU)
    captured = Captured(function, graphs, name="step", is_optional=False)
    for size in [5, 2] * (NUM_WARM_UPS + 2):
        x, y = torch.randn(size, 3), torch.randn(3)
        for found, expected in zip(captured(x, y), plain(x, y), strict=True):
            assert torch.equal(found, expected)
    assert function.num_calls == 2 * (NUM_WARM_UPS + 1)


def test_another_memory_format_is_another_shape() -> None:
    """The capture reads its own copies of the inputs, whose strides are those it was made with."""
    captured = Captured(lambda x: (x.contiguous().view(-1) + 0,), CpuGraphs(CPU), name="step", is_optional=False)
    x = torch.randn(2, 3, 4, 5)
    for _ in range(NUM_WARM_UPS + 2):
        for given in (x, x.contiguous(memory_format=torch.channels_last)):
            assert torch.equal(captured(given)[0], x.view(-1))


def test_the_inputs_are_copied() -> None:
    captured = Captured(lambda x: (x + 1,), CpuGraphs(CPU), name="step", is_optional=False)
    for number in range(NUM_WARM_UPS + 3):
        given = torch.tensor([float(number)])
        assert captured(given)[0].item() == number + 1
        given.fill_(99)  # as a loader that uses its memory again


class Unwilling(CpuGraphs):
    num_tries = 0

    def captured(self, function: object) -> object:
        self.num_tries += 1
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_what_cannot_be_captured_goes_on_without_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    graphs = Unwilling(CPU)
    captured = Captured(lambda x: (x + 1,), graphs, name="step", is_optional=True)
    with caplog.at_level(logging.WARNING):
        assert [captured(torch.tensor(1.0 * n))[0].item() for n in range(9)] == [1.0 + n for n in range(9)]
    assert graphs.num_tries == 1
    assert caplog.messages == [
        "the step cannot be recorded as a CUDA graph and is made as it is written: "
        "operation not permitted when stream is capturing"
    ]


def test_what_was_asked_for_and_cannot_be_done_is_an_error() -> None:
    captured = Captured(lambda x: (x + 1,), Unwilling(CPU), name="step", is_optional=False)
    for _ in range(NUM_WARM_UPS):
        captured(torch.ones(2))
    with pytest.raises(TrainingError, match=r"cannot be recorded in this model: operation not .*\n.*compile=off"):
        captured(torch.ones(2))


class FakeCuda:
    """In place of torch.cuda, as a capture that fails leaves it: `graph` ends by an error, before its stream does.

    The generator takes it that a capture is going on until one succeeds.
    """

    def __init__(self) -> None:
        self.streams = ["the current one"]
        self.is_generator_capturing = False

    def Stream(self, device: torch.device) -> SimpleNamespace:  # noqa: N802 - torch's name
        return SimpleNamespace(device=device, wait_stream=lambda other: None)

    def current_stream(self, device: torch.device) -> object:
        return self.streams[-1]

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        before = list(self.streams)
        self.streams.append(stream)
        try:
            yield
        finally:
            self.streams = before

    @contextmanager
    def graph(self, graph: object, *, pool: object, stream: object, capture_error_mode: str) -> Iterator[None]:
        before = list(self.streams)
        self.streams.append(stream)
        self.is_generator_capturing = True
        try:
            yield
        except ZeroDivisionError as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        self.is_generator_capturing = False
        self.streams = before


def test_a_capture_that_fails_leaves_stream_and_generator_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows would go on in the graph's own stream, without waiting for what another one does."""
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    cuda = FakeCuda()
    for name in ("Stream", "current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    for name in ("CUDAGraph", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, object)
    with pytest.raises(RuntimeError, match="previous error during capture"):
        CudaGraphs(torch.device("cuda")).captured(lambda: 1 / 0)
    assert cuda.streams == ["the current one"] and not cuda.is_generator_capturing


def test_the_stand_in_notices_a_number_that_is_read() -> None:
    captured = Captured(lambda x: (x * x.sum().item(),), CpuGraphs(CPU), name="step", is_optional=False)
    for _ in range(NUM_WARM_UPS):
        captured(torch.ones(2))
    with pytest.raises(AssertionError, match="would wait for a GPU"):
        captured(torch.ones(2))


@pytest.mark.gpu
def test_replays_on_a_gpu_do_what_calls_do() -> None:
    device = torch.device("cuda")
    function, plain = Counting(), Counting()
    function.total, plain.total = function.total.to(device), plain.total.to(device)
    captured = Captured(function, CudaGraphs(device), name="step", is_optional=False)
    for size in [5, 2] * (NUM_WARM_UPS + 3):
        x, y = torch.randn(size, 3, device=device), torch.randn(3, device=device)
        for found, expected in zip(captured(x, y), plain(x, y), strict=True):
            assert torch.equal(found, expected)
    assert function.num_calls == 2 * (NUM_WARM_UPS + 1)


@pytest.mark.gpu
def test_what_cannot_be_captured_on_a_gpu_goes_on_without() -> None:
    device = torch.device("cuda")
    current = torch.cuda.current_stream()
    captured = Captured(lambda x: (x * x.sum().item(),), CudaGraphs(device), name="step", is_optional=True)
    for number in range(NUM_WARM_UPS + 3):
        x = torch.full((2,), float(number), device=device)
        torch.rand(2, device=device)
        assert captured(x)[0].tolist() == [2.0 * number**2] * 2
        assert torch.cuda.current_stream() == current
