"""Image data from the user's CSV + JSON pair: what is read, in which order, and how it is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hybridnet.data import table
from hybridnet.data.augment import Augment, centre_box
from hybridnet.data.batch import Batch, Normalize
from hybridnet.data.image import open_rgb
from hybridnet.data.loader import Loader, Request, Samples, collate
from hybridnet.data.table import Split
from hybridnet.settings import Count, Natural, Positive, Probability, Range, checked

Size = tuple[int, int]  # height, width
ORDER, CHANGES = 0, 1  # of the random streams: without them picture 0's changes would repeat the order's bits
_IDENTITY = np.eye(3, 4, dtype=np.float32)


class MetadataImages:
    """Batches of the pictures that a `metadata.csv` lists.

    The order of the samples and every random change are a pure function of (seed, epoch, index).

    Args:
        metadata: table with the columns path, label, split (train, valid or test).
        label2id: JSON object from label to class index.
        image_size: of the model's input in pixels: one number, or [height, width].
        center_crop: share of the picture, along the side that limits it, that evaluation looks at.
        mean, std: of each colour channel in [0, 1], for normalisation; the defaults in the yaml are ImageNet's.
        batch_size: pictures per step.
        num_workers: `auto` for threads of this process, 0 for none, else the number of worker processes.
        pin_memory: page-locked memory for batches, which only a GPU has a use for; `auto` is on where there is one.
        train_limit, valid_limit: use at most so many samples, every class keeping its share; null for all.
        augment: random changes of the training pictures.
        seed: of the order, the limits and the random changes.

    The constructor reads nothing: `setup` does.

    Raises:
        ValueError: if a setting is out of range.
    """

    @checked
    def __init__(
        self,
        *,
        metadata: str,
        label2id: str,
        image_size: Count | tuple[Count, Count],
        center_crop: Annotated[float, Range(above=0, maximum=1)],
        mean: tuple[Probability, Probability, Probability],
        std: tuple[Positive, Positive, Positive],
        batch_size: Count,
        num_workers: Natural | Literal["auto"],
        pin_memory: bool | Literal["auto"],
        train_limit: Count | None,
        valid_limit: Count | None,
        augment: Augment,
        seed: Natural,
    ) -> None:
        self.metadata, self.label2id_file = Path(metadata), Path(label2id)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size: Size = (height, width)
        self.center_crop = center_crop
        self.mean, self.std = tuple(mean), tuple(std)
        self.normalize = Normalize(self.mean, self.std)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.pin_memory = bool(pin_memory) and torch.cuda.is_available()
        self.train_limit, self.valid_limit = train_limit, valid_limit
        self.augment = augment
        self.seed = seed

    def setup(self) -> None:
        """Read the table, look at every picture's header, and make the loaders.

        Raises:
            InputError: if the table, the labels or a picture cannot be used; nothing was trained yet.
        """
        table.require_file(self.metadata, "data.metadata")
        self.label2id = table.read_label2id(self.label2id_file)
        splits = table.read_metadata(self.metadata, self.label2id)
        self.train = table.choose(splits["train"], self.train_limit, seed=self.seed)
        self.valid = table.choose(splits["valid"], self.valid_limit, seed=self.seed)
        table.check_files([self.train, self.valid], where=f"data.metadata={self.metadata}")
        self._train_loader = self._loader(self.train, self.augment)
        self._valid_loader = self._loader(self.valid, None)

    @property
    def classes(self) -> list[str]:
        """The labels in the order of their class indices."""
        return list(self.label2id)

    @property
    def steps_per_epoch(self) -> int:
        """Number of training batches."""
        return -(-len(self._train_order(0)) // self.batch_size)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The training batches of an epoch, shuffled and augmented."""
        return self._train_loader.epoch(epoch, self._train_order(epoch))

    def first_train_batch(self) -> Batch:
        """The first batch of the first epoch."""
        order = self._train_order(1)[: self.batch_size]
        return self._train_loader.samples.__getitems__([(1, int(index)) for index in order])

    def valid_batches(self) -> Iterator[Batch]:
        """The validation batches, in the order of the table, every picture exactly once."""
        return self._valid_loader.epoch(0, np.arange(len(self.valid)))

    def to_input(self, batch: Batch, dtype: torch.dtype) -> Tensor:
        """The model's input, (B, 3, H, W) in `dtype`, on the batch's device."""
        return self.normalize(batch, dtype)

    def preprocessing(self) -> dict[str, list[float] | float]:
        """What a user of the model must do to a picture, in plain types."""
        return {
            "image_size": list(self.image_size),
            "center_crop": self.center_crop,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def _train_order(self, epoch: int) -> np.ndarray:
        order = np.random.default_rng([ORDER, self.seed, epoch]).permutation(len(self.train))
        # BatchNorm cannot normalise one value: a picture that is left over alone waits for another epoch.
        left_over_alone = self.batch_size > 1 and len(order) > 1 and len(order) % self.batch_size == 1
        return order[:-1] if left_over_alone else order

    def _loader(self, split: Split, augment: Augment | None) -> Loader:
        samples = ImageSamples(split, self.image_size, center_crop=self.center_crop, augment=augment, seed=self.seed)
        return Loader(samples, batch_size=self.batch_size, num_workers=self.num_workers, pin_memory=self.pin_memory)


class ImageSamples(Samples):
    """Decodes, crops and flips the pictures of one split.

    Args:
        split: the pictures.
        image_size: (height, width) of the result.
        center_crop: see MetadataImages.
        augment: random changes, or None for the centred crop of evaluation.
        seed: of the random changes.
    """

    def __init__(
        self, split: Split, image_size: Size, *, center_crop: float, augment: Augment | None, seed: int
    ) -> None:
        self.split = split
        self.image_size = image_size
        self.center_crop = center_crop
        self.augment = augment
        self.seed = seed
        self.short_side = round(max(image_size) / center_crop)

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        return collate(self._sample, requests)

    def _sample(self, request: Request) -> tuple[np.ndarray, np.ndarray, int]:
        epoch, index = request
        image = open_rgb(self.split.files[index], short_side=self.short_side)
        pixels, colour = self._changed(image, epoch, index)
        return pixels, colour, int(self.split.labels[index])

    def _changed(self, image: Image.Image, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        height, width = self.image_size
        if self.augment is None:
            box = centre_box(image.size, aspect=width / height, share=self.center_crop)
            return self._resized(image, box), _IDENTITY
        rng = np.random.default_rng([CHANGES, self.seed, epoch, index])
        pixels = self._resized(image, self.augment.draw_crop(rng, image.size, aspect=width / height))
        horizontal, vertical = self.augment.draw_flips(rng)
        pixels = pixels[:: -1 if vertical else 1, :: -1 if horizontal else 1]
        return pixels, self.augment.draw_colour(rng)

    def _resized(self, image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
        height, width = self.image_size
        # float32 rounding may push a box a hair past the edge, which Pillow refuses.
        left, top, right, bottom = box
        inside = (max(left, 0.0), max(top, 0.0), min(right, image.width), min(bottom, image.height))
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=inside))
