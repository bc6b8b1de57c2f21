"""What is measured: sums and counts, so that a short last batch weighs what it should."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridnet.trainer.ranks import Ranks


class RunningTotals:
    """Sums over the training steps of an epoch, kept on the device; only `read` waits for it.

    Args:
        device: that trains.
        ranks: each of which adds up its part of the batches.

    Attributes:
        num_images: of all ranks.
    """

    def __init__(self, device: torch.device, ranks: Ranks) -> None:
        self.ranks = ranks
        self.num_images = 0
        self._sums = torch.zeros(2, dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        self._first_bad_step = torch.full((), torch.inf, device=device)

    def reset(self) -> None:
        """Begin a new epoch."""
        self.num_images = 0
        self._sums.zero_()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, *, num_images: int, step: int) -> None:
        """Add a batch: a loss () whose mean over the ranks is the batch's, and this rank's part of the rest.

        Args:
            loss: ().
            logits: (B, num_classes).
            labels: (B,).
            num_images: of the batch on all ranks.
            step: its number.
        """
        self.num_images += num_images
        loss = loss.detach()
        num_correct = (logits.detach().argmax(dim=1) == labels).sum()
        self._sums += torch.stack([loss * (num_images / self.ranks.num), num_correct.to(loss.dtype)])
        self._first_bad_step.clamp_(max=torch.where(loss.isfinite(), torch.inf, float(step)))

    def read(self) -> tuple[float, float]:
        """Mean loss and accuracy of all ranks so far. Waits for the device, and for the other ranks.

        Raises:
            FloatingPointError: if a loss was not finite; its message is the number of the first such step.
        """
        bad_step = -self.ranks.largest(-self._first_bad_step.item())
        if bad_step != float("inf"):
            raise FloatingPointError(int(bad_step))
        loss_sum, num_correct = self.ranks.sums(self._sums.tolist())
        return loss_sum / self.num_images, num_correct / self.num_images

    def state_dict(self) -> dict[str, Any]:
        """The sums, as Python's floats, which hold them exactly; the steps so far must have been finite."""
        return {"num_images": self.num_images, "sums": self._sums.tolist()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.num_images = saved["num_images"]
        self._sums.copy_(torch.tensor(saved["sums"], dtype=self._sums.dtype))

    def add_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Add the sums of another rank over the same batches."""
        self._sums += torch.tensor(saved["sums"], dtype=self._sums.dtype, device=self._sums.device)

    def clear_sums(self) -> None:
        """Leave the sums so far to another rank."""
        self._sums.zero_()


@dataclass(frozen=True)
class Evaluation:
    """The model's answers on a split.

    Attributes:
        logits: float32 (N, num_classes), on the CPU.
        labels: int64 (N,), on the CPU.
    """

    logits: Tensor
    labels: Tensor

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, (N, num_classes)."""
        return self.logits.softmax(dim=1)

    @property
    def predictions(self) -> Tensor:
        """The class with the largest logit, (N,)."""
        return self.logits.argmax(dim=1)

    def loss(self) -> float:
        """Mean cross-entropy, summed in float64."""
        return F.cross_entropy(self.logits.double(), self.labels).item()

    def accuracy(self) -> float:
        """Share of right predictions."""
        return (self.predictions == self.labels).double().mean().item()

    def top_k_accuracy(self, k: int) -> float:
        """Share of pictures whose label is among the k largest logits."""
        top = self.logits.topk(k, dim=1).indices
        return (top == self.labels[:, None]).any(dim=1).double().mean().item()

    def confusion(self) -> Tensor:
        """Counts (num_classes, num_classes); rows are the labels, columns the predictions."""
        num_classes = self.logits.shape[1]
        pairs = self.labels * num_classes + self.predictions
        return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)

    def per_class(self) -> dict[str, Tensor]:
        """Precision, recall, F1 and support of every class, each (num_classes,).

        NaN where there is nothing to divide by: the precision of a class that was never predicted, the recall of one
        without pictures, the F1 where both are so.
        """
        counts = self.confusion().double()
        hits, predicted, support = counts.diagonal(), counts.sum(dim=0), counts.sum(dim=1)
        return {
            "precision": hits / predicted,
            "recall": hits / support,
            "f1": 2 * hits / (predicted + support),
            "support": support,
        }

    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur among the labels or the predictions."""
        counts = self.confusion()
        occurs = counts.sum(dim=0) + counts.sum(dim=1) > 0
        return self.per_class()["f1"][occurs].mean().item()

    def summary(self) -> dict[str, float]:
        """`valid_loss`, `valid_acc`, `valid_macro_f1`, and `valid_top5_acc` where there are more than 5 classes."""
        summary = {
            "valid_loss": self.loss(),
            "valid_acc": self.accuracy(),
            "valid_macro_f1": self.macro_f1(),
        }
        if self.logits.shape[1] > 5:
            summary["valid_top5_acc"] = self.top_k_accuracy(5)
        return summary
