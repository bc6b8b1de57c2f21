"""The splits that root's folders are already (`list_folder`): what stays of them, and what is still to be drawn."""

from __future__ import annotations

from collections.abc import Sequence

from hybridnet.data.pictures import Picture
from hybridnet.data.table import SPLITS
from hybridnet.errors import Fault, InputError
from hybridnet.wording import listing


def kept_splits(pictures: Sequence[Picture], *, test: float, folds: int) -> list[str]:
    """The split of each picture that stays; "" for those that training, or folds, may draw from.

    Args:
        pictures: of which label and split are used.
        test, folds: see `Division`.

    Raises:
        InputError: if a test split is wanted where root has one, or a class has no picture for training.
    """
    if test and any(picture.split == "test" for picture in pictures):
        cause = "root has a folder of the test split, which is kept"
        raise InputError(Fault("wrong value", f"test={test}", cause, "test=0"))
    kept = ("test",) if folds else ("valid", "test")
    given = [picture.split if picture.split in kept else "" for picture in pictures]
    trained = {picture.label for picture, split in zip(pictures, given, strict=True) if not split}
    if lost := sorted({picture.label for picture in pictures} - trained):
        cause, hint = "root's folders have none of its pictures for training", "move some there, or leave the class out"
        raise InputError(*(Fault("too few pictures", f"class '{label}'", cause, hint) for label in lost))
    return given


def require_whole_groups(
    user_groups: Sequence[str | None], splits: Sequence[str], *, groups: str | None, source: str
) -> None:
    """Raises InputError if a group of the user's, which no split divides, is in two of the splits that are kept.

    Args:
        user_groups: of each picture, None where it has none.
        splits: of each picture.
        groups: the user's option.
        source: what the splits are from.
    """
    found: dict[str, set[str]] = {}
    for group, split in zip(user_groups, splits, strict=True):
        if group is not None:
            found.setdefault(group, set()).add(split)
    if divided := [f"{group!r} in {', '.join(sorted(names))}" for group, names in found.items() if len(names) > 1]:
        cause = f"groups divided by {source}: {listing(divided)}"
        hint = "move each group into one of the splits, or leave groups out"
        raise InputError(Fault("groups in two splits", f"groups={groups}", cause, hint))


def describe(pictures: Sequence[Picture], given: Sequence[str], *, valid: float, test: float, folds: int) -> str:
    """What became of root's own splits; "" where it has none.

    Args:
        pictures: of which the split is used.
        given: see `kept_splits`.
        valid, test, folds: see `Division`.
    """
    own = [split for split in SPLITS if any(picture.split == split for picture in pictures)]
    if not own:
        return ""
    wanted = {"test": test} if folds else {"valid": valid, "test": test}
    drawn = [split for split, share in wanted.items() if share and split not in own]
    kept = [split for split in own if split in given or not (drawn or folds)]
    rest = ", ".join(split for split in own if split not in kept)
    told = [f"kept: {', '.join(kept)}"] if kept else []
    told += [f"drawn from {rest}: {', '.join(drawn)}"] if drawn else []
    told += [f"divided into folds: {rest}"] if folds else []
    return f"root's folders are splits; {'; '.join(told)}"
