"""Image data from the user's CSV + JSON pair: what is read, in which order, and how it is changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from hybridnet.data import table
from hybridnet.data.augment import Augment
from hybridnet.data.batch import Batch, model_input
from hybridnet.data.digests import fingerprint
from hybridnet.data.labels import read_label2id
from hybridnet.data.loaders import make_loaders
from hybridnet.data.order import Order
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.data.progress import Track, silently
from hybridnet.data.resident import keep_pictures
from hybridnet.data.rows import PREPARE, require_file
from hybridnet.data.selection import select
from hybridnet.data.shard import Shard
from hybridnet.data.sizes import Sizes, height_and_width
from hybridnet.data.source import Source, ensure, is_made
from hybridnet.data.store import open_store, user_cache
from hybridnet.errors import Fault, InputError, collected
from hybridnet.settings import Count, Natural, Positive, Probability, Range, Seed, checked
from hybridnet.wording import listing

log = logging.getLogger(__name__)

CPU = torch.device("cpu")


class MetadataImages:
    """Batches of the pictures that a `metadata.csv` lists.

    The order of the samples and every random change are a pure function of (seed, epoch, index).

    Args:
        source: makes the two files that follow at first use; null where the user has made them.
        metadata: table with the columns path, label, split (train, valid or test).
        label2id: JSON object from label to class index.
        fold: with a number, rows whose column `fold` has it are for validation and those of other folds for training;
            null for the column `split`.
        image_size: of the model's input in pixels: one number, or [height, width].
        progressive: sizes of the training pictures in the first epochs, each as image_size and at most that, see
            Sizes; the store is the same.
        num_epochs: of the training, which `progressive` divides.
        center_crop: share of the picture, along the side that limits it, that evaluation looks at.
        mean, std: of each colour channel in [0, 1], for normalisation; the defaults in the yaml are ImageNet's.
        batch_size: pictures per step; validation on a GPU looks at up to four times as many at once.
        num_workers: `auto` for the threads that are fastest here, 0 for none, else the number of worker processes.
        pin_memory: page-locked memory for batches, which only a GPU has a use for; `auto` is on where there is one.
        train_limit, valid_limit: use at most so many samples, every class keeping its share; null for all.
        on_bad_image: what to do about pictures that cannot be decoded: `error` or `skip`.
        on_leak: what to do about training pictures that are copies of validation pictures (the same bytes, encoded
            anew, scaled, rotated by a multiple of 90°, or mirrored): `error`; `skip`, which does not train on them; or
            `keep`.
        cache: `store` keeps every picture decoded; `none` decodes it each time.
        cache_dir: folder of the stores and of what is known about the files; null for the user's cache folder.
        resident: keep the pictures in the training device's memory and cut them there; `auto` on a GPU with room, if
            they are in a store.
        sampler: `shuffle`, every picture once in an epoch, or `balanced`, every class equally often.
        class_weights: of the loss: `none`, or `balanced`, in inverse proportion to the number of training pictures;
            not with a balanced sampler, which has made up for the numbers already.
        augment: random changes of the training pictures.
        seed: of the order, the choice of train_limit and the random changes; that of valid_limit is always the same.

    Attributes:
        edition: "" where the table lies where `metadata` says, else its path from that folder: of a source that keeps
            several.

    The constructor reads nothing: `setup` does.

    Raises:
        ValueError: if a setting is out of range, or two of them contradict each other.
    """

    @checked
    def __init__(
        self,
        *,
        source: Source | None,
        metadata: str,
        label2id: str,
        fold: Natural | None,
        image_size: Count | tuple[Count, Count],
        progressive: Sequence[Count | tuple[Count, Count]],
        num_epochs: Count,
        center_crop: Annotated[float, Range(above=0, maximum=1)],
        mean: tuple[Probability, Probability, Probability],
        std: tuple[Positive, Positive, Positive],
        batch_size: Count,
        num_workers: Natural | Literal["auto"],
        pin_memory: bool | Literal["auto"],
        train_limit: Count | None,
        valid_limit: Count | None,
        on_bad_image: Literal["error", "skip"],
        on_leak: Literal["error", "skip", "keep"],
        cache: Literal["store", "none"],
        cache_dir: str | None,
        resident: bool | Literal["auto"],
        sampler: Literal["shuffle", "balanced"],
        class_weights: Literal["none", "balanced"],
        augment: Augment,
        seed: Seed,
    ) -> None:
        if sampler == class_weights == "balanced":
            raise ValueError(
                "sampler and class_weights (both 'balanced') would make up for rare classes twice; set "
                "data.class_weights=none or data.sampler=shuffle"
            )
        self.source = source
        self.metadata, self.label2id_file = Path(metadata), Path(label2id)
        self.edition = ""
        self.fold = fold
        self.image_size = height_and_width(image_size)
        self.sizes = Sizes(self.image_size, early=[*map(height_and_width, progressive)], num_epochs=num_epochs)
        self.center_crop = center_crop
        self._preprocessing = Preprocessing(image_size=self.image_size, center_crop=center_crop, mean=mean, std=std)
        self.normalize = self._preprocessing.normalize
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.pin_memory = bool(pin_memory) and torch.cuda.is_available()
        self.train_limit, self.valid_limit = train_limit, valid_limit
        self.on_bad_image, self.on_leak = on_bad_image, on_leak
        self.cache, self.cache_dir = cache, Path(cache_dir).expanduser() if cache_dir else user_cache()
        self.resident = resident
        self.sampler, self.class_weights = sampler, class_weights
        self.augment = augment
        self.seed = seed

    def setup(
        self,
        *,
        device: torch.device = CPU,
        track: Track = silently,
        rank: int = 0,
        num_ranks: int = 1,
        edition: str | None = None,
    ) -> None:
        """Read the table, decode every picture once if that was not done before, and make the loaders.

        Args:
            device: that will train.
            track: called with an iterable, a description and a length; shows the progress.
            rank, num_ranks: number of this process, and of those that share the batches.
            edition: of the table that the run that is continued, or the first process, has used; None for the current.

        Raises:
            InputError: if the table, the labels or a picture cannot be used, or validation pictures are trained on;
                nothing was trained yet.
        """
        self._shard = Shard(rank, num_ranks)
        self.read_tables(track=track, edition=edition)
        self.open_pictures(device=device, track=track)
        if self.sizes.early:
            log.info(f"training pictures of {self.sizes}")

    def require_files(self) -> None:
        """Find what is wrong with the table and the labels, or with what they are made from, without a picture.

        Raises:
            InputError: if they are not there, or are not as they must be.
        """
        if self.source and is_made(self.metadata, self.label2id_file):
            return self.source.require_files()
        faults: list[Fault] = []
        for file, option in ((self.metadata, "data.metadata"), (self.label2id_file, "data.label2id")):
            with collected(faults):
                require_file(file, option, hint=f"{PREPARE}; or say where yours is: {option}=<file>")
        if faults:
            raise InputError(*faults)
        return table.require_usable(self.metadata, self.label2id_file, fold=self.fold)

    def read_tables(self, *, track: Track, edition: str | None = None) -> None:
        """Read the labels and the splits."""
        if self.source:
            first = self.metadata
            pair = ensure(self.source, first, self.label2id_file, track=track, edition=edition)
            self.metadata, self.label2id_file = pair
            self.edition = "" if self.metadata == first else self.metadata.relative_to(first.parent).as_posix()
        else:
            self.require_files()
        self.label2id = read_label2id(self.label2id_file)
        if len(self.label2id) == 1:
            log.warning(f"one class only ({self.classes[0]!r}): there is nothing to tell apart")
        splits = table.read_metadata(self.metadata, self.label2id, fold=self.fold)
        self.train = table.choose(splits["train"], self.train_limit, seed=self.seed)
        self.valid = table.choose(splits["valid"], self.valid_limit, seed=table.VALID_SEED)
        self._warn_of_doubtful_rows()

    def _warn_of_doubtful_rows(self) -> None:
        table.warn_of_repeated(self.train, "training")
        table.warn_of_repeated(self.valid, "validation")
        trained = set(self.train.labels.tolist())
        if without := [repr(name) for name, index in self.label2id.items() if index not in trained]:
            names = listing(without, limit=table.FEW)
            log.warning(f"data.train_limit={self.train_limit} leaves no training picture of {names}")

    def open_pictures(self, *, device: torch.device, track: Track) -> None:
        """Open or build the store of both splits, leave out what cannot be used, and make the loaders."""
        store = open_store(
            [*self.train.file_names, *self.valid.file_names],
            self._preprocessing.reduction,
            cache_dir=self.cache_dir,
            table=self.metadata,
            keep_pixels=self.cache == "store",
            track=track,
        )
        selection = select(
            store,
            self.train,
            self.valid,
            table=self.metadata,
            on_bad_image=self.on_bad_image,
            on_leak=self.on_leak,
        )
        self.train, self.valid = selection.train, selection.valid
        self.left_out, self.num_leaked = selection.left_out, selection.num_leaked
        self._digests = selection.digests
        self._order = Order(self.train.labels, sampler=self.sampler, batch_size=self.batch_size, seed=self.seed)
        self._resident = keep_pictures(
            selection.pictures, device=device, wanted=self.resident, are_stored=self.cache == "store"
        )
        self._train_loader, self._valid_loader = make_loaders(
            selection.pictures,
            (self.train.labels, self.valid.labels),
            self.sizes,
            device=device,
            is_resident=self._resident is not None,
            center_crop=self.center_crop,
            augment=self.augment,
            seed=self.seed,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
        )

    @property
    def classes(self) -> list[str]:
        """The labels in the order of their class indices."""
        return list(self.label2id)

    @property
    def steps_per_epoch(self) -> int:
        """Number of training batches."""
        return -(-self._order.num // self.batch_size)

    def train_batches(self, epoch: int, *, first: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch, shuffled and augmented, from batch number `first` on.

        Raises:
            InputError: if a picture can no longer be read.
            TrainingError: if the system refuses memory or files, or a worker process ended.
        """
        return self._train_loader.epoch(epoch, self._order.of(epoch), first, part=self._shard.of_each)

    def first_train_batch(self) -> Batch:
        """The first batch of the first epoch."""
        return self._train_loader.samples.make(self._train_loader.requests(1, self._order.of(1))[0])

    def valid_batches(self) -> Iterator[Batch]:
        """The validation batches, in the order of the table, every picture exactly once."""
        return self._valid_loader.epoch(0, np.arange(len(self.valid)), part=self._shard.of_all)

    def to_input(self, batch: Batch, dtype: torch.dtype) -> Tensor:
        """The model's input, (B, 3, H, W) in `dtype`, on the batch's device, or that of the resident pictures."""
        if batch.images is None:
            batch = batch.to(self._resident.pixels.device)
        images = self._resident.cut(batch.crops) if batch.images is None else batch.images
        return model_input(images, batch, normalize=self.normalize, dtype=dtype)

    def targets(self, batch: Batch) -> Tensor:
        """The share of each class in each picture, float32 (B, num_classes); more than one only where it was mixed."""
        return batch.targets(len(self.label2id))

    def loss_weights(self) -> Tensor:
        """The weight of each class in the loss, float32 (num_classes,); their mean over the training pictures is 1."""
        counts = np.bincount(self.train.labels, minlength=len(self.label2id))
        if self.class_weights == "none":
            return torch.ones(len(counts))
        # A class may have no picture within train_limit: its weight is of no consequence then.
        present = np.count_nonzero(counts)
        return torch.from_numpy(len(self.train) / (present * np.maximum(counts, 1))).float()

    def preprocessing(self) -> dict[str, list[float] | float]:
        """What a user of the model must do to a picture, in plain types."""
        return self._preprocessing.plain()

    def fingerprint(self) -> dict[str, str]:
        """A digest of the rows in use, in their order, of each split: contents of the files and labels, not paths."""
        splits = {"train": self.train, "valid": self.valid}
        digests = self.digests()
        return {name: fingerprint(self.classes, digests[name], split.labels) for name, split in splits.items()}

    def digests(self) -> dict[str, list[str]]:
        """Of the contents of the files in use, in their order, of each split."""
        train, valid = self._digests
        return {"train": train, "valid": valid}
