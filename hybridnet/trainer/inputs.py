"""From a batch of the host to what a step is given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridnet.trainer.batch_function import BatchFunction
from hybridnet.trainer.compilation import Compilation

# Takes data and a batch of them on the device; returns the model's input and the targets.
Make = Callable[[Any, Any], tuple[Tensor, Tensor]]


class Made(NamedTuple):
    """What a step needs: a batch on the device, the model's input (B, 3, H, W) and the targets (B, num_classes)."""

    batch: Any
    images: Tensor
    targets: Tensor


class Inputs:
    """Copies batches to the device and makes inputs and targets there: on a GPU, while it carries out the step before.

    It is a hundred small operations: launching them one by one takes longer than a millisecond, a third of a step on
    pictures of 32×32.

    Args:
        make: does it; see `BatchFunction`.
        compilation: how the step is carried out.
        device: that trains.
    """

    def __init__(self, make: Make, compilation: Compilation, device: torch.device) -> None:
        self.device = device
        self._make = BatchFunction(make, compilation, device, name="input")
        self._is_overwritten = compilation.captures
        self._aside = _Aside(device) if device.type == "cuda" else nullcontext()
        self._latest: Made | None = None  # its memory is not given away before the step that reads it is launched

    def __call__(self, data: Any, batch: Any) -> Made:
        """What the next step needs; the call after the next one may overwrite it."""
        with self._aside:
            there = batch.to(self.device)
            images, targets = self._make(data, there)
            if self._is_overwritten:  # by the next call, maybe before the step has read them
                images, targets = images.clone(), targets.clone()
            self._latest = Made(there, images, targets)
        return self._latest


class _Aside:
    """Context manager whose work a GPU does in a stream of its own: before what follows, and beside one step.

    Work number n waits for step n - 2, so that the memory of its results, which that step read, can be used again.

    Args:
        device: a CUDA GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self._step_before: torch.cuda.Event | None = None

    def __enter__(self) -> None:
        step = torch.cuda.current_stream(self.stream.device).record_event()
        self.stream.wait_event(self._step_before or step)
        self._step_before = step
        self._context = torch.cuda.stream(self.stream)
        self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)
        torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)
