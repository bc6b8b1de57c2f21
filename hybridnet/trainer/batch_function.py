"""A function of data and a batch of them, recorded where the step is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.recording import CudaGraphs, Outputs, Recorded


class Recordable(Protocol):
    """A batch of which everything that changes from one to the next is in tensors.

    Attributes:
        tensors: in the order of their fields.
        layout: all the rest.
    """

    tensors: list[Tensor]
    layout: Hashable

    def with_tensors(self, tensors: Sequence[Tensor]) -> Recordable: ...


class BatchFunction:
    """Computes tensors from a batch on the device; with data and a layout seen before, what was recorded is replayed.

    Batches that are not `Recordable`, and data whose work cannot be recorded, are treated as the function is written.

    Args:
        function: takes data and a batch of them.
        compilation: how the step is carried out.
        device: where the batches are.
        name: of the function, in messages.
    """

    def __init__(
        self, function: Callable[[Any, Any], Outputs], compilation: Compilation, device: torch.device, *, name: str
    ) -> None:
        self.function = function
        self.name = name
        self._graphs = CudaGraphs(device) if compilation.records else None
        self._recorded: dict[Hashable, Recorded] = {}

    def __call__(self, data: Any, batch: Any) -> Outputs:
        """The results, which the next call may overwrite."""
        if self._graphs is None or not hasattr(batch, "with_tensors"):
            return self.function(data, batch)
        key = (data.to_input, batch.layout)
        if key not in self._recorded:
            template = batch.with_tensors([tensor[:0] for tensor in batch.tensors])  # it need not keep this batch

            def of_tensors(*tensors: Tensor) -> Outputs:
                return self.function(data, template.with_tensors(tensors))

            self._recorded[key] = Recorded(of_tensors, self._graphs, name=self.name, is_optional=True)
        return self._recorded[key](*batch.tensors)
