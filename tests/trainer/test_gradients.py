from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridnet.errors import TrainingError
from hybridnet.trainer.device import find_precision
from hybridnet.trainer.gradients import Gradients
from hybridnet.trainer.randomness import random_states, seed_everything

CPU = torch.device("cpu")
WEIGHTS = (0.5, 2.0, 1.25)


# The loss


def loss_by_hand(logits: Tensor, labels: Tensor, *, weights: tuple[float, ...], smoothing: float, own: float) -> float:
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


@pytest.fixture
def still(fit: Callable) -> Callable:
    """One epoch without a rate: the weights stay as they are."""

    def run(data: Any, **settings: Any) -> Any:
        def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
            return torch.optim.SGD([{"params": list(model.parameters()), "name": "all"}], lr=0.0)

        return fit(data=data, make_optimizer=make_optimizer, epochs=1, **settings).state.history[0]

    return run


@pytest.mark.parametrize(
    ("weights", "smoothing", "own"),
    [((1, 1, 1), 0.0, 1.0), ((1, 1, 1), 0.2, 1.0), (WEIGHTS, 0.0, 1.0), ((1, 1, 1), 0.0, 0.7), (WEIGHTS, 0.1, 0.7)],
)
def test_label_smoothing_class_weights_and_mixed_targets_reach_the_loss(
    weights: tuple[float, ...], smoothing: float, own: float, still: Callable, tiny_data: type, model: nn.Module
) -> None:
    """The loss of training has all three; that of validation is the plain one, so that runs can be compared."""
    data = tiny_data(class_weights=weights, own_share=own)
    row = still(data, label_smoothing=smoothing)
    losses, sizes = [], []
    for batch in data.train_batches(1):
        logits = model(batch.images).detach()
        losses.append(loss_by_hand(logits, batch.labels, weights=weights, smoothing=smoothing, own=own))
        sizes.append(len(batch))
    expected = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / 23
    assert row["train_loss"] == pytest.approx(expected, rel=1e-5)
    model.eval()
    valid_loss = nn.functional.cross_entropy(model(data.images), data.labels).item()
    assert row["valid_loss"] == pytest.approx(valid_loss, rel=1e-5)


def test_one_plain_target_is_weighted_by_its_class(still: Callable, tiny_data: type, model: nn.Module) -> None:
    """PyTorch's loss for class indices divides by the sum of the weights; this one by the number of pictures."""
    data = tiny_data(class_weights=WEIGHTS)
    data.train_batches = lambda epoch, first: iter([data.batch(slice(23))])
    logits, weights = model(data.images).detach(), torch.tensor(WEIGHTS)
    expected = nn.functional.cross_entropy(logits, data.labels, weight=weights) * weights[data.labels].sum() / 23
    assert still(data)["train_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_class_weights_turn_the_gradient(fit: Callable, tiny_data: type) -> None:
    """A class of weight 0 is not learned, the others are."""
    data = tiny_data(class_weights=(1.5, 0.0, 1.5))
    model = fit(data=data, epochs=30).model.eval()
    answers = model(data.images).argmax(dim=1)
    assert (answers[data.labels != 1] == data.labels[data.labels != 1]).all()
    assert (answers != 1).all()


def test_accuracy_counts_a_mixed_picture_by_its_own_label(fit: Callable, tiny_data: type) -> None:
    assert fit(data=tiny_data(own_share=0.6), epochs=30).state.history[-1]["train_acc"] == 1.0


def test_the_loss_is_taken_in_float32(make_training: Callable, model: nn.Module, tiny_data: type) -> None:
    """The logits of bf16 have 8 bits; a logarithm and a mean of as many would lose the rest."""
    data = tiny_data(own_share=0.7)
    of_batch = Gradients(find_precision("bf16", CPU), num_parts=1, oom="error", label_smoothing=0.0)
    loss, logits = of_batch.add(make_training(model), data.images, data.targets(data), loss_weights=data.loss_weights())
    assert logits.dtype == torch.bfloat16 and loss.dtype == torch.float32
    expected = nn.functional.cross_entropy(logits.double(), data.targets(data).double())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


# In parts


class Probe(nn.Module):
    """Notes how many pictures it sees at once, and fails where it is told to: after it has done all its work.

    It draws from every generator, and its BatchNorm counts.
    """

    def __init__(
        self, *, has_norm: bool = True, fails: Callable[[int, int], bool] = lambda call, size: False, words: str = ""
    ) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8) if has_norm else nn.Identity()
        self.fc = nn.Linear(8 * 3 * 4, 3)
        self.has_noise, self.fails, self.words = has_norm, fails, words
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(x)).relu()
        if self.has_noise and self.training:
            x = nn.functional.dropout(x, 0.3) * (1 + 0.01 * np.random.rand() + 0.01 * random.random())
        x = self.fc(x.flatten(1))
        if self.training:
            self.sizes.append(len(x))
            if self.fails(len(self.sizes), len(x)):
                raise torch.OutOfMemoryError(self.words or f"{len(x)} pictures are too many\nmore")
        return x


