"""A function of data and a batch of them, captured where the step is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.graphs import Captured, CudaGraphs, Outputs


class Capturable(Protocol):
    """A batch of which everything that changes from one to the next is in tensors.

    Attributes:
        tensors: in the order of their fields.
        layout: all the rest.
    """

    tensors: list[Tensor]
    layout: Hashable

    def with_tensors(self, tensors: Sequence[Tensor]) -> Capturable: ...


class BatchFunction:
    """Computes tensors from a batch on the device; with data and a layout seen before, what was captured is replayed.

    Batches that are not `Capturable`, and data whose work cannot be captured, are treated as the function is written.

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
        self._graphs = CudaGraphs(device) if compilation.captures else None
        self._captured: dict[Hashable, Captured] = {}

    def __call__(self, data: Any, batch: Any) -> Outputs:
        """The results, which the next call may overwrite."""
        if self._graphs is None or not hasattr(batch, "with_tensors"):
            return self.function(data, batch)
        key = (data.to_input, batch.layout)
        if key not in self._captured:
            template = batch.with_tensors([tensor[:0] for tensor in batch.tensors])  # it need not keep this batch

            def of_tensors(*tensors: Tensor) -> Outputs:
                return self.function(data, template.with_tensors(tensors))

            self._captured[key] = Captured(of_tensors, self._graphs, name=self.name, is_optional=True)
        return self._captured[key](*batch.tensors)
