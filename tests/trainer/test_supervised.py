from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridnet.errors import TrainingError
from hybridnet.trainer.device import Precision
from hybridnet.trainer.supervised import Clock, State, Trainer

SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "patience": 0,
    "device": "cpu",
    "precision": "float32",
    "channels_last": True,
    "clip_norm": math.inf,
    "label_smoothing": 0.0,
    "log_every": 2,
    "monitor": "valid_acc",
    "plot": False,
}


class TinyBatch:
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> TinyBatch:
        return TinyBatch(self.images.to(device), self.labels.to(device))


class TinyData:
    """23 random pictures of 3 classes in batches of 5: the last batch has 3.

    With `own_share` below 1, the rest of every target is the next class's.
    """

    steps_per_epoch = 5

    def __init__(
        self, *, scale: float = 1.0, class_weights: tuple[float, ...] = (1.0, 1.0, 1.0), own_share: float = 1.0
    ) -> None:
        self.class_weights, self.own_share = class_weights, own_share
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(23, 3, 8, 10, generator=generator) * scale
        self.labels = torch.randint(3, (23,), generator=generator)

    def train_batches(self, epoch: int) -> Iterator[TinyBatch]:
        order = torch.randperm(23, generator=torch.Generator().manual_seed(epoch))
        return (TinyBatch(self.images[i], self.labels[i]) for i in order.split(5))

    def valid_batches(self) -> Iterator[TinyBatch]:
        return (TinyBatch(i, y) for i, y in zip(self.images.split(5), self.labels.split(5), strict=True))

    def to_input(self, batch: TinyBatch, dtype: torch.dtype) -> Tensor:
        return batch.images.to(dtype)

    def targets(self, batch: TinyBatch) -> Tensor:
        own = nn.functional.one_hot(batch.labels, 3).float()
        return self.own_share * own + (1 - self.own_share) * own.roll(1, dims=1)

    def loss_weights(self) -> Tensor:
        return torch.tensor(self.class_weights)


class Recorder:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.best_models: list[dict[str, Tensor]] = []
        self.checkpoints: list[dict[str, Any]] = []

    def step(self, epoch: int, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        assert images_per_second > 0
        self.steps.append((epoch, step))

    def best(self, model: dict[str, Tensor], row: dict[str, float]) -> None:
        self.best_models.append(copy.deepcopy(model))

    def epoch(self, state: State, checkpoint: dict[str, Any]) -> None:
        self.checkpoints.append(copy.deepcopy(checkpoint))


def _model() -> nn.Module:
    torch.manual_seed(3)
    # No bias before the BatchNorm: its gradient is rounding noise, which AdamW would blow up.
    convolution = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(convolution, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 3))