def more_than(limit: int) -> Callable[[int, int], bool]:
    return lambda call, size: size > limit


def gradients(num_parts: int = 1, *, oom: str = "error", smoothing: float = 0.0) -> Gradients:
    return Gradients(find_precision("float32", CPU), num_parts=num_parts, oom=oom, label_smoothing=smoothing)


def added(model: nn.Module, make_training: Callable, data: Any, size: int, **options: Any) -> dict[str, Any]:
    """What a batch leaves behind: loss, logits, gradients, buffers and random states."""
    seed_everything(7)
    training, batch = make_training(model.train()), data.batch(slice(size))
    loss, logits = gradients(**options).add(
        training, batch.images, data.targets(batch), loss_weights=data.loss_weights()
    )
    assert not loss.requires_grad and not logits.requires_grad and loss.shape == () and logits.shape == (size, 3)
    return {
        "loss": loss,
        "logits": logits,
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "buffers": dict(model.named_buffers()),
        "random": random_states(CPU),
    }


@pytest.mark.parametrize(
    ("size", "num_parts", "sizes"),
    [(5, 2, [3, 2]), (5, 3, [2, 2, 1]), (5, 5, [1] * 5), (5, 9, [1] * 5), (3, 2, [2, 1]), (4, 2, [2, 2]), (1, 2, [1])],
)
def test_the_gradients_of_parts_add_up_to_those_of_the_batch(
    size: int, num_parts: int, sizes: list[int], make_training: Callable, tiny_data: type
) -> None:
    """With weights, smoothing and mixed targets, and parts of different sizes; no BatchNorm, which would see them."""
    data = tiny_data(class_weights=WEIGHTS, own_share=0.7)
    model = Probe(has_norm=False)
    one = added(Probe(has_norm=False), make_training, data, size, smoothing=0.1)
    other = added(model, make_training, data, size, smoothing=0.1, num_parts=num_parts)
    assert model.sizes == sizes
    assert torch.allclose(one["loss"], other["loss"], rtol=1e-6)
    assert torch.allclose(one["logits"], other["logits"], atol=1e-6)
    for name, gradient in one["gradients"].items():
        assert gradient.abs().max() > 1e-4
        assert torch.allclose(gradient, other["gradients"][name], rtol=1e-4, atol=1e-7), name


