from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridnet.errors import TrainingError
from hybridnet.trainer import batch_function, supervised
from hybridnet.trainer import step as step_module
from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.device import find_precision
from hybridnet.trainer.gradients import Gradients, _Undo
from hybridnet.trainer.graphs import Captured
from hybridnet.trainer.step import Step, make_capturable
from tests.trainer.replaying import CpuGraphs

CPU = torch.device("cpu")
OFF = Compilation(compiles=False, captures=False, is_optional=False)
CAPTURES = Compilation(compiles=False, captures=True, is_optional=False)


def gradients(num_parts: int = 1) -> Gradients:
    return Gradients(find_precision("float32", CPU), num_parts=num_parts, oom="error", label_smoothing=0.0)


class Staged(nn.Sequential):
    """Two stages of a backbone, and a head."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        super().__init__(
            nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Dropout(0.2)),
            nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)),
        )

    def first_stages(self, num: int) -> list[nn.Module]:
        return list(self)[:num]


def groups(model: nn.Module) -> list[dict[str, Any]]:
    first, *rest = model.children()
    others = [parameter for module in rest for parameter in module.parameters()]
    return [{"params": list(first.parameters()), "name": "first", "lr": 1e-3}, {"params": others, "name": "rest"}]


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups(model), lr=1e-2, fused=True)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups(model), lr=1e-1, momentum=0.9, nesterov=True, fused=True)


def not_fused(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups(model), lr=1e-1)


# The captured step


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[CpuGraphs]:
    """Every trainer captures its steps, with a stand-in for CUDA graphs; those that were made."""
    made: list[CpuGraphs] = []

    def make(device: torch.device) -> CpuGraphs:
        made.append(CpuGraphs(device))
        return made[-1]

    monkeypatch.setattr(step_module, "CudaGraphs", make)
    monkeypatch.setattr(batch_function, "CudaGraphs", CpuGraphs)
    monkeypatch.setattr(supervised, "find_compilation", lambda *_, **__: CAPTURES)
    return made


@pytest.mark.parametrize("make_optimizer", [adamw, sgd])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "bf16"},
        {"clip_norm": 0.05, "label_smoothing": 0.1, "ema_decay": 0.9},
        {"accumulate": 2},
        {"freeze_stages": 1, "freeze_epochs": 3},
    ],
    ids=str,
)
def test_a_captured_training_is_the_same_training(
    fit: Callable, make_optimizer: Callable, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """The schedule moves, dropout draws anew, BatchNorm counts: none of it may be stuck in the capture."""
    settings = {"epochs": 8, "factor": lambda step: 0.93**step, "make_optimizer": make_optimizer, **options}
    torch.manual_seed(5)
    plain = fit(Staged(), **settings)
    graphs = request.getfixturevalue("captured")
    torch.manual_seed(5)
    again = fit(Staged(), **settings)
    assert sum(one.num_replays for one in graphs) > 20, "it was not captured"
    assert len(graphs) == 1 + ("freeze_epochs" in options), "what is trained changes: captured anew"
    # A learning rate in a tensor has 24 bits.
    for row, expected in zip(again.state.history, plain.state.history, strict=True):
        assert row == pytest.approx(expected, rel=2e-3 if "precision" in options else 1e-4)
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], tensor, rtol=1e-2, atol=2e-3)


class Counting(torch.optim.Optimizer):
    """Somebody's own, whose steps become smaller."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(groups(model), {"lr": 1e-1})
        self.num_steps = 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        self.num_steps += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] / self.num_steps * parameter.grad


