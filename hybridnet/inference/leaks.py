"""Pictures to judge a model on that it was trained with: the same ones, or copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybridnet.data.decoded import Reduction
from hybridnet.data.metadata import user_cache
from hybridnet.data.progress import Track
from hybridnet.data.store import open_store
from hybridnet.errors import InputError
from hybridnet.inference.labelled import read_labelled
from hybridnet.inference.runs import RunSettings


class Leaks(NamedTuple):
    """What was found.

    Attributes:
        copies: by place among the judged pictures, the training picture that it is a copy of, as its table names it.
        num_train: training pictures that were there to compare with; 0 where nothing could be compared.
    """

    copies: dict[int, str]
    num_train: int


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
    except InputError:  # it is gone, or has become another one
        return Leaks({}, 0)
    left_out = settings.lines_left_out("train")
    train = train.take(np.array([i for i in range(len(train)) if train.lines[i] not in left_out], dtype=int))
    folder = settings.get("data.cache_dir")
    store = open_store(
        [*train.file_names, *files],
        reduction,
        cache_dir=Path(folder).expanduser() if folder else user_cache(),
        table=table,
        keep_pixels=False,
        track=track,
    )
    trained = {store.group(i): train.paths[i] for i in range(len(train)) if not store.cause(i)}
    num_usable = sum(not store.cause(i) for i in range(len(train)))
    first = len(train)
    judged = {i: store.group(first + i) for i in range(len(files)) if not store.cause(first + i)}
    return Leaks({i: trained[group] for i, group in judged.items() if group in trained}, num_usable)
