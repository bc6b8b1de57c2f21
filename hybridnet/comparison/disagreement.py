"""Pictures that only one of two groups gets right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hybridnet.comparison.differences import Pair, only_one
from hybridnet.comparison.paired import Paired


class Disputed(NamedTuple):
    """A picture.

    Attributes:
        path, label: of the table.
        fold: of its runs, or None.
        is_first: whether it is the pair's first group that gets it right.
        shares: of the runs of the first and of the second group that are right.
        wrong: what the other group's runs take it for; where they say several classes, the one that most of them say.
    """

    path: str
    label: str
    fold: str | None
    is_first: bool
    shares: tuple[float, float]
    wrong: str


def disputed(paired: Paired, pair: Pair) -> list[Disputed]:
    """Those of a pair: the first group's before the second's, the clearest ones first."""
    found, start = [], 0
    mine, its = paired.shares(pair.first), paired.shares(pair.second)
    of_first, of_second = only_one(mine, its)
    for fold in paired.folds:
        answers = [fold.cells[group].predictions for group in (pair.first, pair.second)]
        for place, path in enumerate(fold.paths):
            number = start + place
            if of_first[number] or of_second[number]:
                is_first, label = bool(of_first[number]), int(fold.labels[place])
                wrong = _usual_mistake(answers[is_first][:, place], label)
                shares = (float(mine[number]), float(its[number]))
                names = paired.classes[label], paired.classes[wrong]
                found.append(Disputed(path, names[0], fold.name, is_first, shares, names[1]))
        start += len(fold.paths)
    return sorted(found, key=lambda one: (not one.is_first, -abs(one.shares[0] - one.shares[1]), one.path))


def _usual_mistake(predictions: np.ndarray, label: int) -> int:
    return int(np.bincount(predictions[predictions != label]).argmax())
