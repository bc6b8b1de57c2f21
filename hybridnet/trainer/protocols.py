"""What a training asks of its data, of their batches, and of what keeps its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hybridnet.trainer.state import State


class Batch(Protocol):
    """Pictures and labels of one step.

    Attributes:
        labels: of this rank's part.
        num_images: of the batch on all ranks.
    """

    labels: Tensor
    num_images: int

    def __len__(self) -> int: ...
    def to(self, device: torch.device) -> Batch: ...


class Batches(Protocol):
    """Where the batches come from: of training, this rank's part of each; of validation, its share of whole ones."""

    steps_per_epoch: int

    def train_batches(self, epoch: int, *, first: int) -> Iterable[Batch]: ...
    def valid_batches(self) -> Iterable[Batch]: ...
    def to_input(self, batch: Batch, dtype: torch.dtype) -> Tensor: ...
    def targets(self, batch: Batch) -> Tensor: ...
    def loss_weights(self) -> Tensor: ...


class Pictures(Protocol):
    """Those of one split.

    Attributes:
        paths: what `predictions.csv` calls them.
    """

    paths: list[str]

    def __len__(self) -> int: ...


class Normalisation(Protocol):
    """What `to_input` has done to the colours."""

    def undo(self, inputs: Tensor) -> Tensor:
        """Pictures that can be looked at, uint8 (B, H, W, 3), from the model's inputs."""


class Sizes(Protocol):
    """Of the training pictures.

    Attributes:
        early: height and width of those in the first epochs; empty where they always have `image_size`.
    """

    early: Sequence[tuple[int, int]]


class Data(Batches, Protocol):
    """All that `train.py` asks of its data: the contract of somebody's own, which `data._target_` names.

    The constructor gets the settings of its yaml and reads nothing; it raises a ValueError for those that are wrong. A
    method `require_files`, which tells by an InputError what is missing or wrong before a run begins, may be left out.
    What takes the pictures of a run from its table, such as `evaluate` without `data.metadata`, knows `MetadataImages`
    only.

    Attributes:
        image_size: height and width of the model's input; known before `setup`.
        sizes: of the training pictures; known before `setup`.
        classes: the labels in the order of their class indices.
        label2id: class index of each label.
        train, valid: the pictures in use.
        normalize: undone for people.
        left_out: line, path, split and cause of what is not used.
        num_leaked: validation pictures that have copies in training all the same.
        edition: of a table that has several, the one in use; else "".
    """

    image_size: tuple[int, int]
    sizes: Sizes
    classes: list[str]
    label2id: Mapping[str, int]
    train: Pictures
    valid: Pictures
    normalize: Normalisation
    left_out: Sequence[tuple[int, str, str, str]]
    num_leaked: int
    edition: str

    def setup(
        self,
        *,
        device: torch.device,
        track: Callable[[Iterable[Any], str, int], Iterable[Any]],
        rank: int,
        num_ranks: int,
        edition: str | None,
    ) -> None:
        """Read what is needed before the first batch.

        Args:
            device: that will train.
            track: called with an iterable, a description and a length; shows the progress.
            rank, num_ranks: number of this process, and of those that share the batches.
            edition: that the run has used already; None for the current one.
        """

    def fingerprint(self) -> dict[str, str]:
        """For each split a digest of what is in use, in its order; a run is continued only with the same."""

    def digests(self) -> dict[str, list[str]]:
        """For each split, `train` and `valid`, a digest of every picture."""

    def preprocessing(self) -> dict[str, Any]:
        """What a user of the model must do to a picture, in plain types; see `hybridnet.data.preprocessing`."""

    def first_train_batch(self) -> Batch:
        """The first batch of the first epoch, for `samples.png`."""


class CheckpointRecorder(Protocol):
    """Where the checkpoints go."""

    def save(self, state: State, checkpoint: dict[str, Any]) -> None:
        """Called within an epoch, with all that is needed to continue."""

    def epoch(self, state: State, checkpoint: dict[str, Any]) -> None:
        """Called at the end of every epoch, with all that is needed to continue."""


class Recorder(CheckpointRecorder, Protocol):
    """Where the results go: files, a display."""

    def step(self, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Called after every reading of the device, as at the end of an epoch; `step` counts within the epoch."""
