"""One model, or several that answer together: an ensemble, whose probabilities are the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybridnet.data.progress import Track
from hybridnet.errors import Fault, InputError
from hybridnet.inference.predictor import Answers, Predictor, Tta, together
from hybridnet.inference.runs import RunSettings, folders_of
from hybridnet.inference.trained import TrainedModel, load_trained


class Member(NamedTuple):
    """A model that answers, alone or with others."""

    model: TrainedModel
    settings: RunSettings


def load_members(run: str | Sequence[str] | None, *, extra_targets: Sequence[str]) -> list[Member]:
    """The models of the runs that were named, one or several.

    Raises:
        InputError: if there is none, one cannot be used, or they have different classes.
    """
    folders = folders_of(run)
    members = [Member(load_trained(folder, extra_targets=extra_targets), RunSettings(folder)) for folder in folders]
    first = members[0].model.classes
    for folder, member in zip(folders, members, strict=True):
        if member.model.classes != first:
            cause = f"its classes are {', '.join(member.model.classes)}; those of {folders[0]} are {', '.join(first)}"
            raise InputError(Fault("other classes", str(folder), cause, "name runs of the same classes"))
    return members


def make_predictors(
    members: Sequence[Member], *, device: str, precision: str | None, batch_size: int | None, tta: Tta
) -> list[Predictor]:
    """What applies each model.

    Args:
        members: the models.
        device: of all.
        precision: null for that of each one's training.
        batch_size: null for that of each one's training.
        tta: see Predictor.

    Raises:
        InputError: if this machine has no such device or precision.
    """
    try:
        return [
            Predictor(
                model.network,
                model.preprocessing,
                device=device,
                precision=precision or settings.get("trainer.precision") or "auto",
                batch_size=batch_size or settings.get("data.batch_size") or 32,
                channels_last=settings.get("trainer.channels_last") is not False,
                tta=tta,
            )
            for model, settings in members
        ]
    except ValueError as error:
        raise InputError(Fault("wrong value", "trainer", str(error))) from error


def answers_of(predictors: Sequence[Predictor], pictures: Sequence[Path], *, track: Track) -> Answers:
    """What the models say together to the pictures that every one of them can see.

    The logits are those of the only model, or the logarithm of the mean probabilities.
    """
    answers = [predictor.answers(pictures, track=track) for predictor in predictors]
    causes = {index: cause for answer in answers for index, cause in answer.causes.items()}
    used = np.array([index for index in answers[0].indices.tolist() if index not in causes], dtype=np.int64)
    logits = [answer.logits[np.isin(answer.indices, used)] for answer in answers]
    return Answers(together(logits), used, causes)
