"""What the trainer's tests share: a few random pictures, two small models, and a training of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hybridnet.checkpoint import save_checkpoint
from hybridnet.trainer.average import WeightAverage
from hybridnet.trainer.metrics import Evaluation
from hybridnet.trainer.ranks import ALONE
from hybridnet.trainer.state import State, Training
from hybridnet.trainer.supervised import Trainer

SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "patience": 0,
    "device": "cpu",
    "precision": "float32",
    "channels_last": True,
    "accumulate": 1,
    "oom": "error",
    "clip_norm": math.inf,
    "label_smoothing": 0.0,
    "ema_decay": 0.0,
    "freeze_stages": 1,
    "freeze_epochs": 0,
    "sync_batchnorm": False,
    "compile": "auto",
    "deterministic": False,
    "log_every": 2,
    "checkpoint_minutes": math.inf,
    "monitor": "valid_acc",
    "plot": False,
}


class TinyBatch:
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_images(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> TinyBatch:
        return type(self)(self.images.to(device), self.labels.to(device))

    layout = None

    @property
    def tensors(self) -> list[Tensor]:
        return [self.images, self.labels]

    def with_tensors(self, tensors: Sequence[Tensor]) -> TinyBatch:
        return type(self)(*tensors)


class TinyData:
    """23 random pictures of 3 classes in batches of 5: the last batch has 3.

    With `own_share` below 1, the rest of every target is the next class's.
    """

    steps_per_epoch = 5

    def __init__(
        self, *, scale: float = 1.0, class_weights: Sequence[float] = (1.0, 1.0, 1.0), own_share: float = 1.0
    ) -> None:
        self.class_weights, self.own_share = class_weights, own_share
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(23, 3, 8, 10, generator=generator) * scale
        self.labels = torch.randint(3, (23,), generator=generator)

    def order(self, epoch: int) -> Tensor:
        return torch.randperm(23, generator=torch.Generator().manual_seed(epoch))

    def batch(self, indices: Tensor | slice) -> TinyBatch:
        return TinyBatch(self.images[indices], self.labels[indices])

    def train_batches(self, epoch: int, *, first: int = 0) -> Iterator[TinyBatch]:
        return (self.batch(indices) for indices in self.order(epoch).split(5)[first:])

    def valid_batches(self) -> Iterator[TinyBatch]:
        return (TinyBatch(i, y) for i, y in zip(self.images.split(5), self.labels.split(5), strict=True))

    def to_input(self, batch: TinyBatch, dtype: torch.dtype) -> Tensor:
        return batch.images.to(dtype)

    def targets(self, batch: TinyBatch) -> Tensor:
        own = torch.eye(3, device=batch.labels.device)[batch.labels]
        return self.own_share * own + (1 - self.own_share) * own.roll(1, dims=1)

    def loss_weights(self) -> Tensor:
        return torch.tensor(self.class_weights)


class Recorder:
    """Keeps what it is told, as it was at that moment; with a path, the last checkpoint lies there instead."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.steps: list[tuple[int, int]] = []
        self.checkpoints: list[dict[str, Any]] = []  # of epochs' ends
        self.saved: list[dict[str, Any]] = []  # within epochs

    def step(self, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        assert images_per_second > 0
        self.steps.append((epoch, step))

    def save(self, state: State, checkpoint: dict[str, Any]) -> None:
        self._keep(self.saved, state, checkpoint)

    def epoch(self, state: State, checkpoint: dict[str, Any]) -> None:
        self._keep(self.checkpoints, state, checkpoint)

    def _keep(self, checkpoints: list[dict[str, Any]], state: State, checkpoint: dict[str, Any]) -> None:
        assert checkpoint["state"] == vars(state)
        if self.path:
            save_checkpoint(self.path, checkpoint)
            checkpoint = {"state": checkpoint["state"]}
        checkpoints.append(copy.deepcopy(checkpoint))

    @property
    def where(self) -> list[tuple[int, int]]:
        """Finished epochs and batches after them of what was saved within epochs."""
        return [(checkpoint["state"]["epoch"], checkpoint["state"]["batch"]) for checkpoint in self.saved]


class Fitted(NamedTuple):
    state: State
    recorder: Recorder
    model: nn.Module
    evaluation: Evaluation
    optimizer: Optimizer


def make_model() -> nn.Module:
    """Always the same weights."""
    torch.manual_seed(3)
    # No bias before the BatchNorm: its gradient is rounding noise, which AdamW would blow up.
    convolution = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(convolution, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 3))


