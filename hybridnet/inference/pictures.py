"""Pictures to try a trained model on: those it was validated on, those that the user names, or random ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hybridnet.data.image import read_header
from hybridnet.data.listing import list_pictures
from hybridnet.data.table import Split, choose
from hybridnet.errors import Fault, InputError
from hybridnet.inference.labelled import read_labelled
from hybridnet.inference.runs import RunSettings
from hybridnet.wording import number_of

SEED = 0  # of which pictures are taken where there are more than asked for
PATCHES = 8  # on each side of a random picture


class Pictures(NamedTuple):
    """Some pictures.

    Attributes:
        items: files, or arrays uint8 (H, W, 3).
        words: what they are, for people.
        labels: int64 (N,), class indices, where they are known.
        calibration: those that show what to expect: training pictures, where they are known.
        calibration_words: what these are.
    """

    items: Sequence[Path | np.ndarray]
    words: str
    labels: np.ndarray | None = None
    calibration: Sequence[Path | np.ndarray] = ()
    calibration_words: str = "of them"


def validation_pictures(settings: RunSettings, classes: Sequence[str], *, limit: int | None) -> Pictures:
    """Those of the table that a run was trained with, if it can still be found.

    Args:
        settings: of the run.
        classes: of the model, in the order of the logits.
        limit: take at most so many, every class keeping its share.

    Raises:
        InputError: if the table is not there or cannot be used, or none of its validation pictures is there.
    """
    table, split = read_labelled(settings, classes, split="valid", metadata=None, fold=None)
    valid = _there(split)
    if not len(valid):
        cause = f"none of its {len(split)} validation pictures is where the table says"
        raise InputError(Fault("missing pictures", f"data.metadata={table}", cause))
    valid = choose(valid, limit, seed=SEED)
    words = f"{number_of(len(valid), 'validation picture')} of {table}"
    _, train = read_labelled(settings, classes, split="train", metadata=None, fold=None)
    if training := _there(train).files:
        return Pictures(valid.files, words, valid.labels, training, "training pictures")
    return Pictures(valid.files, words, valid.labels, valid.files)


def named_pictures(images: str | Sequence[str], *, limit: int | None) -> Pictures:
    """The pictures among the files of `list_pictures`; what is no picture is left out.

    Args:
        images: one name, or several.
        limit: take at most so many.

    Raises:
        InputError: if there is none.
    """
    names = [images] if isinstance(images, str) else list(images)
    files = list_pictures(names)
    found = pictures = [file for file in files if _is_picture(file)]
    if not found:
        cause = f"none of {len(files)} files is a picture"
        hint = "images=<file, folder, or pattern in quotes>, of JPEG, PNG, WebP, BMP or TIFF"
        raise InputError(Fault("no picture", f"images={', '.join(names)}", cause, hint))
    if limit is not None and limit < len(found):
        found = [found[place] for place in np.linspace(0, len(found) - 1, limit).round().astype(int)]
    words = f"{number_of(len(found), 'picture')} of images={', '.join(names)}"
    if junk := len(files) - len(pictures):
        words += f" ({number_of(junk, 'file')} left out: no picture)"
    return Pictures(found, words, calibration=found)


def random_pictures(image_size: tuple[int, int], number: int) -> Pictures:
    """Patches of random colours, the same every time; as good as photos to find out if two programs compute the same.

    Args:
        image_size: height and width.
        number: of pictures.
    """
    height, width = image_size
    pixels = np.random.default_rng(SEED).integers(0, 256, (number, PATCHES, PATCHES, 3), dtype=np.uint8)
    items = [
        np.asarray(Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)) for patches in pixels
    ]
    return Pictures(items, f"{number} random pictures")


def _there(split: Split) -> Split:
    return split.take(np.flatnonzero([file.is_file() for file in split.files]))


def _is_picture(file: Path) -> bool:
    try:
        read_header(file)
    except InputError:
        return False
    return True
