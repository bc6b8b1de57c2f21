"""How pictures are divided into splits and folds: the user's wishes, and what is drawn by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from hybridnet.data.extension import Place
from hybridnet.data.split import split_groups
from hybridnet.errors import Fault, InputError


class Division(NamedTuple):
    """How pictures are divided.

    Attributes:
        valid: share of each class for validation; not used with folds, nor where root has a folder for it.
        test: share of each class for a test split; 0 where root has a folder for it.
        folds: how many equal parts what is not for testing is divided into; 0 for none. Fold 0 has the split 'valid'.
        groups: the user's groups, which no split divides: see `read_groups`.
        copies: which pictures count as copies: `similar` ones (see `find_copies`), or the `same` file or pixels only.
        on_duplicates: 'drop' leaves out all but the largest of the copies of a picture, and all of them where their
            labels differ.
        seed: of the split.
    """

    valid: float
    test: float
    folds: int
    groups: str | None
    copies: Literal["similar", "same"]
    on_duplicates: Literal["keep", "drop"]
    seed: int

    def check(self) -> None:
        """Raises InputError if a split would be empty."""
        if self.folds == 1:
            cause = "one fold leaves nothing to train on"
            raise InputError(Fault("wrong value", "folds=1", cause, "folds=5, or 0 for none"))
        if not self.folds and (self.valid <= 0 or self.valid + self.test >= 1):
            cause = f"valid={self.valid} and test={self.test} must leave something for training, and valid must be > 0"
            raise InputError(Fault("wrong value", "valid, test", cause, "for instance valid=0.2 test=0.1"))


def divide(
    labels: Sequence[str],
    groups: Sequence[int],
    division: Division,
    *,
    given: Sequence[str],
    stays: Sequence[Place | None],
) -> tuple[list[str], list[str]]:
    """The split and the fold of every picture; the fold is empty without folds and for testing.

    Args:
        labels, groups: of every picture.
        division: the shares, or the number of folds.
        given: its split in root's own division, see `kept_splits`; those splits get no others.
        stays: its place in an earlier table.

    Raises:
        InputError: if a class has fewer groups than splits, or groups of several classes leave no way to divide them.
    """
    valid, test, folds = division.valid, division.test, division.folds
    # With folds only testing is drawn first; what is left is divided into them.
    rest = "not test" if folds else "train"
    wanted = {"test": test} if folds else {"valid": valid, "test": test}
    drawn = {name: share for name, share in wanted.items() if share and name not in given}
    earlier = [None if place is None else rest if place.fold else place.split for place in stays]
    known = [split or before for split, before in zip(given, earlier, strict=True)]
    shares = {rest: 1 - sum(drawn.values()), **drawn}
    splits = _drawn(known, shares, labels, groups, seed=division.seed)
    if not folds:
        return splits, [""] * len(labels)
    known = [
        "" if split == "test" else None if place is None else place.fold
        for split, place in zip(splits, stays, strict=True)
    ]
    fold_of = _drawn(known, {str(fold): 1 / folds for fold in range(folds)}, labels, groups, seed=division.seed)
    return [{"": "test", "0": "valid"}.get(fold, "train") for fold in fold_of], fold_of


def _drawn(
    known: Sequence[str | None],
    shares: Mapping[str, float],
    labels: Sequence[str],
    groups: Sequence[int],
    *,
    seed: int,
) -> list[str]:
    """The place of every picture: the known one, or one that is drawn so that each of `shares` comes to its share.

    What is known to be in another place does not count for the shares.
    """
    chosen = [index for index, place in enumerate(known) if place is None or place in shares]
    its_labels, its_groups, placed = ([values[index] for index in chosen] for values in (labels, groups, known))
    found = split_groups(its_labels, its_groups, shares, seed=seed, placed=placed)
    drawn = dict(zip(chosen, found, strict=True))
    return [drawn.get(index, place) for index, place in enumerate(known)]
