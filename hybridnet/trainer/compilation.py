"""How a step is carried out: as it is written, compiled, or captured and replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MOST_COMPILED = 1_000  # models and sizes of pictures in one process
CompileMode = Literal["auto", "off", "graph", "inductor", "inductor_graph"]


@dataclass(frozen=True)
class Compilation:
    """What is done to a step.

    Attributes:
        compiles: the model's forward and backward pass are compiled by TorchInductor, once for each size of picture;
            a batch that is shorter than the others is not worth it.
        captures: the whole update is captured as a CUDA graph, once for each shape of batch, and replayed.
        is_optional: where it cannot be captured, it is carried out as it is written.
    """

    compiles: bool
    captures: bool
    is_optional: bool

    def compiled(self, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """`forward`, compiled if that is wanted."""
        return _LargestBatchCompiled(forward) if self.compiles else forward


class _LargestBatchCompiled:
    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        import torch._dynamo.config as limits  # not worth its import where nothing is compiled

        # All models of a sweep have one `forward`: from the ninth on PyTorch would run them as they are written.
        limits.recompile_limit = limits.accumulated_recompile_limit = MOST_COMPILED
        self.forward = forward
        self.compiled = torch.compile(forward, dynamic=False)
        self.largest = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.largest = max(self.largest, len(images))
        return (self.compiled if len(images) == self.largest else self.forward)(images)


def find_compilation(mode: CompileMode, device: torch.device, *, oom: str, num_ranks: int) -> Compilation:
    """What `mode` means on this device.

    `auto` captures on a CUDA GPU, whose small batches are bound by the launches of some 350 operations, where nothing
    speaks against it; on a CPU neither gains anything.

    Raises:
        ValueError: if the device cannot do it, or another setting rules it out.
    """
    obstacle, way_out = "", "set trainer.compile=auto"
    if device.type != "cuda":
        obstacle = f"a CUDA graph needs a CUDA GPU, not {device}"
    elif oom == "accumulate":
        obstacle = "a recorded step cannot try again with smaller parts"
        way_out = "set trainer.oom=error or trainer.compile=auto"
    elif num_ranks > 1:
        obstacle = f"a step of {num_ranks} processes is not recorded"
    if mode == "auto":
        return Compilation(compiles=False, captures=not obstacle, is_optional=True)
    captures = mode.endswith("graph")
    if captures and obstacle:
        raise ValueError(f"compile ({mode}): {obstacle}; {way_out}")
    return Compilation(compiles=mode.startswith("inductor"), captures=captures, is_optional=False)