@pytest.mark.parametrize("num_parts", [2, 3])
def test_a_run_in_parts_is_the_same_run(num_parts: int, fit: Callable, tiny_data: type) -> None:
    """SGD, as AdamW would blow up the rounding of a gradient that is nearly 0."""

    def history(accumulate: int) -> list[dict[str, float]]:
        def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
            return torch.optim.SGD([{"params": list(model.parameters()), "name": "all"}], lr=0.1, momentum=0.9)

        data = tiny_data(class_weights=WEIGHTS, own_share=0.7)
        options = {"accumulate": accumulate, "label_smoothing": 0.1, "clip_norm": 0.7}
        return fit(Probe(has_norm=False), data, make_optimizer=make_optimizer, **options).state.history

    whole = history(1)
    assert whole[0]["train_loss"] > 1.05 * whole[2]["train_loss"]
    for one, other in zip(whole, history(num_parts), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_batchnorm_sees_one_part_at_a_time(make_training: Callable, tiny_data: type) -> None:
    model = Probe()
    added(model, make_training, tiny_data(), 5, num_parts=2)
    assert model.norm.num_batches_tracked == 2


# When the memory is full


ATTEMPTS = [
    # Where it fails, the sizes that it is given, the parts at which it ends.
    (more_than(3), [5, 3, 2], 2),
    (more_than(2), [5, 3, 2, 2, 1], 4),
    (more_than(1), [5, 3, 2, 1, 1, 1, 1, 1], 8),
    (lambda call, size: call == 1, [5, 3, 2], 2),
    (lambda call, size: call in (1, 3), [5, 3, 2, 2, 2, 1], 4),  # in the second part: the first has left gradients
]


@pytest.mark.parametrize(("fails", "sizes", "num_parts"), ATTEMPTS)
def test_what_did_not_fit_leaves_nothing_behind(
    fails: Callable, sizes: list[int], num_parts: int, make_training: Callable, tiny_data: type, differences: Callable
) -> None:
    """Gradients, BatchNorm's statistics and random states are those of a batch that was trained in parts at once."""
    data, model = tiny_data(class_weights=WEIGHTS), Probe(fails=fails)
    found = added(model, make_training, data, 5, oom="accumulate")
    assert model.sizes == sizes
    expected = added(Probe(), make_training, data, 5, num_parts=num_parts)
    assert differences(found, expected) == []


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_run_that_found_its_parts_is_that_with_these_parts(device: str, fit: Callable, differences: Callable) -> None:
    """To the last bit, on a device with a generator of its own as well."""

    def outcome(model: nn.Module, **options: Any) -> dict[str, Any]:
        seed_everything(7)
        options |= {"deterministic": device != "cpu", "compile": "off"}
        content = fit(model, device=device, **options).recorder.checkpoints[-1]
        for name in ("train_seconds", "wait_seconds", "num_splits"):
            del content["state"][name]
        return content

    found = outcome(Probe(fails=lambda call, size: call == 1), oom="accumulate")
    assert differences(found, outcome(Probe(), accumulate=2)) == []


def test_the_parts_stay_small_for_the_rest_of_the_run_and_when_it_is_continued(fit: Callable) -> None:
    """Halved from the parts that were asked for, for every batch; the short last one has smaller parts."""
    model = Probe(fails=more_than(2))
    first = fit(model, epochs=1, oom="accumulate")
    assert model.sizes == [5, 3] + 4 * [2, 2, 1] + 3 * [1]
    assert first.state.num_splits == 2
    model = Probe()
    second = fit(model, epochs=2, oom="accumulate", checkpoint=first.recorder.checkpoints[-1])
    assert model.sizes == 4 * [2, 2, 1] + 3 * [1]
    assert second.state.num_splits == 2
    model = Probe(fails=more_than(1))
    assert fit(model, epochs=1, accumulate=2, oom="accumulate").state.num_splits == 2
    assert model.sizes == [3, 2] + 5 * [1] + 3 * 5 * [1] + 3 * [1]


def test_the_log_says_how_a_batch_is_trained_from_here_on(fit: Callable, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fit(Probe(fails=more_than(2)), oom="accumulate")
    said = "the memory of cpu is full: from here on a batch of 5 pictures is trained in parts of {}, whose gradients"
    assert [record.message for record in caplog.records] == [f"{said.format(size)} are added" for size in (3, 2)]


def test_a_run_whose_memory_was_full_is_continued_bit_for_bit(fit: Callable, differences: Callable) -> None:
    def outcome(**options: Any) -> dict[str, Any]:
        last = fit(oom="accumulate", ema_decay=0.9, **options).recorder.checkpoints
        for checkpoint in last:
            del checkpoint["state"]["train_seconds"], checkpoint["state"]["wait_seconds"]
        return last

    seconds = {"train_seconds": 0.0, "wait_seconds": 0.0}
    whole = outcome(model=Probe(fails=lambda call, size: call == 7))  # in the second epoch
    assert [checkpoint["state"]["num_splits"] for checkpoint in whole] == [0, 1, 1]
    middle = whole[1] | {"state": whole[1]["state"] | seconds}
    assert differences(outcome(model=Probe(), checkpoint=middle)[-1], whole[-1]) == []


def refused(fit: Callable, model: nn.Module, **options: Any) -> str:
    with pytest.raises(TrainingError) as caught:
        fit(model, **options)
    assert caught.value.__cause__ is not None
    return str(caught.value)


def test_what_does_not_fit_is_said_with_numbers(fit: Callable) -> None:
    assert refused(fit, Probe(fails=more_than(4))) == (
        "error: out of memory in cpu: a batch of 5 pictures of 8×10 does not fit (5 pictures are too many)\n"
        "hint: data.batch_size=2 or a smaller data.image_size; or the same batch in parts with trainer.accumulate=2, "
        "or in as many as needed with trainer.oom=accumulate"
    )
    assert refused(fit, Probe(fails=more_than(2)), accumulate=2) == (
        "error: out of memory in cpu: a batch of 5 pictures of 8×10 in parts of 3 does not fit "
        "(3 pictures are too many)\n"
        "hint: data.batch_size=2 or a smaller data.image_size; or the same batch in parts with trainer.accumulate=4, "
        "or in as many as needed with trainer.oom=accumulate"
    )


@pytest.mark.parametrize("options", [{"accumulate": 5}, {"oom": "accumulate"}, {"accumulate": 7, "oom": "accumulate"}])
def test_a_single_picture_that_does_not_fit_ends_the_run(options: dict[str, Any], fit: Callable) -> None:
    """No setting of the parts would help."""
    model = Probe(fails=more_than(0))
    assert refused(fit, model, **options) == (
        "error: out of memory in cpu: a batch of 5 pictures of 8×10 in parts of 1 does not fit "
        "(1 pictures are too many)\n"
        "hint: a smaller data.image_size or a smaller model"
    )
    assert model.sizes == ([5, 3, 2, 1] if options == {"oom": "accumulate"} else [1])


def test_an_endless_reason_is_cut(fit: Callable) -> None:
    text = refused(fit, Probe(fails=more_than(0), words="x" * 1000))
    assert f"({'x' * 300})" in text and "x" * 301 not in text


def test_memory_that_is_full_in_the_validation_is_that_of_a_whole_batch(fit: Callable, tiny_data: type) -> None:
    """Not of the short one that was trained on last; parts do not help, and are not offered where they are there."""
    data = tiny_data()

    def valid_batches() -> Iterator[Any]:
        yield data.batch(slice(5))
        raise MemoryError

    data.valid_batches = valid_batches
    assert refused(fit, Probe(), data=data, oom="accumulate") == (
        "error: out of memory in cpu: a batch of 5 pictures of 8×10 does not fit (MemoryError)\n"
        "hint: data.batch_size=2 or a smaller data.image_size"
    )


@pytest.mark.parametrize(
    ("oom", "parts"),
    [
        ("accumulate", ""),
        (
            "error",
            "; or the same batch in parts with trainer.accumulate=2, "
            "or in as many as needed with trainer.oom=accumulate",
        ),
    ],
)
def test_memory_that_is_full_before_the_first_step(oom: str, parts: str, fit: Callable, tiny_data: type) -> None:
    data = tiny_data()

    def to_input(batch: Any, dtype: torch.dtype) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    data.to_input = to_input
    assert refused(fit, Probe(), data=data, oom=oom) == (
        f"error: out of memory in cpu: CUDA out of memory.\nhint: a smaller data.batch_size or data.image_size{parts}"
    )


@pytest.mark.parametrize("oom", ["error", "accumulate"])
def test_another_error_is_passed_on_and_nothing_is_tried_again(oom: str, fit: Callable) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x256 and 96x3)")
    model = Probe()

    def fail(module: nn.Module, arguments: Any, output: Tensor) -> None:
        raise error

    model.register_forward_hook(fail)
    with pytest.raises(RuntimeError) as caught:
        fit(model, oom=oom)
    assert caught.value is error
    assert model.sizes == [5]


@pytest.mark.parametrize(
    ("size", "num_parts", "is_told"),
    [(6, 6, True), (6, 9, True), (5, 2, False), (5, 3, True), (6, 3, False), (1, 1, False), (1, 4, False)],
)
def test_parts_of_one_picture_are_told_where_batches_are_normalised(
    size: int,
    num_parts: int,
    is_told: bool,
    make_training: Callable,
    tiny_data: type,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_norm = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(3))
    data = tiny_data()
    batch = data.batch(slice(size))
    with_norm.eval()(batch.images)
    for model, is_training in ((with_norm, True), (with_norm, False)):
        caplog.clear()
        adding, training = gradients(num_parts), make_training(model.train(is_training))
        for _ in range(2):
            adding.add(training, batch.images, data.targets(batch), loss_weights=data.loss_weights())
        start = f"trainer.accumulate={num_parts} leaves parts of one picture in a batch of {size}, and BatchNorm's"
        assert [message.startswith(start) for message in caplog.messages] == [True] * (is_told and is_training)
