"""The answers of a trained model to many pictures: in batches, on any device, in any precision."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hybridnet.data.listed import ListedBatch, ListedImages
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.data.progress import Track, silently
from hybridnet.errors import Fault, TrainingError
from hybridnet.inference.tta import VIEWS, Tta
from hybridnet.trainer.device import find_device, find_precision, is_out_of_memory, prepare_memory


class Answers(NamedTuple):
    """What a model says to a list of pictures.

    Attributes:
        logits: float32 (N, num_classes), on the CPU; with several views, the logarithm of the mean probabilities.
        indices: int64 (N,), places in the list of the pictures that could be decoded, ascending.
        causes: why the others could not, by their place.
    """

    logits: Tensor
    indices: np.ndarray
    causes: dict[int, str]


def together(logits: Sequence[Tensor]) -> Tensor:
    """The logits of the only model or view, or the logarithm of the mean probabilities of several.

    It is never taken of a probability: in float32 one below 1e-45 is 0, and its logarithm an infinite loss.

    Shape:
        each (B, num_classes) -> (B, num_classes).
    """
    if len(logits) == 1:
        return logits[0]
    return torch.stack([answer.log_softmax(dim=1) for answer in logits]).logsumexp(dim=0) - math.log(len(logits))


class Predictor:
    """Applies a classifier to pictures as training validates: the same batches give the same bits.

    Args:
        network: (B, 3, H, W) -> (B, num_classes); it is moved to the device, and put into eval mode.
        preprocessing: of the pictures.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: `auto`, `bf16`, `fp16`, `float32`; a network with weights in another format than float32 computes in
            theirs.
        batch_size: pictures at once.
        channels_last: keep feature maps as (B, H, W, C) in memory; as in training for the same bits.
        tta: test-time augmentation: the mean probability of `none`, the picture as it is; `flip`, and mirrored
            left-right; `flips`, and mirrored top-bottom, and both.

    Raises:
        ValueError: if this machine has no such device or precision.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        *,
        device: str,
        precision: str,
        batch_size: int,
        channels_last: bool = True,
        tta: Tta = "none",
    ) -> None:
        self.device = find_device(device)
        weights = next(network.parameters(), torch.empty(0)).dtype
        is_usual = weights == torch.float32  # else somebody has converted them, as `half()` does
        self.precision = find_precision(precision if is_usual else "float32", self.device)
        self.dtype = self.precision.dtype if is_usual else weights
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.eval().to(self.device, memory_format=self.memory_format)
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.views = VIEWS[tta]

    def answers(self, pictures: Sequence[Path | np.ndarray], *, track: Track = silently) -> Answers:
        """The logits of all pictures that can be decoded.

        Args:
            pictures: files, or arrays uint8 (H, W, 3).
            track: called with an iterable, a description and a length; shows the progress.

        Raises:
            TrainingError: if the memory is full.
        """
        images = ListedImages(pictures, self.preprocessing)
        logits, indices = [], []
        num_batches = -(-len(images) // self.batch_size)
        batches = track(self.batches(images), "looking at the pictures", num_batches)
        for batch, answer in batches:
            logits.append(answer)
            indices.append(batch.indices)
        # Only now copied from the device: it never waits between two batches.
        found = torch.cat(logits).cpu() if logits else torch.empty(0, 0)
        return Answers(found, np.concatenate(indices) if indices else np.empty(0, np.int64), images.causes)

    def batches(self, images: ListedImages) -> Iterator[tuple[ListedBatch, Tensor]]:
        """Each batch with its logits (B, num_classes), still on the device."""
        prepare_memory(self.device)
        with self._explained():
            for batch in images.batches(batch_size=self.batch_size, device=self.device):
                if len(batch):
                    yield batch, self.logits(batch.images)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Of pixels: uint8 (B, H, W, 3) -> float32 (B, num_classes), on the device."""
        pixels = images.to(self.device, non_blocking=self.device.type == "cuda")  # see `Batch.to`
        inputs = self.preprocessing.normalized(pixels, self.dtype)
        inputs = inputs.contiguous(memory_format=self.memory_format)
        answers = [self._forward(view(inputs)) for view in self.views]
        return together(answers)

    def _forward(self, inputs: Tensor) -> Tensor:
        with self.precision.autocast():
            return self.network(inputs).float()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            cause = f"{self.batch_size} pictures at once do not fit"
            hint = f"set data.batch_size={max(1, self.batch_size // 2)}"
            raise TrainingError(Fault("memory full", str(self.device), cause, hint)) from error
