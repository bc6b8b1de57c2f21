"""Dividing pictures into splits or folds by whole groups, every class with its share of each."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from hybridnet.errors import Fault, InputError

ATTEMPTS = 20  # orders tried where groups hold several classes and a class came out missing


def split_groups(
    labels: Sequence[str],
    groups: Sequence[Hashable],
    shares: Mapping[str, float],
    *,
    seed: int,
    placed: Sequence[str | None] | None = None,
) -> list[str]:
    """The split of every picture: drawn at random by whole groups, every class with its share of every split.

    The largest groups are placed first, each where its classes miss most. A class that has no more groups left than
    splits without it goes to those. Groups of one picture give every split exactly its rounded share, at least 1.

    Args:
        labels: class of every picture.
        groups: number or name of every picture's group; a group may hold several classes.
        shares: of each split; their sum is 1. The splits with the largest share take what rounding leaves over, in
            turn from class to class.
        seed: of the order in which groups of one size are placed.
        placed: the split of pictures that have one already, in groups of their own; None for those to be placed. They
            count for the shares. What is asked of each class holds for those of which none is placed.

    Raises:
        InputError: if a class has fewer groups than splits, or groups of several classes leave no way to divide them.
    """
    names = list(shares)
    classes, label_ids = np.unique(np.array(labels, dtype=object), return_inverse=True)
    places = np.array([-1 if split is None else names.index(split) for split in placed or [None] * len(labels)])
    is_placed = places >= 0
    held = np.zeros((len(names), len(classes)), dtype=np.int64)  # pictures of each split and class
    np.add.at(held, (places[is_placed], label_ids[is_placed]), 1)
    number: dict[Hashable, int] = {}
    free = np.flatnonzero(~is_placed)
    group_ids = np.array([number.setdefault(groups[index], len(number)) for index in free.tolist()], dtype=np.int64)
    sizes = np.zeros((len(number), len(classes)), dtype=np.int64)  # pictures of each group and class
    np.add.at(sizes, (group_ids, label_ids[free]), 1)
    is_new = ~held.any(axis=0)
    _require_enough(classes[is_new], np.count_nonzero(sizes[:, is_new], axis=0), names)

    targets = _targets((sizes.sum(axis=0) + held.sum(axis=0)).tolist(), list(shares.values()))
    rng = np.random.default_rng(seed)
    for _ in range(ATTEMPTS):
        order = rng.permutation(len(sizes))
        order = order[np.argsort(-sizes[order].sum(axis=1), kind="stable")]
        chosen = _place(sizes, order, targets, held)
        missing = [(s, c) for s in range(len(names)) for c in np.flatnonzero(is_new) if not sizes[chosen == s, c].any()]
        if not missing:
            places[free] = chosen[group_ids]
            return [names[place] for place in places]
    split, label = missing[0]
    cause = f"its groups also hold other classes, and none is left for '{names[split]}'"
    hint = "put fewer pictures into one group, or ask for fewer splits (test=0) or folds"
    raise InputError(Fault("groups that cannot be divided", f"class '{classes[label]}'", cause, hint))


def _require_enough(classes: Sequence[str], num_groups: Sequence[int], splits: Sequence[str]) -> None:
    hint = "add pictures, leave the class out, ask for fewer splits or folds, or copies=same if they only look alike"
    names = f"{len(splits)} {'folds' if splits[0].isdecimal() else 'splits'} ({', '.join(splits)})"
    faults = []
    for label, count in zip(classes, num_groups, strict=True):
        if count < len(splits):
            counted = "1 group of pictures is" if count == 1 else f"{count} groups of pictures are"
            cause = f"{counted} too few for {names}; copies of one picture are one group"
            faults.append(Fault("too few pictures", f"class '{label}'", cause, hint))
    if faults:
        raise InputError(*faults)


def _targets(counts: Sequence[int], shares: Sequence[float]) -> np.ndarray:
    """How many pictures of each class each split should have: rounded, at least 1; their sum is the class's count.

    What is left over, or lacks, goes to the largest splits in turn. Each class goes on where the one before stopped:
    began each with the first, many small classes would make the first folds the largest.

    Returns:
        int64 (splits, classes).
    """
    largest = [index for index, share in enumerate(shares) if share > max(shares) - 1e-9]
    targets = np.array([[max(1, round(share * count)) for count in counts] for share in shares])
    given = 0  # to the largest in turn; what a class lacks is taken back from those that were given last
    for column, left in enumerate((np.array(counts) - targets.sum(axis=0)).tolist()):
        for turn in range(given, given + left) if left > 0 else range(given + left, given):
            targets[largest[turn % len(largest)], column] += 1 if left > 0 else -1
        given += left
    return targets


def _place(sizes: np.ndarray, order: np.ndarray, targets: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The split of each group: where the squared deviation from the targets, relative to the class, shrinks most."""
    num_splits = len(targets)
    wanted = targets - held  # (splits, classes): still missing
    weights = 1 / (sizes.sum(axis=0) + held.sum(axis=0))
    has_class = held > 0
    groups_left = np.count_nonzero(sizes, axis=0)
    places = np.zeros(len(sizes), dtype=np.int64)
    for group in order:
        held = np.flatnonzero(sizes[group])
        urgent = held[groups_left[held] <= num_splits - has_class[:, held].sum(axis=0)]
        urgency = (~has_class[:, urgent]).sum(axis=1)
        gain = wanted[:, held] @ (sizes[group, held] * weights[held])
        place = np.argmax(np.where(urgency == urgency.max(), gain, -np.inf))
        places[group] = place
        wanted[place, held] -= sizes[group, held]
        has_class[place, held] = True
        groups_left[held] -= 1
    return places