def _fit(
    model: nn.Module | None = None, data: TinyData | None = None, lr: float = 1e-2, **settings: Any
) -> tuple[State, Recorder, nn.Module]:
    model = model or _model()
    optimizer = torch.optim.AdamW([{"params": list(model.parameters()), "name": "all"}], lr=lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    recorder = Recorder()
    trainer = Trainer(**SETTINGS | settings)
    state = trainer.fit(model, data or TinyData(), optimizer=optimizer, scheduler=scheduler, recorder=recorder)
    return state, recorder, model


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_tiny_set_is_learned_to_the_last_picture(precision: str) -> None:
    """float32 and bf16 share the path; labels are random, so this is memory, not luck."""
    state, _, _ = _fit(epochs=30, precision=precision)
    assert state.history[-1]["valid_acc"] == 1.0
    assert state.history[-1]["train_acc"] == 1.0
    assert state.history[-1]["train_loss"] < 0.1


def test_the_loop_is_the_textbook_loop() -> None:
    """Weights, losses and accuracies of two epochs equal a plain PyTorch loop's."""
    state, _, model = _fit(epochs=2, lr=1e-3)
    reference, data = _model(), TinyData()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-3)
    rows = []
    for epoch in (1, 2):
        reference.train()
        loss_sum = num_correct = 0.0
        for batch in data.train_batches(epoch):
            optimizer.zero_grad()
            logits = reference(batch.images)
            loss = nn.functional.cross_entropy(logits, batch.labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
            num_correct += (logits.argmax(1) == batch.labels).sum().item()
        reference.eval()
        with torch.no_grad():
            logits = reference(data.images)
        valid_loss = nn.functional.cross_entropy(logits, data.labels).item()
        valid_acc = (logits.argmax(1) == data.labels).float().mean().item()
        rows.append((loss_sum / 23, num_correct / 23, valid_loss, valid_acc))
    for ours, theirs in zip(state.history, rows, strict=True):
        names = ("train_loss", "train_acc", "valid_loss", "valid_acc")
        assert [ours[name] for name in names] == pytest.approx(theirs, rel=1e-4)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


WEIGHTS = (0.5, 2.0, 1.25)


def _loss_by_hand(logits: Tensor, labels: Tensor, *, weights: tuple[float, ...], smoothing: float, own: float) -> float:
    """Mean over the pictures of -Σ weight · target · log p, where a share of the target is spread over the classes."""
    total = 0.0
    for row, label in zip(logits.double(), labels.tolist(), strict=True):
        target = [0.0] * 3
        target[label] += own
        target[(label + 1) % 3] += 1 - own
        log_p = [float(value - row.exp().sum().log()) for value in row]
        target = [(1 - smoothing) * share + smoothing / 3 for share in target]
        total -= sum(w * share * log for w, share, log in zip(weights, target, log_p, strict=True))
    return total / len(labels)


@pytest.mark.parametrize(
    ("weights", "smoothing", "own"),
    [((1, 1, 1), 0.0, 1.0), ((1, 1, 1), 0.2, 1.0), (WEIGHTS, 0.0, 1.0), ((1, 1, 1), 0.0, 0.7), (WEIGHTS, 0.1, 0.7)],
)
def test_label_smoothing_class_weights_and_mixed_targets_reach_the_loss(
    weights: tuple[float, ...], smoothing: float, own: float
) -> None:
    """The loss of training has all three; that of validation is the plain one, so that runs can be compared."""
    data = TinyData(class_weights=weights, own_share=own)
    state, _, _ = _fit(data=data, lr=0.0, epochs=1, label_smoothing=smoothing)
    reference = _model()
    losses, sizes = [], []
    for batch in data.train_batches(1):
        logits = reference(batch.images).detach()
        losses.append(_loss_by_hand(logits, batch.labels, weights=weights, smoothing=smoothing, own=own))
        sizes.append(len(batch))
    expected = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / 23
    assert state.history[0]["train_loss"] == pytest.approx(expected, rel=1e-5)
    reference.eval()
    valid_loss = nn.functional.cross_entropy(reference(data.images), data.labels).item()
    assert state.history[0]["valid_loss"] == pytest.approx(valid_loss, rel=1e-5)


def test_one_plain_target_is_weighted_by_its_class() -> None:
    """PyTorch's loss for class indices divides by the sum of the weights; this one by the number of pictures."""
    data = TinyData(class_weights=WEIGHTS)
    data.train_batches = lambda epoch: iter([TinyBatch(data.images, data.labels)])
    data.steps_per_epoch = 1
    state, _, _ = _fit(data=data, lr=0.0, epochs=1)
    logits, weights = _model()(data.images).detach(), torch.tensor(WEIGHTS)
    expected = nn.functional.cross_entropy(logits, data.labels, weight=weights) * weights[data.labels].sum() / 23
    assert state.history[0]["train_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_class_weights_turn_the_gradient() -> None:
    """A class of weight 0 is not learned, the others are."""
    data = TinyData(class_weights=(1.5, 0.0, 1.5))
    _, _, model = _fit(data=data, epochs=30)
    model.eval()
    answers = model(data.images).argmax(dim=1)
    assert (answers[data.labels != 1] == data.labels[data.labels != 1]).all()
    assert (answers != 1).all()


def test_accuracy_counts_a_mixed_picture_by_its_own_label() -> None:
    data = TinyData(own_share=0.6)
    state, _, _ = _fit(data=data, epochs=30)
    assert state.history[-1]["train_acc"] == 1.0


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_wrong_label_smoothing_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=f"label_smoothing: must be >= 0 and < 1, got {smoothing}"):
        Trainer(**SETTINGS | {"label_smoothing": smoothing})


def test_a_run_repeats_bit_for_bit() -> None:
    first, second = _fit()[0], _fit()[0]
    assert first.history == second.history


def test_gradients_are_clipped_to_the_norm() -> None:
    """With SGD the step is lr·gradient, so its norm shows the clip."""
    model, trainer = _model(), Trainer(**SETTINGS | {"epochs": 1, "clip_norm": 0.01})
    before = [p.detach().clone() for p in model.parameters()]
    data = TinyData()
    data.train_batches = lambda epoch: iter([TinyBatch(data.images[:5], data.labels[:5])])
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "name": "all"}], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    data.steps_per_epoch = 1
    trainer.fit(model, data, optimizer=optimizer, scheduler=scheduler, recorder=Recorder())
    moved = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


class _Scaler:
    """What GradScaler does for fp16 on a GPU, on any device: the loss times 1024, the gradients divided again."""

    def __init__(self) -> None:
        self.is_unscaled = False

    def scale(self, loss: Tensor) -> Tensor:
        self.is_unscaled = False
        return loss * 1024

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        assert not self.is_unscaled
        self.is_unscaled = True
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad /= 1024

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.is_unscaled:
            self.unscale_(optimizer)
        optimizer.step()

    def update(self) -> None: ...

    def state_dict(self) -> dict[str, float]:
        return {}


