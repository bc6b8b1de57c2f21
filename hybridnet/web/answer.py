"""From the bytes of an upload to what the page shows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hybridnet.data.image import open_rgb, shrunk
from hybridnet.errors import InputError
from hybridnet.inference.explanation import SHOWN_SIDE, explain
from hybridnet.inference.trained import TrainedModel
from hybridnet.web import panels

MOST_CLASSES = 10


def answer(model: TrainedModel, upload: bytes, *, with_maps: bool) -> dict[str, Any]:
    """What a model says to a picture, in float32.

    Args:
        model: it is asked on the device where it is; by one thread at a time, as matplotlib's colours are used too.
        upload: content of a file.
        with_maps: whether the explanation is computed too.

    Returns:
        In plain types: `label`, `probability`; `classes`, the most probable ones with their probabilities;
        `num_others` and `others`, the number of the other classes and their probability; `panels` and `caveat`.

    Raises:
        InputError: if it is no picture.
    """
    with _stored(upload) as file:
        if with_maps:
            explained = explain(model, file, true_label=None)
            prediction = explained.prediction
            shown, caveat = panels.of_explanation(explained), panels.caveat(explained)
        else:
            (prediction,) = model.predict(file, precision="float32")
            picture = np.asarray(shrunk(open_rgb(file, short_side=SHOWN_SIDE), short_side=SHOWN_SIDE))
            shown, caveat = [panels.of_picture(picture, model.preprocessing.box(picture))], ""
    ranked = list(prediction.probabilities.items())
    return {
        "label": prediction.label,
        "probability": prediction.probability,
        "classes": ranked[:MOST_CLASSES],
        "num_others": len(ranked[MOST_CLASSES:]),
        "others": sum(probability for _, probability in ranked[MOST_CLASSES:]),
        "panels": [panel._replace(scale=panel.scale and panel.scale._asdict())._asdict() for panel in shown],
        "caveat": caveat,
    }


def why_unexplained(model: TrainedModel) -> str:
    """Why this model's answers cannot be explained, or an empty string; also makes the first real answer faster."""
    try:
        explain(model, np.full((64, 64, 3), 128, np.uint8), true_label=None)
    except InputError as error:
        return error.faults[0].cause
    return ""


@contextmanager
def _stored(upload: bytes) -> Iterator[Path]:
    """A file that only this user can read, and that is gone afterwards."""
    descriptor, name = tempfile.mkstemp(prefix="hybridnet-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(upload)
        yield Path(name)
    finally:
        Path(name).unlink()
