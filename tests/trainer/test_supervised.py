from __future__ import annotations

import itertools
import math
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridnet.checkpoint import load_checkpoint
from hybridnet.errors import Stopped, TrainingError
from hybridnet.trainer import clock, supervised
from hybridnet.trainer.device import Precision
from hybridnet.trainer.ranks import Ranks
from hybridnet.trainer.state import State
from hybridnet.trainer.supervised import Trainer

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


# What the loop computes


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_tiny_set_is_learned_to_the_last_picture(precision: str, fit: Callable) -> None:
    """float32 and bf16 share the path; labels are random, so this is memory, not luck."""
    state = fit(epochs=30, precision=precision).state
    assert state.history[-1]["valid_acc"] == 1.0
    assert state.history[-1]["train_acc"] == 1.0
    assert state.history[-1]["train_loss"] < 0.1


def test_the_loop_is_the_textbook_loop(fit: Callable, model: nn.Module, tiny_data: type) -> None:
    """Weights, losses and accuracies of two epochs equal a plain PyTorch loop's."""
    trained = fit(epochs=2, make_optimizer=lambda model: named(torch.optim.AdamW, model, lr=1e-3))
    data = tiny_data()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rows = []
    for epoch in (1, 2):
        model.train()
        loss_sum = num_correct = 0.0
        for batch in data.train_batches(epoch):
            optimizer.zero_grad()
            logits = model(batch.images)
            loss = nn.functional.cross_entropy(logits, batch.labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
            num_correct += (logits.argmax(1) == batch.labels).sum().item()
        model.eval()
        with torch.no_grad():
            logits = model(data.images)
        valid_loss = nn.functional.cross_entropy(logits, data.labels).item()
        valid_acc = (logits.argmax(1) == data.labels).float().mean().item()
        rows.append((loss_sum / 23, num_correct / 23, valid_loss, valid_acc))
    for ours, theirs in zip(trained.state.history, rows, strict=True):
        names = ("train_loss", "train_acc", "valid_loss", "valid_acc")
        assert [ours[name] for name in names] == pytest.approx(theirs, rel=1e-4)
    for ours, theirs in zip(trained.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def named(kind: type[torch.optim.Optimizer], model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    """One group of all parameters."""
    return kind([{"params": list(model.parameters()), "name": "all"}], **options)


class Watched(torch.optim.SGD):
    """Keeps the learning rate of every update, and the weights before and after it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rates: list[float] = []
        self.weights = [self.flat()]

    def flat(self) -> Tensor:
        return torch.cat([p.detach().double().flatten() for p in self.param_groups[0]["params"]])

    def step(self, closure: None = None) -> None:
        super().step(closure)
        self.rates.append(self.param_groups[0]["lr"])
        self.weights.append(self.flat())


def test_a_step_uses_the_rate_that_the_history_reports(fit: Callable) -> None:
    """The schedule begins with its step 0; with SGD and clipped gradients the way of a step is rate · norm."""
    state, *_, optimizer = fit(
        make_optimizer=lambda model: named(Watched, model, lr=0.1),
        factor=lambda step: step + 1,
        clip_norm=0.01,
        epochs=2,
    )
    ways = [(after - before).norm().item() for before, after in itertools.pairwise(optimizer.weights)]
    assert ways == pytest.approx([0.001 * (step + 1) for step in range(10)], rel=1e-3)
    assert [(row["lr"], row["head_lr"]) for row in state.history] == [(0.5, 0.5), (1.0, 1.0)]


def test_a_run_repeats_bit_for_bit(fit: Callable) -> None:
    assert fit().state.history == fit().state.history


def test_gradients_are_clipped_to_the_norm(fit: Callable, model: nn.Module, tiny_data: type) -> None:
    """With SGD the step is lr·gradient, so its norm shows the clip."""
    before = [p.detach().clone() for p in model.parameters()]
    data = tiny_data()
    data.train_batches = lambda epoch, first: iter([data.batch(slice(5))])
    fit(model, data, make_optimizer=lambda model: named(torch.optim.SGD, model, lr=1.0), epochs=1, clip_norm=0.01)
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


def test_scaled_gradients_are_clipped_as_if_they_were_not_scaled(
    fit: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two places where well-known loops went wrong in their mixed-precision branch."""
    plain = fit(clip_norm=0.01).state
    monkeypatch.setattr(Precision, "grad_scaler", lambda self: _Scaler())
    assert fit(clip_norm=0.01).state.history == plain.history


def test_an_update_that_fp16_leaves_out_is_a_step_of_the_schedule(
    fit: Callable, tiny_data: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first scale is usually too large; PyTorch warns where a schedule goes on before the first update."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-100)
    monkeypatch.setattr(Precision, "grad_scaler", lambda self: scaler)
    state, *_, optimizer = fit(
        data=tiny_data(class_weights=(1e3, 1e3, 1e3)),  # of which the scale makes an infinite loss
        make_optimizer=lambda model: named(Watched, model, lr=1e-4),
        factor=lambda step: 0.5**step,
        epochs=1,
    )
    assert scaler.get_scale() == 2.0**27
    assert state.step == 5
    assert optimizer.rates == [0.5e-4, 0.25e-4, 0.125e-4, 0.0625e-4]


@pytest.mark.parametrize("deterministic", [False, True])
def test_device_and_memory_are_prepared_before_the_first_step(
    deterministic: bool, fit: Callable, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(supervised, "prepare_memory", lambda device: events.append(str(device)))
    model.register_forward_pre_hook(lambda *_: events.append(torch.are_deterministic_algorithms_enabled()))
    fit(model, epochs=1, deterministic=deterministic)
    torch.use_deterministic_algorithms(False)
    assert events == ["cpu", *10 * [deterministic]]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The trainer's clock, which goes on when it is told to."""
    watch = SimpleNamespace(now=0.0, perf_counter=lambda: watch.now)
    monkeypatch.setattr(clock, "time", watch)
    return watch


def _takes(seconds: float, watch: SimpleNamespace, model: nn.Module) -> None:
    """Makes every forward pass of the model take so long."""

    def take_time(model: nn.Module, inputs: Any) -> None:
        watch.now += seconds

    model.register_forward_pre_hook(take_time)


@pytest.mark.parametrize(
    ("seconds", "log_every", "read"),
    [(0.25, 2, [2, 4, 5]), (0.125, 1, [2, 4, 5]), (0.0625, 1, [4, 5]), (0.0625, 3, [5]), (0.0078125, 1, [5])],
)
def test_the_device_is_read_every_log_every_steps_at_most_four_times_a_second_and_at_the_end(
    seconds: float, log_every: int, read: list[int], fit: Callable, model: nn.Module, watch: SimpleNamespace
) -> None:
    _takes(seconds, watch, model)
    steps = fit(model, epochs=2, log_every=log_every).recorder.steps
    assert steps == [(epoch, step) for epoch in (1, 2) for step in read]


def test_ranks_agree_on_when_to_read(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """All take part in a reading; here the last one was long ago for another of them."""
    monkeypatch.setattr(Ranks, "largest", lambda _, own: max(own, 0.25))
    trainer = Trainer(**settings)
    state = State(batch=4)
    assert trainer.is_reading_due(state, clock.Clock(state))


def test_time_and_pictures_are_counted(fit: Callable) -> None:
    state = fit(epochs=2).state
    assert (state.epoch, state.step, state.num_images) == (2, 10, 46)
    assert 0 < state.wait_seconds < state.train_seconds


def test_saving_and_validation_are_not_counted(
    fit: Callable, tiny_data: type, make_recorder: type, model: nn.Module, watch: SimpleNamespace
) -> None:
    def later(batches: Iterator[Any], seconds: float) -> Iterator[Any]:
        for batch in batches:
            watch.now += seconds
            yield batch

    class Slow(make_recorder):
        def _keep(self, *arguments: Any) -> None:
            super()._keep(*arguments)
            watch.now += 1000

    data = tiny_data()
    train_batches, valid_batches = data.train_batches, data.valid_batches
    data.train_batches = lambda epoch, first: later(train_batches(epoch, first=first), 2)
    data.valid_batches = lambda: later(valid_batches(), 100)

    _takes(3, watch, model)
    state = fit(model, data, recorder=Slow(), epochs=2, checkpoint_minutes=1e-9).state
    assert (state.wait_seconds, state.train_seconds) == (10 * 2, 10 * (2 + 3))


def test_validation_runs_in_evaluation_mode_and_training_in_training_mode(fit: Callable, model: nn.Module) -> None:
    """Also after the first epoch; and validation leaves BatchNorm's statistics and the random states alone."""
    modes = []
    model.register_forward_hook(lambda module, *_: modes.append((module.training, torch.is_inference_mode_enabled())))
    fit(model, epochs=2)
    assert modes == 2 * (5 * [(True, False)] + 5 * [(False, True)])
    assert model[0][1].num_batches_tracked == 10


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_an_evaluation_afterwards_says_what_the_history_says(
    precision: str, fit: Callable, tiny_data: type, settings: dict[str, Any]
) -> None:
    """The weights are those of the last epoch; a batch is given in the precision and the layout of the training."""
    state, _, model, *_ = fit(epochs=2, precision=precision)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    evaluation = Trainer(**settings | {"precision": precision}).make_evaluator(model)(tiny_data())
    assert evaluation.summary().items() <= state.history[-1].items()
    assert evaluation.logits.dtype == torch.float32 and evaluation.labels.tolist() == tiny_data().labels.tolist()
    dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert all(x.dtype == dtype and x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    assert [len(x) for x in seen] == [5, 5, 5, 5, 3]


# What is not finite


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run_before_saving(
    epoch: int, fit: Callable, tiny_data: type, make_recorder: type
) -> None:
    class Spoilt(tiny_data):
        def train_batches(self, number: int, *, first: int = 0) -> Any:
            if number == epoch:
                self.images[self.order(epoch)[12]] = math.nan  # in the third batch
            return super().train_batches(number, first=first)

    data, recorder = Spoilt(), make_recorder()
    message = (
        rf"not finite in epoch {epoch}, step {5 * epoch - 2}: learning rates: all 0\.125\nhint: try optimizer\.base_lr"
    )
    with pytest.raises(TrainingError, match=message):
        fit(
            data=data,
            recorder=recorder,
            make_optimizer=lambda model: named(torch.optim.SGD, model, lr=0.125),
            checkpoint_minutes=1e-9,
            log_every=100,
        )
    assert len(recorder.checkpoints) == epoch - 1
    assert recorder.where[-1] == (epoch - 1, 2)


def test_weights_that_become_nan_in_the_last_step_are_not_saved(
    fit: Callable, tiny_data: type, make_recorder: type
) -> None:
    data, recorder = tiny_data(), make_recorder()
    data.valid_batches = lambda: iter([type(data.batch(slice(3)))(data.images * math.nan, data.labels)])
    with pytest.raises(TrainingError, match="loss that is not finite in epoch 1, validation: it is nan\nhint: try"):
        fit(data=data, recorder=recorder)
    assert recorder.checkpoints == [] and recorder.saved == []


# Which epoch is best, and when it is enough


class _Scripted(Trainer):
    """Reports given validation accuracies, and losses of 1 - accuracy."""

    script: list[float]

    def make_evaluator(self, model: nn.Module) -> Callable[..., Any]:
        class Answer:
            def __init__(self, accuracy: float) -> None:
                self.accuracy = accuracy

            def summary(self) -> dict[str, float]:
                return {"valid_acc": self.accuracy, "valid_loss": 1 - self.accuracy, "valid_macro_f1": self.accuracy}

        return lambda data, **_: Answer(self.script.pop(0))


def scripted(*script: float) -> type[Trainer]:
    return type("Scripted", (_Scripted,), {"script": list(script)})


@pytest.mark.parametrize(
    "options", [{}, {"ema_decay": 0.9}, pytest.param({"device": "cuda"}, marks=pytest.mark.gpu)], ids=str
)
@pytest.mark.parametrize("best", [1, 2, 3])
def test_in_the_end_the_model_is_the_best_one_and_its_answers_are_there(
    fit: Callable, tiny_data: type, differences: Callable, best: int, options: dict[str, Any]
) -> None:
    """Also of a run that was finished before, whose answers are asked for anew."""

    class Choosing(Trainer):
        def is_better(self, row: dict[str, float], _: dict[str, float]) -> bool:
            return row["epoch"] <= best

    data, options = tiny_data(), options | {"trainer_class": Choosing, "epochs": 3}
    fitted = fit(data=data, **options)
    last = fitted.recorder.checkpoints[-1]
    again = fit(data=data, checkpoint=last, **options)
    assert again.recorder.steps == []
    for state, _, model, evaluation, _ in (fitted, again):
        assert state.best_epoch == best
        assert differences(dict(model.state_dict()), last["best"]) == []
        logits = model.eval()(data.images.to(next(model.parameters()).device)).cpu()
        assert torch.allclose(evaluation.logits, logits, atol=1e-5)
        assert evaluation.labels.tolist() == data.labels.tolist()


@pytest.mark.parametrize("monitor", ["valid_acc", "valid_loss", "valid_macro_f1"])
def test_the_best_epoch_is_the_first_with_the_best_value(
    monitor: str, fit: Callable, differences: Callable[..., list[str]]
) -> None:
    state, recorder, *_ = fit(trainer_class=scripted(0.2, 0.6, 0.5, 0.6, 0.4), monitor=monitor, epochs=5)
    assert state.best_epoch == 2
    assert state.best_row["valid_acc"] == 0.6
    bests = [checkpoint["best"] for checkpoint in recorder.checkpoints]
    weights = [dict(checkpoint["model"]) for checkpoint in recorder.checkpoints]
    assert not any(differences(best, weights[i]) for best, i in zip(bests, (0, 1, 1, 1, 1), strict=True))
    assert differences(weights[0], weights[1])


@pytest.mark.parametrize(("patience", "epochs"), [(2, 4), (3, 5), (0, 6), (-1, 6)])
def test_patience_counts_epochs_without_improvement(patience: int, epochs: int, fit: Callable) -> None:
    trainer_class = scripted(0.2, 0.6, 0.5, 0.5, 0.5, 0.5)
    assert fit(trainer_class=trainer_class, patience=patience, epochs=6).state.epoch == epochs


def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="epochs: must be >= 1, got 0; log_every: must be >= 1, got 0"):
        Trainer(**settings | {"epochs": 0, "log_every": 0})


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_wrong_label_smoothing_is_refused(smoothing: float, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"label_smoothing: must be >= 0 and < 1, got {smoothing}"):
        Trainer(**settings | {"label_smoothing": smoothing})


# Stopped anywhere and continued


class StopAt:
    """Asks to stop at the given question; at none, it counts them."""

    def __init__(self, question: int | None = None) -> None:
        self.question, self.num_asked = question, 0

    def __call__(self) -> Stopped | None:
        self.num_asked += 1
        return Stopped(signal.SIGTERM) if self.num_asked == self.question else None


class _BestIsSecond(Trainer):
    def is_better(self, row: dict[str, float], best: dict[str, float]) -> bool:
        return row["epoch"] == 2


def two_groups(model: nn.Module) -> torch.optim.Optimizer:
    """As train.py has it: the backbone and the head, with their own rates, in one pass over the memory."""
    backbone, head = list(model[0].parameters()), list(model[3].parameters())
    groups = [{"name": "backbone", "params": backbone, "lr": 3e-3}, {"name": "head", "params": head, "lr": 1e-2}]
    return torch.optim.AdamW(groups, weight_decay=0.1, fused=True)


def cosine(step: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / 15))


PLAIN: dict[str, Any] = {"make_optimizer": two_groups, "factor": cosine}
ALL = PLAIN | {
    "precision": "bf16",
    "ema_decay": 0.9,
    "accumulate": 2,
    "oom": "accumulate",
    "clip_norm": 0.5,
    "label_smoothing": 0.1,
    "trainer_class": _BestIsSecond,
    "patience": 1,
    "epochs": 9,
}
NUM_VALID_BATCHES = 5
NUM_QUESTIONS = 3 * (1 + 5 + 5)  # at the beginning of an epoch, after each of its steps, after each validation batch


@pytest.fixture
def begin(
    fit: Callable,
    noisy_model: Callable,
    tiny_data: type,
    make_recorder: type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable:
    """Trains from the beginning, or continues as a new process would: other weights, other random states."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # half of the time; here no machine goes down

    def begin(seed: int, *, checkpoint: Path | None = None, question: int | None = None, **options: Any) -> Any:
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        data = tiny_data(class_weights=(0.5, 2.0, 1.25), own_share=0.8)
        content = load_checkpoint(checkpoint) if checkpoint else None
        recorder, stop = make_recorder(tmp_path / "last.pt"), StopAt(question)
        try:
            fit(noisy_model(), data, recorder=recorder, stop=stop, checkpoint=content, **options)
        except Stopped:
            assert question is not None
        assert question is None or stop.num_asked == question
        return recorder, stop

    return begin


def outcome(path: Path) -> dict[str, Any]:
    """The last checkpoint, but for the times."""
    content = load_checkpoint(path)
    del content["state"]["train_seconds"], content["state"]["wait_seconds"]
    return content


@pytest.mark.parametrize(
    ("options", "device"), [(PLAIN, "cpu"), (ALL, "cpu"), pytest.param(ALL, "cuda", marks=pytest.mark.gpu)]
)
def test_a_run_that_is_stopped_anywhere_and_continued_is_the_same_run(
    options: dict[str, Any], device: str, begin: Callable, differences: Callable, tmp_path: Path
) -> None:
    """Between any two steps or validation batches and at epochs' ends: history, weights, average, best, everything."""
    options = options | {"device": device, "deterministic": device == "cuda"}
    last = tmp_path / "last.pt"
    _, stop = begin(1, **options)
    expected = outcome(last)
    assert stop.num_asked == NUM_QUESTIONS
    assert expected["state"]["epoch"] == 3 and expected["state"]["step"] == 15
    for question in range(1, NUM_QUESTIONS + 1):
        last.unlink()
        begin(1, question=question, **options)
        assert last.exists() is (question > 1)
        begin(1 if question == 1 else 2, checkpoint=last if last.exists() else None, **options)
        assert differences(outcome(last), expected) == [], f"stopped at question {question}"


def test_a_run_that_is_stopped_at_every_step_is_the_same_run(
    begin: Callable, differences: Callable, tmp_path: Path
) -> None:
    """Each of its processes does one step, the last of an epoch the validation as well."""
    last = tmp_path / "last.pt"
    begin(1, **ALL)
    expected = outcome(last)
    begin(1, question=2, **ALL)
    for step in range(1, 15):
        assert load_checkpoint(last)["state"]["step"] == step
        # The first question is at the beginning; after the last step come five in the validation and the next epoch's.
        begin(step, checkpoint=last, question=2 if step % 5 else 8, **ALL)
    begin(0, checkpoint=last, **ALL)
    assert differences(outcome(last), expected) == []


def test_the_scaler_of_fp16_is_continued(
    begin: Callable, differences: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It doubles its scale every fourth step, which the checkpoint falls between."""
    scaler = {"init_scale": 2.0**10, "growth_interval": 4}
    monkeypatch.setattr(Precision, "grad_scaler", lambda self: torch.amp.GradScaler("cpu", **scaler))
    last = tmp_path / "last.pt"
    begin(1, **PLAIN)
    expected = outcome(last)
    assert expected["scaler"]["scale"] == 2.0**13 and expected["scaler"]["_growth_tracker"] == 3
    begin(1, question=8, **PLAIN)
    begin(2, checkpoint=last, **PLAIN)
    assert differences(outcome(last), expected) == []


def test_a_run_that_is_stopped_before_its_first_step_saves_nothing(begin: Callable) -> None:
    recorder, _ = begin(1, question=1, **PLAIN)
    assert recorder.saved == recorder.checkpoints == []


def test_a_finished_run_is_not_continued(begin: Callable, tmp_path: Path) -> None:
    begin(1, **PLAIN)
    recorder, stop = begin(2, checkpoint=tmp_path / "last.pt", **PLAIN)
    assert stop.num_asked == NUM_VALID_BATCHES and recorder.steps == []
    begin(1, **ALL)
    recorder, stop = begin(2, checkpoint=tmp_path / "last.pt", **ALL)  # its patience is at an end, not its epochs
    assert stop.num_asked == NUM_VALID_BATCHES and recorder.steps == []


@pytest.mark.parametrize("options", [PLAIN, PLAIN | {"ema_decay": 0.9}])
def test_a_run_that_ends_within_an_epoch_has_its_best_weights(
    options: dict[str, Any],
    begin: Callable,
    fit: Callable,
    noisy_model: Callable,
    tiny_data: type,
    differences: Callable,
    tmp_path: Path,
) -> None:
    """As a sweep's job that was stopped there, and meanwhile others did better; its best epoch is the one before."""
    begin(1, question=1 + 5 + 5 + 1 + 2, **options)
    checkpoint = load_checkpoint(tmp_path / "last.pt")
    assert [checkpoint["state"][name] for name in ("best_epoch", "epoch", "batch")] == [1, 1, 2]
    ended = fit(noisy_model(), tiny_data(), checkpoint=checkpoint, is_hopeless=lambda state: True, **options)
    assert ended.recorder.steps == []
    assert differences(dict(ended.model.state_dict()), checkpoint["best"]) == []


def test_steps_are_shown_once_and_speed_is_measured_anew(
    begin: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder asserts that the speed is positive, also where nothing was trained before it."""
    monkeypatch.setattr(supervised, "SECONDS_BETWEEN_READINGS", 0.0)
    recorder, _ = begin(1, question=1 + 3, **PLAIN)
    assert recorder.steps == [(1, 2)]
    recorder, _ = begin(2, checkpoint=tmp_path / "last.pt", question=1 + 2 + 3, **PLAIN)
    assert recorder.steps == [(1, 4), (1, 5)]
    recorder, _ = begin(2, checkpoint=tmp_path / "last.pt", **PLAIN)
    assert recorder.steps == [(epoch, step) for epoch in (2, 3) for step in (2, 4, 5)]


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_checkpoint_that_is_continued_stays_as_it_is(
    device: str, begin: Callable, fit: Callable, noisy_model: Callable, differences: Callable, tmp_path: Path
) -> None:
    """Whoever continues it twice gets the same twice."""
    begin(1, question=8, **ALL, device=device)
    content = load_checkpoint(tmp_path / "last.pt")
    fit(noisy_model(), checkpoint=content, **ALL, device=device)
    assert differences(content, load_checkpoint(tmp_path / "last.pt")) == []


@pytest.mark.gpu
@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_moves_to_another_device(first: str, second: str, begin: Callable, tmp_path: Path) -> None:
    begin(1, question=14, **PLAIN, device=first, precision="auto")
    recorder, _ = begin(2, checkpoint=tmp_path / "last.pt", **PLAIN, device=second, precision="auto")
    assert [row["epoch"] for row in recorder.checkpoints[-1]["state"]["history"]] == [1, 2, 3]


# The average of the weights


def test_the_average_is_what_is_evaluated_and_kept(
    fit: Callable, tiny_data: type, model: nn.Module, differences: Callable
) -> None:
    """By hand: after step n the average moves by 1 - d to the weights, d = min(0.52, (1 + n) / (10 + n))."""
    data = tiny_data()
    state, recorder, model, _, optimizer = fit(
        model, data, make_optimizer=lambda model: named(Watched, model, lr=0.1), ema_decay=0.52, epochs=2
    )
    average = optimizer.weights[0]
    for number, weights in enumerate(optimizer.weights[1:], start=1):
        d = min(0.52, (1 + number) / (10 + number))
        average = d * average + (1 - d) * weights
    average_now = recorder.checkpoints[1]["average"]
    found = torch.cat([average_now[name].double().flatten() for name, _ in model.named_parameters()])
    assert torch.allclose(found, average, rtol=1e-5, atol=1e-6)
    assert (found - optimizer.weights[-1]).abs().max() > 0.01
    best = recorder.checkpoints[0]["best"]
    assert differences(best, dict(recorder.checkpoints[0]["average"])) == []
    model.load_state_dict(best)
    valid_loss = nn.functional.cross_entropy(model.eval()(data.images), data.labels).item()
    assert state.history[0]["valid_loss"] == pytest.approx(valid_loss, rel=1e-5)


@pytest.mark.parametrize(
    ("has_initial_weights", "settings", "is_told"),
    [
        (False, {"freeze_epochs": 1}, True),
        (True, {"freeze_epochs": 1}, False),
        (False, {"freeze_epochs": 0}, False),
        (False, {"freeze_epochs": 1, "freeze_stages": 0}, False),
    ],
)
def test_frozen_noise_is_told(
    has_initial_weights: bool,
    settings: dict[str, int],
    is_told: bool,
    fit: Callable,
    model: nn.Module,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model.first_stages = lambda num: [model[0]][:num]
    model.has_initial_weights = has_initial_weights
    fitted = fit(model, epochs=1, **settings)
    told = f"trainer.freeze_epochs={settings['freeze_epochs']} freezes random weights at first"
    assert [message.startswith(told) for message in caplog.messages] == [True] * is_told
    fit(model, epochs=2, **settings, checkpoint=fitted.recorder.checkpoints[-1])
    assert len(caplog.messages) == is_told, "once: of a run that goes on it is known"
