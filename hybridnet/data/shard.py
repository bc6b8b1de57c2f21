"""Which part of the batches is this process's, where several train together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybridnet.data.loader import Request


@dataclass(frozen=True)
class Shard:
    """The part of one process. All of them together have every batch exactly once.

    Attributes:
        rank: number of this process, from 0.
        num_ranks: how many there are.
    """

    rank: int
    num_ranks: int

    def of_each(self, requests: Sequence[Request]) -> list[Request]:
        """This process's part of every batch, for training; where a batch is shorter than the ranks, it may be empty.

        A picture and its partner in mixing, which has the same place counted from the batch's end, stay together and
        are partners in the part as well.
        """
        if self.num_ranks == 1:
            return list(requests)
        return [
            request._replace(indices=request.indices[places], repeats=request.repeats[places])
            for request in requests
            for places in [self._places(len(request.indices))]
        ]

    def of_all(self, requests: Sequence[Request]) -> list[Request]:
        """Every so-many-th batch as a whole, for evaluation: each is computed as by a single process."""
        return list(requests[self.rank :: self.num_ranks])

    def _places(self, size: int) -> np.ndarray:
        fronts = np.array_split(np.arange(size // 2), self.num_ranks)[self.rank]
        middle = [size // 2] if size % 2 and self.rank == self.num_ranks - 1 else []  # the last has the fewest pairs
        return np.concatenate([fronts, middle, (size - 1 - fronts)[::-1]]).astype(int)
