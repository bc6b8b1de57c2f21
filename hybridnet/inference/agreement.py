"""Whether a program computes what a network computes: on the same pictures, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hybridnet.data.listed import ListedImages
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.data.progress import Track, silently
from hybridnet.errors import Fault, InputError
from hybridnet.inference.predictor import Predictor


class Agreement(NamedTuple):
    """What a network and a program say to the same pictures.

    Attributes:
        image_size: height and width of the input.
        batch_size: of the program.
        expected: probabilities of the network, float32 (N, num_classes).
        found: probabilities of the program.
        indices: places in the list of the pictures that could be decoded.
        causes: why the others could not, by their place.
    """

    image_size: tuple[int, int]
    batch_size: int
    expected: Tensor
    found: Tensor
    indices: np.ndarray
    causes: dict[int, str]

    @property
    def max_error(self) -> float:
        """The largest difference of a probability; nan if one is."""
        return (self.found - self.expected).abs().max().item()

    @property
    def num_other(self) -> int:
        """Pictures that get another label."""
        return int((self._labels(self.found) != self._labels(self.expected)).sum())

    def holds(self, tolerance: float) -> bool:
        """Whether no probability differs by more, nor a label where the network's two probabilities are not as near."""
        ours = self.expected.gather(1, self._labels(self.expected)[:, None])
        theirs = self.expected.gather(1, self._labels(self.found)[:, None])
        return self.max_error <= tolerance and bool((ours - theirs <= tolerance).all())

    def accuracies(self, labels: np.ndarray) -> tuple[float, float]:
        """Of the network and of the program; `labels`, (N,), are those of the whole list."""
        wanted = torch.from_numpy(labels[self.indices])
        return tuple((self._labels(p) == wanted).double().mean().item() for p in (self.expected, self.found))

    @staticmethod
    def _labels(probabilities: Tensor) -> Tensor:
        return probabilities.argmax(dim=1)


def compare(
    network: nn.Module,
    program: Callable[[Tensor], Tensor],
    pictures: Sequence[Path | np.ndarray],
    preprocessing: Preprocessing,
    *,
    batch_sizes: Sequence[int],
    track: Track = silently,
) -> list[Agreement]:
    """Show a network and a program the same pictures, each decoded once.

    Args:
        network: in float32, in batches of the largest batch size; its memory becomes channels_last.
        program: float32 (B, 3, H, W), contiguous -> logits (B, num_classes).
        pictures: files, or arrays uint8 (H, W, 3).
        preprocessing: of the pictures, to the size that is compared.
        batch_sizes: of the program.
        track: called with an iterable, a description and a length; shows the progress.

    Returns:
        One result for each batch size.

    Raises:
        InputError: if none can be decoded.
    """
    largest = max(batch_sizes)
    predictor = Predictor(network, preprocessing, device="cpu", precision="float32", batch_size=largest)
    images = ListedImages(pictures, preprocessing)
    expected, indices, found = [], [], {size: [] for size in batch_sizes}
    words = "comparing at {}×{}".format(*preprocessing.image_size)
    for batch, logits in track(predictor.batches(images), words, -(-len(images) // largest)):
        inputs = preprocessing.normalized(batch.images).contiguous()
        expected.append(logits)
        indices.append(batch.indices)
        for size in batch_sizes:
            found[size] += [program(part) for part in inputs.split(size)]
    if not expected:
        cause = f"none of {len(images)} can be decoded; the first: {images.causes[0]}"
        raise InputError(Fault("no picture", "images", cause))
    return [
        Agreement(
            preprocessing.image_size,
            size,
            torch.cat(expected).softmax(dim=1),
            torch.cat(found[size]).softmax(dim=1),
            np.concatenate(indices),
            images.causes,
        )
        for size in batch_sizes
    ]