def test_an_optimizer_that_counts_in_python_is_not_captured(
    fit: Callable, captured: list[CpuGraphs], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(
        TrainingError, match=r"step that cannot be recorded in this optimizer: Counting has no .*\n.*=off"
    ):
        fit(Staged(), make_optimizer=Counting)
    found = []
    for compilation in (replace(CAPTURES, is_optional=True), OFF):
        monkeypatch.setattr(supervised, "find_compilation", lambda *_, chosen=compilation, **__: chosen)
        torch.manual_seed(5)
        found.append(fit(Staged(), make_optimizer=Counting, epochs=4).state.history)
    assert found[0] == found[1] and captured == []
    assert "the step cannot be recorded as a CUDA graph and is made as it is written: Counting has no" in caplog.text


def test_rates_in_tensors_are_reported_as_they_are(fit: Callable, captured: list[CpuGraphs]) -> None:
    found = fit(Staged(), make_optimizer=adamw, factor=lambda step: 1 / (step + 1), epochs=2)
    assert [type(rate) for rate in found.state.rates] == [float, float]
    assert found.state.history[-1]["lr"] == 1e-3 / 10 and found.state.history[-1]["head_lr"] == 1e-2 / 10
    assert [group["lr"].item() for group in found.optimizer.param_groups] == pytest.approx([1e-3 / 11, 1e-2 / 11])


def test_a_captured_training_is_continued(fit: Callable, captured: list[CpuGraphs]) -> None:
    torch.manual_seed(5)
    whole = fit(Staged(), make_optimizer=adamw, epochs=4, factor=lambda step: 0.9**step)
    middle = whole.recorder.checkpoints[1]
    found = fit(Staged(), make_optimizer=adamw, epochs=4, factor=lambda step: 0.9**step, checkpoint=middle)
    assert found.state.history == whole.state.history


def test_what_cannot_be_captured_leaves_no_gradient_behind(make_training: Callable) -> None:
    training = make_training(Staged(), make_optimizer=adamw)
    step = Step(training, gradients(), clip_norm=math.inf, compilation=OFF)
    step.begin_epoch([])
    training.scaler.step = lambda optimizer: 1 / 0  # after the backward pass
    with pytest.raises(ZeroDivisionError):
        step(torch.randn(4, 3, 8, 8), torch.eye(3)[[0, 1, 2, 0]], torch.ones(3))
    assert all(parameter.grad is None for parameter in training.model.parameters())


@pytest.mark.parametrize("clip_norm", [math.inf, 0.5])
def test_what_cannot_be_captured_leaves_the_scaler_as_it_was(
    make_training: Callable, clip_norm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optimizer that reads whether gradients overflow cannot: they are unscaled by then."""
    states = []
    for fails in (False, True):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        training = make_training(Staged(), make_optimizer=not_fused, scaler=scaler)
        step = Step(training, gradients(), clip_norm=clip_norm, compilation=OFF)
        step.begin_epoch([])
        torch.manual_seed(2)
        batch = (torch.randn(4, 3, 8, 8), torch.eye(3)[[0, 1, 2, 0]], torch.ones(3))
        undo = _Undo(training.model, CPU)
        if fails:
            with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
                patch.setattr(scaler, "_maybe_opt_step", lambda *_, **__: 1 / 0)
                step(*batch)
            undo()
        step(*batch)
        states.append({**training.model.state_dict(), "scale": scaler._scale})
    for name, tensor in states[0].items():
        assert torch.equal(states[1][name], tensor), name


def test_only_what_can_be_captured_is_changed() -> None:
    model = Staged()
    for make, entries in ((adamw, {"capturable"}), (sgd, set())):
        optimizer = make(model)
        make_capturable(optimizer, CPU)
        for group in optimizer.param_groups:
            assert isinstance(group["lr"], Tensor) and group["lr"].dtype == torch.float32
            assert entries <= {name for name, value in group.items() if value is True}


def test_what_was_counted_on_a_cpu_is_counted_on_the_device() -> None:
    """A run that is continued: PyTorch leaves the counters of an optimizer that is not fused where they were."""
    model = nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    make_capturable(optimizer, torch.device("meta"))
    assert [kept["step"].device.type for kept in optimizer.state.values()] == ["meta", "meta"]


# Clipping costs nothing where it is off


def test_without_a_limit_no_norm_is_computed(make_training: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda parameters, norm: calls.append(norm))
    for limit in (math.inf, 0.5):
        step = Step(make_training(Staged(), make_optimizer=adamw), gradients(), clip_norm=limit, compilation=OFF)
        step.begin_epoch([])
        step(torch.randn(4, 3, 8, 8), torch.eye(3)[[0, 1, 2, 0]], torch.ones(3))
    assert calls == [0.5]


# Frozen stages


def test_frozen_stages_keep_weights_and_statistics(fit: Callable, tiny_data: type) -> None:
    model, before = Staged(), Staged()
    stages = {0: before[0].state_dict(), 1: before[1].state_dict()}
    fit(model, make_optimizer=adamw, epochs=2, freeze_stages=2, freeze_epochs=2)
    for index, expected in stages.items():
        assert all(torch.equal(model[index].state_dict()[name], value) for name, value in expected.items())
    assert not torch.equal(model[2][2].weight, before[2][2].weight)


def test_after_the_frozen_epochs_all_is_trained(fit: Callable) -> None:
    model, before = Staged(), Staged()
    history = fit(model, make_optimizer=adamw, epochs=3, freeze_stages=1, freeze_epochs=2).state.history
    assert len(history) == 3
    for name, value in model.named_parameters():
        assert value.requires_grad and not torch.equal(value, before.state_dict()[name]), name
    assert model[0][1].num_batches_tracked == 5  # those of the last epoch
    assert model[1][1].num_batches_tracked == 15


def test_what_a_model_has_frozen_itself_stays_so(fit: Callable) -> None:
    model, before = Staged(), Staged()
    model[1].requires_grad_(False)
    fit(model, make_optimizer=adamw, epochs=2, freeze_stages=2, freeze_epochs=1)
    assert torch.equal(model[1][0].weight, before[1][0].weight)
    assert not torch.equal(model[0][0].weight, before[0][0].weight)


def test_no_gradient_is_computed_for_frozen_stages(make_training: Callable) -> None:
    training = make_training(Staged(), make_optimizer=adamw)
    step = Step(training, gradients(), clip_norm=math.inf, compilation=OFF)
    step.begin_epoch(training.model.first_stages(2))
    seen = []
    training.model[1].register_full_backward_hook(lambda *_: seen.append("backward"))
    step(torch.randn(4, 3, 8, 8), torch.eye(3)[[0, 1, 2, 0]], torch.ones(3))
    assert seen == []
    step.begin_epoch([])
    step(torch.randn(4, 3, 8, 8), torch.eye(3)[[0, 1, 2, 0]], torch.ones(3))
    assert seen == ["backward"]


def test_a_training_with_frozen_stages_is_continued_bit_for_bit(fit: Callable, differences: Callable) -> None:
    settings = {"make_optimizer": adamw, "epochs": 4, "freeze_stages": 2, "freeze_epochs": 2, "ema_decay": 0.9}
    torch.manual_seed(7)
    whole = fit(Staged(), **settings)
    for number in range(3):
        found = fit(Staged(), checkpoint=whole.recorder.checkpoints[number], **settings)
        pairs = [fitted.recorder.checkpoints[-1] for fitted in (found, whole)]
        for checkpoint in pairs:
            for name in ("train_seconds", "wait_seconds"):
                checkpoint["state"].pop(name)
        assert differences(*pairs) == [], number
        whole.recorder.checkpoints[-1]["state"] |= {"train_seconds": 0.0, "wait_seconds": 0.0}


@pytest.mark.parametrize("clip_norm", [math.inf, 0.5])
def test_the_scaler_of_fp16_is_captured_too(make_training: Callable, clip_norm: float) -> None:
    """Also that it leaves out an update whose gradients overflow; the stand-in refuses a step that reads a number."""
    states = []
    for replays in (False, True):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=4)
        training = make_training(Staged(), make_optimizer=adamw, scaler=scaler)
        step = Step(training, gradients(), clip_norm=clip_norm, compilation=OFF)
        step.begin_epoch([])
        update = Captured(step.eager, CpuGraphs(CPU), name="step", is_optional=False) if replays else step.eager
        generator = torch.Generator().manual_seed(1)
        torch.manual_seed(2)  # for dropout
        for number in range(12):
            images = torch.randn(4, 3, 8, 8, generator=generator)
            update(images, torch.eye(3)[[0, 1, 2, 0]], torch.full((3,), math.inf if number in (1, 9) else 1.0))
        states.append({**training.model.state_dict(), "scale": scaler._scale, "tracker": scaler._growth_tracker})
    assert states[1]["scale"].item() == 8 * 0.5 * 2 * 0.5  # grows after four steps
    for name, tensor in states[0].items():
        assert torch.equal(states[1][name], tensor), name


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("make_optimizer", [adamw, sgd])
@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"precision": "fp16"}, {"clip_norm": 0.05}], ids=str)
def test_a_training_captured_on_a_gpu_is_the_same_training(
    fit: Callable, make_optimizer: Callable, options: dict[str, Any]
) -> None:
    settings = {"device": "cuda", "epochs": 8, "factor": lambda step: 0.93**step, "make_optimizer": make_optimizer}
    histories = []
    for mode in ("off", "graph"):
        torch.manual_seed(5)
        histories.append(fit(Staged(), compile=mode, **settings, **options).state.history)
    for row, expected in zip(*histories, strict=True):
        assert row == pytest.approx(expected, rel=1e-3 if not options else 2e-2)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("mode", ["off", "graph"])
def test_no_step_waits_for_the_gpu(fit: Callable, tiny_data: type, mode: str) -> None:
    """Between two readings the host only says what is to be done."""

    class Watched(tiny_data):
        def train_batches(self, epoch: int, *, first: int = 0) -> Any:
            for number, batch in enumerate(super().train_batches(epoch, first=first)):
                torch.cuda.set_sync_debug_mode("default")
                there = batch.to(torch.device("cuda"))
                torch.cuda.set_sync_debug_mode("error" if epoch > 4 and 0 < number < 4 else "default")
                yield there

    try:
        fit(Staged(), data=Watched(), device="cuda", compile=mode, epochs=6, log_every=100, make_optimizer=adamw)
    finally:
        torch.cuda.set_sync_debug_mode("default")
