"""A model's answers on the validation pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from hybridnet.trainer.batch_function import BatchFunction
from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.device import Precision
from hybridnet.trainer.metrics import Evaluation
from hybridnet.trainer.ranks import Ranks

# Takes the place of batches whose source may fail.
Guard = Callable[[Iterable[Any]], Iterator[Any]]


def nothing() -> None:
    """Where nothing is to be done, and nobody asks to stop."""


class Evaluator:
    """Evaluates a model as it is at each call; captured where the step is.

    Args:
        model: (B, 3, H, W) -> (B, num_classes).
        make_input: takes data and a batch of them; returns the model's input.
        precision: of the forward pass.
        compilation: how a training step is carried out.
        ranks: the processes that share the pictures.
    """

    def __init__(
        self,
        model: nn.Module,
        make_input: Callable[[Any, Any], Tensor],
        *,
        precision: Precision,
        compilation: Compilation,
        ranks: Ranks,
    ) -> None:
        self.model = model
        self.make_input = make_input
        self.precision = precision
        self.ranks = ranks
        self._answers = BatchFunction(self._logits, compilation, precision.device, name="validation")

    @torch.inference_mode()
    def __call__(self, data: Any, *, guarded: Guard = iter, after_batch: Callable[[], None] = nothing) -> Evaluation:
        """The model's answers on the validation pictures; of all ranks, on every one."""
        self.model.eval()
        answers = []
        for host_batch in self.ranks.in_step(guarded(data.valid_batches())):
            if host_batch is not None:
                batch = host_batch.to(self.precision.device)
                (logits,) = self._answers(data, batch)
                answers.append((logits.clone(), batch.labels))  # which the next batch would overwrite
            after_batch()
        of_ranks = self.ranks.gathered([(logits.cpu(), labels.cpu()) for logits, labels in answers])
        in_order = [answer for answers in zip_longest(*of_ranks) for answer in answers if answer is not None]
        return Evaluation(*map(torch.cat, zip(*in_order, strict=True)))

    def _logits(self, data: Any, batch: Any) -> tuple[Tensor]:
        with self.precision.autocast():
            return (self.model(self.make_input(data, batch)).float(),)
