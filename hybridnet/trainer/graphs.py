"""CUDA graphs: a function on tensors is captured once for each shape and replayed, without launches from Python."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from hybridnet.errors import Fault, TrainingError

log = logging.getLogger(__name__)

Outputs = tuple[Tensor, ...]

# Calls before the capture: cuDNN chooses its algorithms, the optimizer makes its state. They are calls like others.
NUM_WARM_UPS = 3


class Graphs(Protocol):
    """Captures what is done on a device."""

    def eagerly(self, function: Callable[[], Outputs]) -> Outputs:
        """Call it where it can be captured later."""

    def captured(self, function: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        """A function that does the same again on the same tensors, and the tensors with its results.

        Capturing does nothing to the tensors.
        """


class CudaGraphs:
    """Graphs of a GPU, which share their memory: only one is replayed at a time.

    Args:
        device: a CUDA GPU.
    """

    def __init__(self, device: torch.device) -> None:
        # One stream for all: autograd adds to a gradient in the stream where it was first made.
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def eagerly(self, function: Callable[[], Outputs]) -> Outputs:
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            outputs = function()
        current.wait_stream(self.stream)
        return outputs

    def captured(self, function: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        graph = torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        try:
            with self._capture(graph, pool=self.pool):
                outputs = function()
        except Exception:
            # torch < 2.14: until a capture succeeds, the GPU's generator would refuse numbers, as to dropout.
            with suppress(Exception), self._capture(torch.cuda.CUDAGraph(), pool=None):
                torch.zeros(1, device=self.stream.device)
            raise
        return graph.replay, outputs

    @contextmanager
    def _capture(self, graph: torch.cuda.CUDAGraph, *, pool: Any) -> Iterator[None]:
        # Only this thread's calls count: others copy the next batches meanwhile.
        capture = torch.cuda.graph(graph, pool=pool, stream=self.stream, capture_error_mode="thread_local")
        with torch.cuda.stream(self.stream), capture:  # a capture that fails would leave its stream the current one
            yield


class _Capture(NamedTuple):
    inputs: Sequence[Tensor]
    replay: Callable[[], None]
    outputs: Outputs


class Captured:
    """Calls a function on tensors; from the fourth call with the same shapes on, what it did is replayed.

    What the function computes may depend on its inputs, on tensors that stay in their place, and on random numbers of
    the device, but on nothing else that changes. The results lie where the next call will write its own.

    Args:
        function: whose results are tensors.
        graphs: capture it.
        name: of the function, in messages.
        is_optional: where it cannot be captured, go on without and say so, instead of raising.

    Raises:
        TrainingError: when called, if it cannot be captured.
    """

    def __init__(self, function: Callable[..., Outputs], graphs: Graphs, *, name: str, is_optional: bool) -> None:
        self.function = function
        self.graphs = graphs
        self.name = name
        self.is_optional = is_optional
        self._num_calls: Counter[Any] = Counter()
        self._captures: dict[Any, _Capture] = {}
        self._is_possible = True

    def __call__(self, *inputs: Tensor) -> Outputs:
        key = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs)
        if key not in self._captures:
            self._num_calls[key] += 1
            is_due = self._is_possible and self._num_calls[key] > NUM_WARM_UPS
            if not is_due or not self._capture(key, inputs):
                return self.graphs.eagerly(lambda: self.function(*inputs))
        capture = self._captures[key]
        for own, tensor in zip(capture.inputs, inputs, strict=True):
            own.copy_(tensor)
        capture.replay()
        return capture.outputs

    def _capture(self, key: Any, inputs: Sequence[Tensor]) -> bool:
        own = [torch.empty_like(tensor).copy_(tensor) for tensor in inputs]  # with the same strides
        try:
            self._captures[key] = _Capture(own, *self.graphs.captured(lambda: self.function(*own)))
        except RuntimeError as error:
            cause = str(error).strip().partition("\n")[0]
            give_up(self.name, "this model", cause, is_optional=self.is_optional)
            self._is_possible = False
        return self._is_possible


def give_up(name: str, where: str, cause: str, *, is_optional: bool) -> None:
    """Say that something is not captured.

    Args:
        name: of what is not.
        where: the reason lies.
        cause: the reason.
        is_optional: go on without.

    Raises:
        TrainingError: if it is not optional.
    """
    if not is_optional:
        hint = "trainer.compile=off carries the operations out one by one"
        raise TrainingError(Fault(f"{name} that cannot be recorded", where, cause, hint))
    log.warning(f"the {name} cannot be recorded as a CUDA graph and is made as it is written: {cause}")
