"""Pictures to judge a model on that it was trained with: the same ones, or copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hybridnet.data.decoded import Reduction
from hybridnet.data.progress import Track
from hybridnet.data.store import open_store
from hybridnet.errors import InputError
from hybridnet.inference.labelled import is_of_training, read_labelled, used
from hybridnet.inference.runs import RunSettings


class Leaks(NamedTuple):
    """What was found.

    Attributes:
        copies: by place among the judged pictures, the training picture that it is a copy of, as its table names it.
        num_train: training pictures that were there to compare with; 0 where nothing could be compared.
        obstacle: why nothing could be compared, or "".
    """

    copies: dict[int, str]
    num_train: int
    obstacle: str = ""


def find_leaks(
    settings: RunSettings, files: Sequence[Path], classes: Sequence[str], reduction: Reduction, *, track: Track
) -> Leaks:
    """Compare pictures with those that a run was trained with, where these are still there.

    Copies are what training takes for copies: the same bytes, encoded anew, scaled, rotated by a multiple of 90°, or
    mirrored. What is found out about the files is remembered in the cache folder of the run's store.

    Args:
        settings: of the run.
        files: the pictures.
        classes: the run's labels.
        reduction: of the run's preprocessing.
        track: see `Predictor.answers`.
    """
    try:
        table, train = read_labelled(settings, classes, split="train", metadata=None, fold=None)
    except InputError:
        return Leaks({}, 0, "the training pictures are not there")
    if is_of_training(settings, train, "train", classes, table=table) is False:
        return Leaks({}, 0, "the table has other training pictures now")
    train = used(settings, train, "train")
    store = open_store(
        [*train.file_names, *files],
        reduction,
        cache_dir=settings.cache_dir(),
        table=table,
        keep_pixels=False,
        track=track,
    )
    trained = {store.group(i): train.paths[i] for i in range(len(train)) if not store.cause(i)}
    num_usable = sum(not store.cause(i) for i in range(len(train)))
    first = len(train)
    judged = {i: store.group(first + i) for i in range(len(files)) if not store.cause(first + i)}
    return Leaks({i: trained[group] for i, group in judged.items() if group in trained}, num_usable)
