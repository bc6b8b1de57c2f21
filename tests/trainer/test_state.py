from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from hybridnet.checkpoint import load_checkpoint, save_checkpoint
from hybridnet.errors import TrainingError
from hybridnet.trainer.metrics import Evaluation
from hybridnet.trainer.ranks import Ranks
from hybridnet.trainer.state import State, Training, jump

ANSWERS = Evaluation(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))


def cosine(num_steps: int) -> Callable[[int], float]:
    return lambda step: 0.5 * (1 + math.cos(math.pi * step / num_steps))


def two_groups(
    *, base_lr: float = 1e-3, head_lr: float = 3e-2, weight_decay: float = 0.1, beta: float = 0.9
) -> Callable[[nn.Module], torch.optim.Optimizer]:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        groups = [
            {"name": "backbone", "params": list(model[0].parameters()), "lr": base_lr, "weight_decay": weight_decay},
            {"name": "head", "params": list(model[3].parameters()), "lr": head_lr, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, betas=(beta, 0.99))

    return make


# The schedule


def test_a_jump_leads_to_the_rates_of_as_many_steps(model: nn.Module) -> None:
    """To the last bit, for two groups; and from there on step by step. Warnings are errors."""
    optimizer = two_groups()(model)
    scheduler = LambdaLR(optimizer, cosine(20))
    rates = [[group["lr"] for group in optimizer.param_groups]]
    for _ in range(21):
        optimizer.step()
        scheduler.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    for step in range(1, 21):
        optimizer = two_groups()(model)
        scheduler = LambdaLR(optimizer, cosine(20))
        jump(scheduler, step)
        assert [group["lr"] for group in optimizer.param_groups] == scheduler.get_last_lr() == rates[step]
        assert scheduler.last_epoch == step
        scheduler.step()
        assert scheduler.get_last_lr() == rates[step + 1]
        jump(scheduler, step)
        assert scheduler.get_last_lr() == rates[step]


# What is saved


def trained(training: Training, *, num_steps: int = 3) -> Training:
    for step in range(1, num_steps + 1):
        training.model(torch.randn(5, 3, 8, 10)).square().mean().backward()
        training.optimizer.step()
        training.optimizer.zero_grad()
        training.state.rates = [group["lr"] for group in training.optimizer.param_groups]
        jump(training.scheduler, step)
        training.average.update(step)
        training.totals.add(torch.tensor(0.1 * step), torch.eye(3), torch.tensor([0, 1, 1]), num_images=3, step=step)
        training.state.step = training.state.batch = step
    return training


def saved(training: Training, tmp_path: Path) -> dict[str, Any]:
    """As it comes back from a file, which holds tensors and plain types only."""
    save_checkpoint(tmp_path / "a.pt", training.state_dict())
    return load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_all_that_changes_is_saved_and_loaded(
    ema_decay: float, noisy_model: Callable, make_training: Callable, differences: Callable, tmp_path: Path
) -> None:
    options = {"make_optimizer": two_groups(), "factor": cosine(20), "ema_decay": ema_decay}
    one = trained(make_training(noisy_model(), **options))
    one.state.history, one.state.best_epoch = [{"epoch": 1, "valid_acc": 0.1 + 0.2}], 1
    one.keep_best(ANSWERS)
    content = saved(one, tmp_path)
    names = {"model", "average", "best", "optimizer", "scheduler", "scaler", "state", "totals", "random", "others"}
    assert set(content) == names
    other = make_training(noisy_model(), **options)
    assert differences(saved(other, tmp_path), content)
    other.load_state_dict(content)
    assert differences(saved(other, tmp_path), content) == []
    assert other.state == one.state and type(other.state) is State


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_right_after_the_best_epoch_its_weights_are_saved_once(
    ema_decay: float, noisy_model: Callable, make_training: Callable, differences: Callable, tmp_path: Path
) -> None:
    """They are then those of the model, or of the average; after the next step they are not."""
    training = trained(make_training(noisy_model(), ema_decay=ema_decay))
    training.state.epoch, training.state.batch, training.state.best_epoch = 2, 0, 2
    training.keep_best(ANSWERS)
    content = training.state_dict()
    owner = content["average" if ema_decay else "model"]
    assert all(tensor.data_ptr() == owner[name].data_ptr() for name, tensor in content["best"].items())
    before = saved(training, tmp_path)["best"]
    assert differences(before, training.best) == []
    trained(training)
    training.state.batch = 1
    assert differences(training.state_dict()["best"], before) == []
    training.state.batch, training.state.epoch = 0, 3
    assert differences(training.state_dict()["best"], before) == [], "the best epoch was another one"


def test_a_training_that_has_not_begun_is_saved_and_loaded(
    noisy_model: Callable, make_training: Callable, differences: Callable, tmp_path: Path
) -> None:
    """Its rates are those of the first step, and nothing warns of a schedule that runs ahead."""
    content = saved(make_training(noisy_model(), make_optimizer=two_groups(), factor=cosine(20)), tmp_path)
    training = make_training(noisy_model(), make_optimizer=two_groups(), factor=cosine(20))
    training.load_state_dict(content)
    assert differences(saved(training, tmp_path), content) == []
    assert training.scheduler.get_last_lr() == [1e-3, 3e-2]


@pytest.mark.parametrize("format_", [torch.channels_last, torch.contiguous_format])
def test_weights_may_be_in_another_order_in_memory(
    format_: torch.memory_format, noisy_model: Callable, make_training: Callable, tmp_path: Path
) -> None:
    """A fused update goes through the memory: averages of the gradient in another order would be those of others."""

    def fused(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)

    formats = {torch.channels_last, torch.contiguous_format}
    (other,) = formats - {format_}
    before = trained(make_training(noisy_model().to(memory_format=format_), make_optimizer=fused))
    content = saved(before, tmp_path)
    after = []
    for its_format in (format_, other):
        training = make_training(noisy_model().to(memory_format=its_format), make_optimizer=fused)
        training.load_state_dict(content)
        for parameter in training.model.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)
        training.optimizer.step()
        after.append([parameter.detach() for parameter in training.model.parameters()])
    for same, moved in zip(*after, strict=True):
        torch.testing.assert_close(same, moved, rtol=0, atol=0)