def make_noisy_model() -> nn.Module:
    """With BatchNorm and dropout, from the random state as it is; all of it is deterministic on a GPU if asked."""
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(convolution, nn.Dropout(0.3), nn.Flatten(), nn.Linear(96, 3))


def one_group(model: nn.Module, *, lr: float = 1e-2) -> Optimizer:
    return torch.optim.AdamW([{"params": list(model.parameters()), "name": "all"}], lr=lr)


def fit_tiny(
    model: nn.Module | None = None,
    data: TinyData | None = None,
    *,
    make_optimizer: Callable[[nn.Module], Optimizer] = one_group,
    factor: Callable[[int], float] = lambda step: 1.0,
    recorder: Recorder | None = None,
    trainer_class: type[Trainer] = Trainer,
    stop: Callable[[], BaseException | None] = lambda: None,
    is_hopeless: Callable[[State], bool] = lambda state: False,
    checkpoint: dict[str, Any] | None = None,
    **settings: Any,
) -> Fitted:
    """As train.py does it. A recorder that is given holds what was recorded before an error."""
    trainer = trainer_class(**SETTINGS | settings)
    model = (model or make_model()).to(trainer.device, memory_format=trainer.memory_format)
    optimizer, recorder = make_optimizer(model), recorder or Recorder()
    state, evaluation = trainer.fit(
        model,
        data or TinyData(),
        optimizer=optimizer,
        scheduler=LambdaLR(optimizer, factor),
        recorder=recorder,
        stop=stop,
        is_hopeless=is_hopeless,
        checkpoint=checkpoint,
    )
    return Fitted(state, recorder, model, evaluation, optimizer)


def build_training(
    model: nn.Module,
    *,
    make_optimizer: Callable[[nn.Module], Optimizer] = one_group,
    factor: Callable[[int], float] = lambda step: 1.0,
    ema_decay: float = 0.0,
    scaler: torch.amp.GradScaler | None = None,
) -> Training:
    optimizer = make_optimizer(model)
    return Training(
        model,
        optimizer=optimizer,
        scheduler=LambdaLR(optimizer, factor),
        scaler=scaler or torch.amp.GradScaler("cpu", enabled=False),
        average=WeightAverage(model, decay=ema_decay),
        device=torch.device("cpu"),
        ranks=ALONE,
    )


def find_differences(one: Any, other: Any, *, where: str = "") -> list[str]:
    """The places at which two nested values differ, tensors and numbers to the last bit, on any device."""
    if type(one) is not type(other):
        return [f"{where}: {type(one).__name__} and {type(other).__name__}"]
    if isinstance(one, Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu()) else [f"{where}: other values"]
    if isinstance(one, dict):
        names = [f"{where}.{name}: only in one" for name in one.keys() ^ other.keys()]
        shared = one.keys() & other.keys()
        return names + [d for name in shared for d in find_differences(one[name], other[name], where=f"{where}.{name}")]
    if isinstance(one, list | tuple):
        pairs = enumerate(zip(one, other, strict=False))
        found = [d for i, pair in pairs for d in find_differences(*pair, where=f"{where}[{i}]")]
        return found + ([f"{where}: other lengths"] if len(one) != len(other) else [])
    return [] if one == other else [f"{where}: {one} and {other}"]


@pytest.fixture
def settings() -> dict[str, Any]:
    """Of a `Trainer` on the CPU, everything switched off."""
    return dict(SETTINGS)


@pytest.fixture
def tiny_data() -> type[TinyData]:
    return TinyData


@pytest.fixture
def make_recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def model() -> nn.Module:
    """With BatchNorm."""
    return make_model()


@pytest.fixture
def noisy_model() -> Callable[[], nn.Module]:
    """Makes a model with BatchNorm and dropout, of other weights every time."""
    return make_noisy_model


@pytest.fixture
def fit() -> Callable[..., Fitted]:
    """Trains on the tiny data."""
    return fit_tiny


@pytest.fixture
def make_training() -> Callable[..., Training]:
    """A training that has not begun."""
    return build_training


@pytest.fixture
def differences() -> Callable[..., list[str]]:
    return find_differences
