"""From a batch to what a step is given."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.recording import CudaGraphs, Recorded

# Takes data and a batch of them; returns the model's input and the targets.
Make = Callable[[Any, Any], tuple[Tensor, Tensor]]


class Recordable(Protocol):
    """A batch of which everything that changes from one to the next is in tensors.

    Attributes:
        tensors: in the order of their fields.
        layout: all the rest.
    """

    tensors: list[Tensor]
    layout: Hashable

    def with_tensors(self, tensors: Sequence[Tensor]) -> Recordable: ...


class Inputs:
    """Makes inputs and targets: a hundred small operations, which are recorded where the step is.

    Launching them one by one takes longer than a millisecond, a third of a step on pictures of 32×32. Batches that are
    not `Recordable`, and data whose work cannot be recorded, are treated as they are written.

    Args:
        make: does it.
        compilation: how the step is carried out.
        device: where the batches are.
    """

    def __init__(self, make: Make, compilation: Compilation, device: torch.device) -> None:
        self.make = make
        self._graphs = CudaGraphs(device) if compilation.records else None
        self._recorded: dict[Hashable, Recorded] = {}

    def __call__(self, data: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """The model's input and the targets, which the next call may overwrite."""
        if self._graphs is None or not hasattr(batch, "with_tensors"):
            return self.make(data, batch)
        key = (data.to_input, batch.layout)
        if key not in self._recorded:
            template = batch.with_tensors([tensor[:0] for tensor in batch.tensors])  # it need not keep this batch

            def of_tensors(*tensors: Tensor) -> tuple[Tensor, Tensor]:
                return self.make(data, template.with_tensors(tensors))

            self._recorded[key] = Recorded(of_tensors, self._graphs, name="input", is_optional=True)
        return self._recorded[key](*batch.tensors)