def test_what_is_loaded_is_not_changed_by_going_on(
    noisy_model: Callable, make_training: Callable, differences: Callable, tmp_path: Path
) -> None:
    content = saved(trained(make_training(noisy_model(), ema_decay=0.9)), tmp_path)
    training = make_training(noisy_model(), ema_decay=0.9)
    training.load_state_dict(content)
    trained(training).state.history.append({"epoch": 1})
    training.keep_best(ANSWERS)
    assert differences(content, load_checkpoint(tmp_path / "a.pt")) == []


def test_the_generator_of_the_device_that_trains_is_continued(
    noisy_model: Callable, make_training: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    states = {"cuda:1": torch.arange(4.0)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[str(device)])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.update({str(device): state}))
    training = make_training(noisy_model())
    training.device = torch.device("cuda:1")
    content = saved(training, tmp_path)
    states["cuda:1"] = torch.zeros(4)
    training.load_state_dict(content)
    assert states["cuda:1"].tolist() == [0, 1, 2, 3]


# What may change


def test_settings_are_those_of_the_new_optimizer_and_schedule(
    noisy_model: Callable, make_training: Callable, differences: Callable, tmp_path: Path
) -> None:
    """From here on; the optimizer's averages of the gradients are continued."""
    content = saved(trained(make_training(noisy_model(), make_optimizer=two_groups(), factor=cosine(20))), tmp_path)
    make_optimizer = two_groups(base_lr=0.5, head_lr=0.25, weight_decay=0.0, beta=0.8)
    training = make_training(noisy_model(), make_optimizer=make_optimizer, factor=cosine(30))
    training.load_state_dict(content)
    groups = training.optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.5 * cosine(30)(3), 0.25 * cosine(30)(3)]
    assert [group["initial_lr"] for group in groups] == [0.5, 0.25]
    assert [group["weight_decay"] for group in groups] == [0.0, 0.0]
    assert [group["betas"] for group in groups] == [(0.8, 0.99), (0.8, 0.99)]
    assert [group["name"] for group in groups] == ["backbone", "head"]
    assert [parameter for group in groups for parameter in group["params"]] == [
        *training.model[0].parameters(),
        *training.model[3].parameters(),
    ]
    assert differences(training.optimizer.state_dict()["state"], content["optimizer"]["state"]) == []
    assert training.state.rates == content["state"]["rates"]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    groups = [{"params": list(part.parameters())} for part in (model[0], model[3])]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


