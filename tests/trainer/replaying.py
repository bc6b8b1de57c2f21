"""Stands in for CUDA graphs on a CPU: what a function does to tensors is captured, and done again on the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybridnet.trainer.graphs import Outputs


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(func), "a number is read: this would wait for a GPU"
        outputs = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, outputs))
        return outputs

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, outputs in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(outputs), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class CpuGraphs:
    """As a CUDA graph: every tensor has its place, every other number is what it was in the capture.

    Capturing computes as well, and the first replay does not; to the outside both together do it once.
    """

    def __init__(self, device: torch.device) -> None:
        self.num_eager = self.num_replays = 0

    def eagerly(self, function: Callable[[], Outputs]) -> Outputs:
        self.num_eager += 1
        return function()

    def captured(self, function: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        tape, is_new = _Tape(), True
        with tape:
            outputs = function()

        def replay() -> None:
            nonlocal is_new
            self.num_replays += 1
            if not is_new:
                tape.replay()
            is_new = False

        return replay, outputs
