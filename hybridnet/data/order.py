"""Which training pictures an epoch has, and in which order."""

from __future__ import annotations

from typing import Literal

import numpy as np

ORDER = 0  # of the random streams


class Order:
    """A pure function of seed and epoch.

    Args:
        labels: class index of each picture, (N,).
        sampler: `shuffle`, every picture once in an epoch, or `balanced`, every class equally often.
        batch_size: pictures per step.
        seed: of the random numbers.

    Attributes:
        num: pictures in an epoch: N, or N - 1 where one would be left over alone, for BatchNorm cannot normalise one
            value; it waits for another epoch.
    """

    def __init__(
        self, labels: np.ndarray, *, sampler: Literal["shuffle", "balanced"], batch_size: int, seed: int
    ) -> None:
        self.labels = labels
        self.sampler = sampler
        self.seed = seed
        num = len(labels)
        self.num = num - 1 if num > 1 and num % batch_size == 1 else num

    def of(self, epoch: int) -> np.ndarray:
        """Indices of the pictures of an epoch, (num,)."""
        rng = np.random.default_rng([ORDER, self.seed, epoch])
        order = _balanced(self.labels, rng) if self.sampler == "balanced" else rng.permutation(len(self.labels))
        return order[: self.num]


def _balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many places as there are samples, every class in as many of them; a class's samples take turns."""
    classes = np.unique(labels)
    shares = np.full(len(classes), len(labels) // len(classes)) + (np.arange(len(classes)) < len(labels) % len(classes))
    drawn = []
    for label, share in zip(rng.permutation(classes), shares, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [rng.permutation(members) for _ in range(-(-share // len(members)))]
        drawn.append(np.concatenate(rounds)[:share])
    return rng.permutation(np.concatenate(drawn))
