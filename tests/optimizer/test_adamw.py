from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import hybridnet
from hybridnet.optimizer import parameter_groups
from hybridnet.optimizer.adamw import adamw

SETTINGS = {"base_lr": 1e-4, "head_lr": 1e-3, "weight_decay": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}


def _names(model: nn.Module) -> dict[str, set[str]]:
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, base_lr=1e-4, head_lr=1e-3, weight_decay=0.01)
    return {group["name"]: {by_id[id(p)] for p in group["params"]} for group in groups}


def test_backbone_and_new_parts_have_their_own_groups() -> None:
    model = hybridnet.create_model("hybrid", num_classes=3, overrides=["model.size=lite"])
    names = _names(model)
    assert list(names) == ["backbone, no decay", "backbone", "head, no decay", "head"]
    assert names["backbone"] >= {"backbone.conv1.weight", "backbone.layer4.1.conv2.weight"}
    assert names["backbone, no decay"] >= {"backbone.bn1.weight", "backbone.bn1.bias"}
    assert names["head"] >= {"fc.weight", "blocks.ca.conv_h.weight", "blocks.botlinear.attention.qkv.weight"}
    assert names["head, no decay"] >= {
        "fc.bias",
        "blocks.ca.bn1.weight",
        "blocks.ca.conv_h.bias",
        "blocks.botlinear.attention.position_scale",
        "blocks.botlinear.bn3.weight",
    }


def test_attention_inside_the_backbone_is_new() -> None:
    names = _names(hybridnet.create_model("eca", num_classes=3))
    assert "backbone.layer1.0.attention.conv.weight" in names["head"]


@pytest.mark.parametrize("name", ["plain", "eca", "ca", "bot", "botlinear", "hybrid"])
def test_every_parameter_is_in_exactly_one_group(name: str) -> None:
    model = hybridnet.create_model(name, num_classes=3)
    listed = [parameter for names in _names(model).values() for parameter in names]
    assert sorted(listed) == sorted(name for name, _ in model.named_parameters())


class _Scalar(nn.Module):
    """One decayed weight in the backbone, one bias and one weight in the head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Parameter(torch.full((1, 1), 2.0))
        self.weight = nn.Parameter(torch.full((1, 1), 2.0))
        self.bias = nn.Parameter(torch.full((1,), 2.0))

    def pretrained_parameter_names(self) -> set[str]:
        return {"backbone"}


def test_one_step_by_hand() -> None:
    """AdamW's first step is lr·(1 + weight_decay·weight) for a gradient of 1, without the decay for a bias."""
    model = _Scalar()
    optimizer = adamw(model, **SETTINGS | {"weight_decay": 0.5})
    (model.backbone.sum() + model.weight.sum() + model.bias.sum()).backward()
    optimizer.step()
    assert model.backbone.item() == pytest.approx(2 - 1e-4 * (1 + 0.5 * 2), abs=1e-7)
    assert model.weight.item() == pytest.approx(2 - 1e-3 * (1 + 0.5 * 2), abs=1e-7)
    assert model.bias.item() == pytest.approx(2 - 1e-3, abs=1e-7)


class _Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(6, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, (3, 5), groups=4)])

    def pretrained_parameter_names(self) -> set[str]:
        return set()


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_the_order_in_memory_changes_nothing(memory_format: torch.memory_format) -> None:
    """The CPU's fused kernel goes through the memory; the textbook's update goes element by element."""
    torch.manual_seed(0)
    model = _Convolutions().to(memory_format=memory_format)
    textbook = copy.deepcopy(model)
    optimizers = (
        adamw(model, **SETTINGS),
        torch.optim.AdamW(parameter_groups(textbook, base_lr=1e-4, head_lr=1e-3, weight_decay=0.01), foreach=False),
    )
    for _ in range(3):
        for parameter, other in zip(model.parameters(), textbook.parameters(), strict=True):
            parameter.grad = torch.randn_like(parameter)
            other.grad = parameter.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for parameter, other in zip(model.parameters(), textbook.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-5, atol=1e-7)
        assert optimizers[0].state[parameter]["exp_avg"].shape == parameter.shape


def test_an_update_copies_no_gradient() -> None:
    """The kernel copies those whose dimensions are not in the order of their memory: half the time of an update."""
    model = _Convolutions().to(memory_format=torch.channels_last)
    optimizer = adamw(model, **SETTINGS)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profiled:
        optimizer.step()
    assert "aten::clone" not in {event.key for event in profiled.key_averages()}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("base_lr", -1.0, "base_lr: must be >= 0, got -1.0"), ("betas", (0.9, 1.0), "betas: must be >= 0 and < 1")],
)
def test_wrong_settings_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adamw(_Scalar(), **SETTINGS | {name: value})


def test_a_whole_number_is_a_beta() -> None:
    """`optimizer.betas=[0,0.99]`, of which torch would want a float."""
    optimizer = adamw(_Scalar(), **SETTINGS | {"betas": (0, 0.99)})
    assert optimizer.param_groups[0]["betas"] == (0.0, 0.99)
