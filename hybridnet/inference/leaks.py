"""Pictures to judge a model on that it was trained with: the same ones, or copies of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from hybridnet.data.decoded import Reduction
from hybridnet.data.digests import content_digests
from hybridnet.data.progress import Track
from hybridnet.data.store import Store, memory_of, open_store
from hybridnet.errors import Fault, InputError
from hybridnet.inference.labelled import is_of_training, own_files, read_labelled, used
from hybridnet.inference.runs import RunSettings, digests_of
from hybridnet.wording import number_of

log = logging.getLogger(__name__)


class Leaks(NamedTuple):
    """What was found.

    Attributes:
        copies: by place among the judged pictures, the training picture that it is a copy of, as its table names it;
            where that is not there any more, the judged one. None where nothing could be compared.
        num_train: training pictures of different content that were there to compare with as pictures.
        obstacle: why not all training pictures could be compared so, or "".
        num_validated: judged pictures by which the best epoch was chosen.
    """

    copies: dict[int, str] | None
    num_train: int
    obstacle: str = ""
    num_validated: int = 0


class _Training(NamedTuple):
    """The training pictures that are there: the table that has them, their paths in it, and their files."""

    table: Path
    paths: Sequence[str]
    files: Sequence[str]


def find_leaks(
    settings: RunSettings, files: Sequence[Path], classes: Sequence[str], reduction: Reduction, *, track: Track
) -> Leaks:
    """Compare pictures with those that a run was trained with.

    Copies are what training takes for copies: the same bytes, encoded anew, scaled, rotated by a multiple of 90°, or
    mirrored. The same bytes are always found, for a run knows its pictures by their content; the others where the
    training pictures are still in the run's table, however that is divided now. What is found out about the files is
    remembered in the cache folder of the run's store.

    Args:
        settings: of the run.
        files: the pictures.
        classes: the run's labels.
        reduction: of the run's preprocessing.
        track: see `Predictor.answers`.
    """
    known = settings.digests("train", "backbone")
    train = _by_table(settings, classes) if known is None else _by_content(settings, known)
    if isinstance(train, str):
        return Leaks(None, 0, train)
    cache_dir = settings.cache_dir()
    copies, there = {}, {}
    if train.files:
        all_files = [*train.files, *files]
        store = open_store(all_files, reduction, cache_dir=cache_dir, table=train.table, keep_pixels=False, track=track)
        copies, there = _copies(store, train.paths, len(files))
    if known is None:
        return Leaks(copies, len(there))
    digests = content_digests(files, memory=memory_of(train.table, cache_dir=cache_dir))
    copies |= {i: there.get(digest, str(files[i])) for i, digest in enumerate(digests) if digest in known}
    own, validated = (settings.digests(split) or frozenset() for split in ("train", "valid"))
    gone = len(own - there.keys())
    only = f"{gone:,} of the {len(own):,} training pictures are not there, and were compared by content alone"
    return Leaks(copies, len(there), only if gone else "", sum(digest in validated for digest in digests))


def require_unseen(valid: Sequence[str], weights: str, *, on_leak: Literal["error", "skip", "keep"]) -> frozenset[str]:
    """Refuse validation pictures that the run was trained with from which a backbone's first weights are.

    Args:
        valid: digests of the validation pictures' contents.
        weights: file or run folder that they are from.
        on_leak: `error`, or anything else to be warned.

    Returns:
        Digests of all that was trained with there, and before it; none where that is not known.

    Raises:
        InputError: if there are such pictures and on_leak is `error`.
    """
    folder = Path(weights) if Path(weights).is_dir() else Path(weights).parent
    before = digests_of(folder, "train", "backbone") or frozenset()
    if num_seen := sum(digest in before for digest in valid):
        cause = f"the backbone was trained with {num_seen:,} of the {number_of(len(valid), 'validation picture')}"
        if on_leak == "error":
            hint = (
                "take the run of the same split or fold, or data.on_leak=keep: the accuracy is then too good to be true"
            )
            raise InputError(Fault("validation pictures in training", f"model.backbone.weights={weights}", cause, hint))
        log.warning(f"{cause}: the accuracy is too good to be true")
    return before


def _by_table(settings: RunSettings, classes: Sequence[str]) -> _Training | str:
    """Of a run that has not noted its pictures, as former versions did not: what its table says, if it is as it was."""
    try:
        table, train = read_labelled(settings, classes, split="train", metadata=None, fold=None)
    except InputError:
        return "the training pictures are not there"
    if is_of_training(settings, train, "train", classes, table=table) is False:
        return "the table has other training pictures now"
    train = used(settings, train, "train")
    return _Training(table, train.paths, train.file_names)


def _by_content(settings: RunSettings, known: frozenset[str]) -> _Training:
    try:
        table, files = own_files(settings)
    except InputError:
        return _Training(settings.folder, [], [])
    digests = content_digests(list(files.values()), memory=memory_of(table, cache_dir=settings.cache_dir()))
    found = [path for path, digest in zip(files, digests, strict=True) if digest in known]
    return _Training(table, found, [files[path] for path in found])


def _copies(store: Store, paths: Sequence[str], num_judged: int) -> tuple[dict[int, str], dict[str, str]]:
    """The copies among the judged pictures, which the store has behind the others, and the usable others by content."""
    usable = [i for i in range(len(paths)) if not store.cause(i)]
    trained = {store.group(i): paths[i] for i in usable}
    first = len(paths)
    judged = {i: store.group(first + i) for i in range(num_judged) if not store.cause(first + i)}
    copies = {i: trained[group] for i, group in judged.items() if group in trained}
    return copies, {store.content_digest(i): paths[i] for i in usable}