def test_scaled_gradients_are_clipped_as_if_they_were_not_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the two places where well-known loops went wrong in their mixed-precision branch."""
    plain = _fit(clip_norm=0.01)[0]
    monkeypatch.setattr(Precision, "grad_scaler", lambda self: _Scaler())
    assert _fit(clip_norm=0.01)[0].history == plain.history


def test_the_device_is_read_only_every_log_every_steps_and_at_the_end() -> None:
    _, recorder, _ = _fit(epochs=2, log_every=2)
    assert recorder.steps == [(1, 2), (1, 4), (1, 5), (2, 2), (2, 4), (2, 5)]


def test_time_and_pictures_are_counted() -> None:
    state, _, _ = _fit(epochs=2)
    assert (state.epoch, state.step, state.num_images) == (2, 10, 46)
    assert 0 < state.wait_seconds < state.train_seconds


def test_the_clock_counts_waiting_for_data_and_stops_with_the_last_batch() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.02)
            yield number

    clock = Clock(slow())
    for _ in clock:
        time.sleep(0.01)
    seconds = clock.seconds
    time.sleep(0.02)
    assert clock.seconds == seconds
    assert 0.06 <= clock.wait_seconds <= seconds - 0.03


def test_a_loss_that_is_not_finite_stops_the_run_before_saving() -> None:
    data = TinyData()
    data.images[7] = math.nan
    recorder = Recorder()
    model, trainer = _model(), Trainer(**SETTINGS)
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "name": "all"}], lr=0.125)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1)).tolist()
    step = order.index(7) // 5 + 1
    message = rf"not finite at epoch 1, step {step} \(learning rates: all 0\.125\); try optimizer\.base_lr"
    with pytest.raises(TrainingError, match=message):
        trainer.fit(model, data, optimizer=optimizer, scheduler=scheduler, recorder=recorder)
    assert recorder.checkpoints == [] and recorder.best_models == []


def test_weights_that_become_nan_in_the_last_step_are_not_saved() -> None:
    model, recorder = _model(), Recorder()
    data = TinyData()
    data.valid_batches = lambda: iter([TinyBatch(data.images * math.nan, data.labels)])
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "name": "all"}], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    with pytest.raises(TrainingError, match="validation loss is not finite after epoch 1"):
        Trainer(**SETTINGS).fit(model, data, optimizer=optimizer, scheduler=scheduler, recorder=recorder)
    assert recorder.checkpoints == [] and recorder.best_models == []


class _Scripted(Trainer):
    """Reports given validation accuracies, and losses of 1 - accuracy."""

    script: list[float]

    def evaluate(self, model: nn.Module, data: Any) -> Any:
        accuracy = self.script.pop(0)

        class Answer:
            def summary(self) -> dict[str, float]:
                return {"valid_acc": accuracy, "valid_loss": 1 - accuracy, "valid_macro_f1": accuracy}

        return Answer()


def _scripted(script: list[float], **settings: Any) -> tuple[State, Recorder]:
    model, recorder = _model(), Recorder()
    trainer = _Scripted(**SETTINGS | {"epochs": len(script)} | settings)
    trainer.script = list(script)
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "name": "all"}], lr=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    return trainer.fit(model, TinyData(), optimizer=optimizer, scheduler=scheduler, recorder=recorder), recorder


@pytest.mark.parametrize("monitor", ["valid_acc", "valid_loss", "valid_macro_f1"])
def test_the_best_epoch_is_the_first_with_the_best_value(monitor: str) -> None:
    state, recorder = _scripted([0.2, 0.6, 0.5, 0.6, 0.4], monitor=monitor)
    assert state.best_epoch == 2
    assert state.best_row["valid_acc"] == 0.6
    assert len(recorder.best_models) == 2
    assert len(recorder.checkpoints) == 5


@pytest.mark.parametrize(("patience", "epochs"), [(2, 4), (3, 5), (0, 6), (-1, 6)])
def test_patience_counts_epochs_without_improvement(patience: int, epochs: int) -> None:
    state, _ = _scripted([0.2, 0.6, 0.5, 0.5, 0.5, 0.5], patience=patience)
    assert state.epoch == epochs


def test_the_checkpoint_is_complete_and_plain() -> None:
    _, recorder, model = _fit(epochs=2)
    last = recorder.checkpoints[-1]
    assert set(last) == {"model", "optimizer", "scheduler", "scaler", "state", "random"}
    assert last["state"]["epoch"] == 2 and len(last["state"]["history"]) == 2
    assert all(torch.equal(last["model"][name], value) for name, value in model.state_dict().items())


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="epochs: must be >= 1, got 0; log_every: must be >= 1, got 0"):
        Trainer(**SETTINGS | {"epochs": 0, "log_every": 0})