@pytest.mark.parametrize(("before", "after"), [(sgd, two_groups()), (two_groups(), sgd)])
def test_another_optimizer_begins_anew(
    before: Callable,
    after: Callable,
    noisy_model: Callable,
    make_training: Callable,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the one before has kept of the gradients is of no use to it."""
    content = saved(trained(make_training(noisy_model(), make_optimizer=before)), tmp_path)
    training = make_training(noisy_model(), make_optimizer=after)
    training.load_state_dict(content)
    assert training.optimizer.state_dict()["state"] == {}
    assert "the optimizer begins anew" in caplog.text
    trained(training)
    assert all(torch.isfinite(tensor).all() for tensor in training.model.state_dict().values())


@pytest.mark.parametrize("num_epochs", [2, 3, 7])
def test_more_epochs_stretch_the_schedule(num_epochs: int, fit: Callable, noisy_model: Callable) -> None:
    """Two epochs of a schedule over two; all further ones have the rates of a longer run from the beginning."""
    options = {"make_optimizer": two_groups()}
    first = fit(noisy_model(), epochs=2, factor=cosine(10), **options)
    assert first.state.history[-1]["lr"] == 1e-3 * cosine(10)(9)
    num_steps = 5 * num_epochs
    second = fit(
        noisy_model(),
        epochs=num_epochs,
        factor=cosine(num_steps),
        checkpoint=first.recorder.checkpoints[-1],
        **options,
    )
    rows = second.state.history
    assert rows[:2] == first.state.history and len(rows) == num_epochs
    expected = [(1e-3 * cosine(num_steps)(step), 3e-2 * cosine(num_steps)(step)) for step in range(14, num_steps, 5)]
    assert [(row["lr"], row["head_lr"]) for row in rows[2:]] == expected


def test_a_lower_rate_or_decay_counts_from_where_the_run_goes_on(fit: Callable, noisy_model: Callable) -> None:
    """With a rate of nothing no weight moves any more, with one of its own decay alone."""
    first = fit(noisy_model(), epochs=1, make_optimizer=two_groups())
    still = fit(
        noisy_model(),
        epochs=2,
        make_optimizer=two_groups(base_lr=0.0, head_lr=0.0),
        checkpoint=first.recorder.checkpoints[-1],
    )
    for one, other in zip(first.model.parameters(), still.model.parameters(), strict=True):
        assert torch.equal(one, other)
    results = [
        fit(
            noisy_model(),
            epochs=2,
            make_optimizer=two_groups(weight_decay=weight_decay),
            checkpoint=first.recorder.checkpoints[-1],
        )
        .model[0][0]
        .weight.norm()
        for weight_decay in (0.1, 100.0)
    ]
    assert results[1] < 0.7 * results[0]


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True), (True, True)])
def test_the_scaler_of_fp16_may_be_switched_on_and_off(
    before: bool, after: bool, noisy_model: Callable, make_training: Callable, tmp_path: Path
) -> None:
    scalers = [torch.amp.GradScaler("cpu", enabled=on, init_scale=scale) for on, scale in ((before, 8), (after, 32))]
    content = saved(trained(make_training(noisy_model(), scaler=scalers[0])), tmp_path)
    training = make_training(noisy_model(), scaler=scalers[1])
    training.load_state_dict(content)
    assert training.scaler.get_scale() == {(True, True): 8, (False, True): 32, (True, False): 1}[before, after]


@pytest.mark.parametrize(("before", "after"), [(0.9, 0.0), (0.0, 0.9)])
def test_the_average_may_be_switched_on_and_off(
    before: float,
    after: float,
    noisy_model: Callable,
    make_training: Callable,
    differences: Callable,
    tmp_path: Path,
) -> None:
    """Switched on it begins with the weights that are loaded, not with new ones."""
    content = saved(trained(make_training(noisy_model(), ema_decay=before)), tmp_path)
    training = make_training(noisy_model(), ema_decay=after)
    training.load_state_dict(content)
    assert differences(dict(training.average.model.state_dict()), dict(content["model"])) == []


# What is kept, and what is refused


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_best_weights_are_a_copy_of_those_that_are_evaluated(
    ema_decay: float, noisy_model: Callable, make_training: Callable, differences: Callable
) -> None:
    training = trained(make_training(noisy_model(), ema_decay=ema_decay))
    training.keep_best(ANSWERS)
    evaluated = {name: tensor.clone() for name, tensor in training.average.model.state_dict().items()}
    assert differences(training.best, evaluated) == []
    trained(training)
    assert differences(training.best, evaluated) == []
    assert not any(tensor.requires_grad for tensor in training.best.values())


def test_the_row_of_the_best_epoch() -> None:
    rows = [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
    assert State(history=rows, best_epoch=2).best_row == {"epoch": 2}
    assert State(history=rows, best_epoch=1).best_row == {"epoch": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["0.0.weight", "0.1.running_var", "3.bias"])
def test_weights_and_statistics_that_are_not_finite_are_found(
    name: str, value: float, noisy_model: Callable, make_training: Callable
) -> None:
    training = make_training(noisy_model())
    assert training.has_finite_weights()
    training.model.state_dict()[name][-1] = value
    assert not training.has_finite_weights()


def test_a_bad_loss_is_reported_with_the_rates_of_the_last_step(noisy_model: Callable, make_training: Callable) -> None:
    training = make_training(noisy_model(), make_optimizer=two_groups())
    training.state = State(epoch=4, batch=2, step=22, rates=[1.23456e-4, 0.5])
    for step, loss in ((21, 1.0), (22, math.nan)):
        training.totals.add(torch.tensor(loss), torch.eye(3), torch.tensor([0, 1, 2]), num_images=3, step=step)
    with pytest.raises(TrainingError) as caught:
        training.read()
    assert str(caught.value) == (
        "error: loss that is not finite in epoch 5, step 22: learning rates: backbone 0.000123, head 0.5\n"
        "hint: try optimizer.base_lr and optimizer.head_lr ten times lower, trainer.clip_norm=1 "
        "or trainer.precision=float32"
    )


def test_rates_are_told_once_for_groups_that_differ_in_their_decay(
    noisy_model: Callable, make_training: Callable
) -> None:
    def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
        names = ("backbone, no decay", "backbone", "head, no decay", "head")
        groups = [{"name": name, "params": [p]} for name, p in zip(names, model.parameters(), strict=False)]
        return torch.optim.SGD(groups, lr=0.5)

    training = make_training(noisy_model(), make_optimizer=make_optimizer)
    training.state.rates = [1e-4, 1e-4, 1e-3, 1e-3]
    assert training.describe_rates() == "learning rates: backbone 0.0001, head 0.001"


def test_rates_of_an_optimizer_without_names(noisy_model: Callable, make_training: Callable) -> None:
    """Of somebody's own."""
    training = make_training(noisy_model(), make_optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.5))
    training.state.rates = [0.5]
    assert training.describe_rates() == "learning rates: group 1 0.5"


def test_fewer_ranks_take_over_what_the_others_had(
    noisy_model: Callable, make_training: Callable, tmp_path: Path
) -> None:
    """The first takes all sums; what was drawn for the others is drawn anew."""
    content = saved(trained(make_training(noisy_model())), tmp_path)
    own = content["totals"]
    content["others"] = [{"totals": {**own, "sums": [2.0, 1.0]}, "random": content["random"]}]
    alone = make_training(noisy_model())
    alone.load_state_dict(content)
    assert alone.totals.state_dict() == {**own, "sums": [own["sums"][0] + 2.0, own["sums"][1] + 1.0]}
    second = make_training(noisy_model())
    second.ranks = Ranks(rank=1, num=3, local_rank=1)
    second.load_state_dict(content)
    assert second.totals.state_dict() == {**own, "sums": [0.0, 0.0]}
    assert not torch.equal(torch.get_rng_state(), content["random"]["torch"])
