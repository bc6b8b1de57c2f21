"""Initial weights: what is read from where, what fits, and what is said about the rest. No test uses the network."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from hybridnet.errors import InputError
from hybridnet.model.backbone import weights

URL = "https://example.invalid/resnet18.pth"


def small_net() -> nn.Module:
    return nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 1, bias=False), bn1=nn.BatchNorm2d(4)))


def some_state() -> dict[str, Tensor]:
    return {"conv1.weight": torch.randn(4, 3, 1, 1), "bn1.weight": torch.randn(4)}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("model", ["resnet18", {"name": "resnet18", "layers": [2, 2, 2, 2]}])
def test_what_a_model_is_called_or_made_of_is_no_state_dict(model: Any, tmp_path: Path) -> None:
    state = some_state()
    torch.save({"model": model, "state_dict": state}, tmp_path / "some.pt")
    assert_same(weights.read(str(tmp_path / "some.pt")), state)


@pytest.mark.parametrize("wrap", ["", "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_reads_a_file(wrap: str, prefix: str, tmp_path: Path) -> None:
    state = some_state()
    content: dict[str, Any] = {f"{prefix}{name}": value for name, value in state.items()}
    if "backbone" in prefix:
        content["fc.weight"] = torch.zeros(2, 4)
        state["fc.weight"] = content["fc.weight"]  # not the backbone's: kept, so that it is told as not used
    torch.save({wrap: content, "epoch": 3} if wrap else content, tmp_path / "weights.pth")
    assert_same(weights.read(str(tmp_path / "weights.pth")), state)


def test_a_tensor_without_a_name_is_none_of_the_backbones(tmp_path: Path) -> None:
    torch.save({0: torch.zeros(3), "module.conv1.weight": torch.ones(2)}, tmp_path / "weights.pth")
    assert_same(weights.read(str(tmp_path / "weights.pth")), {"0": torch.zeros(3), "conv1.weight": torch.ones(2)})


def test_reads_the_best_model_of_a_run_folder(tmp_path: Path) -> None:
    state = some_state()
    torch.save({"model": state}, tmp_path / "best_model.pt")
    torch.save({"model": {"conv1.weight": torch.zeros(1)}}, tmp_path / "last.pt")
    assert_same(weights.read(str(tmp_path)), state)


def test_refuses_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing checkpoint in .*best_model\.pt: no such file"):
        weights.read(str(tmp_path))
    with pytest.raises(InputError, match=r"missing weights in model\.backbone\.weights=.*absent\.pth: no such file or"):
        weights.read(str(tmp_path / "absent.pth"))


@pytest.mark.parametrize(
    ("content", "keys"), [({"epoch": 3, "net": some_state(), 5: "x"}, "epoch, net, 5"), ({}, "none")]
)
def test_names_what_is_there_where_no_state_dict_is_found(content: dict[Any, Any], keys: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError) as caught:
        weights.read(str(tmp_path / "other.pth"))
    assert str(caught.value) == (
        f"error: unusable weights in model.backbone.weights={tmp_path / 'other.pth'}: "
        f"no tensors where a state dict is expected; keys of the file: {keys}\n"
        "hint: save the state dict alone: torch.save(model.state_dict(), …)"
    )


def test_loads_what_fits_and_reports_the_rest() -> None:
    net = small_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = {"conv1.weight": torch.randn(4, 3, 1, 1), "bn1.weight": torch.randn(5), "fc.weight": torch.randn(2, 4)}
    lines = weights.load_into(net, state, source="somewhere")
    assert lines == [
        "backbone weights from somewhere: loaded 1 of 6 tensors",
        "  not loaded, another shape: bn1.weight (5,) there, (4,) here",
        "  not in the file, left as initialised: bn1.bias, bn1.running_mean, bn1.running_var, bn1.num_batches_tracked",
        "  in the file, not used: fc.weight",
    ]
    after = net.state_dict()
    assert torch.equal(after.pop("conv1.weight"), state["conv1.weight"])
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_says_nothing_more_when_all_fits() -> None:
    source, net = small_net(), small_net()
    lines = weights.load_into(net, source.state_dict(), source="somewhere")
    assert lines == ["backbone weights from somewhere: loaded 6 of 6 tensors"]
    assert_same(net.state_dict(), source.state_dict())


@pytest.mark.parametrize(("num", "end"), [(8, "extra6, extra7"), (11, "extra6, extra7 and 3 more")])
def test_long_lists_are_shortened(num: int, end: str) -> None:
    state = {"conv1.weight": torch.zeros(4, 3, 1, 1)} | {f"extra{i}": torch.zeros(1) for i in range(num)}
    last = weights.load_into(small_net(), state, source="somewhere")[-1]
    assert last.endswith(end)


def test_refuses_weights_of_which_most_have_another_shape() -> None:
    net = small_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    wide = {"conv1.weight": torch.zeros(8, 3, 1, 1), "bn1.weight": torch.zeros(8), "fc.weight": torch.zeros(2, 8)}
    with pytest.raises(InputError) as caught:
        weights.load_into(net, wide | {"bn1.num_batches_tracked": torch.tensor(7)}, source="somewhere")
    assert str(caught.value) == (
        "error: unusable weights in model.backbone.weights=somewhere: 2 of the 3 tensors with a name of this backbone "
        "have another shape: conv1.weight (8, 3, 1, 1) there, (4, 3, 1, 1) here\n"
        "hint: choose the same backbone, for instance model/backbone=resnet50"
    )
    assert_same(net.state_dict(), before)


@pytest.mark.parametrize(
    ("changes", "num", "num_shapes"),
    [
        ({"bn1.weight": torch.zeros(5), "bn1.bias": torch.zeros(5)}, 4, 2),
        ({"conv1.weight": None, "bn1.weight": None, "bn1.bias": None, "bn1.running_var": None}, 2, 0),
    ],
)
def test_warns_of_a_mixture(
    changes: dict[str, Any], num: int, num_shapes: int, caplog: pytest.LogCaptureFixture
) -> None:
    state = {name: value for name, value in (small_net().state_dict() | changes).items() if value is not None}
    weights.load_into(small_net(), state, source="somewhere")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f"only {num} of the 6 tensors of this backbone come from somewhere, {num_shapes} have another shape there; "
        "training begins from a mixture with random weights"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conv1.weight": torch.zeros(4, 1, 1, 1)},
        {"bn1.weight": None, "bn1.bias": None, "bn1.running_var": None},
    ],
)
def test_another_stem_or_half_of_the_tensors_is_no_mixture(
    changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    state = {name: value for name, value in (small_net().state_dict() | changes).items() if value is not None}
    weights.load_into(small_net(), state, source="somewhere")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("names", "there"),
    [
        (["head.weight", "encoder.0.bn1.weight", "encoder.0.conv1.weight"], "encoder.0.conv1.weight"),
        (["preconv1.weight", "encoder.conv1.weight"], "encoder.conv1.weight"),
        (["patch_embed.weight", "cls_token"], "patch_embed.weight"),
    ],
)
def test_shows_a_name_from_each_side_where_none_is_the_same(names: list[str], there: str) -> None:
    """A prefix is told by the same tensor's name with it and without."""
    with pytest.raises(InputError) as caught:
        weights.load_into(small_net(), {name: torch.zeros(4) for name in names}, source="somewhere")
    assert str(caught.value) == (
        f"error: unusable weights in model.backbone.weights=somewhere: none of its {len(names)} tensors has a name of "
        f"this backbone: {there} there, conv1.weight here\n"
        "hint: rename them, or choose the backbone that has their names"
    )


@pytest.mark.parametrize("value", [float("nan"), -float("inf"), 1e200])
def test_refuses_what_is_not_finite_and_names_it(value: float) -> None:
    """float32 holds no 1e200. What is not used may be anything."""
    net = small_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = {"fc.weight": torch.tensor([value])} | some_state()
    state["bn1.weight"] = torch.tensor([1.0, 2.0, value, 4.0], dtype=torch.float64)
    with pytest.raises(InputError, match=r"weights=somewhere: bn1\.weight holds NaN or infinity\nhint: the training"):
        weights.load_into(net, state, source="somewhere")
    assert_same(net.state_dict(), before)
    del state["bn1.weight"]
    assert weights.load_into(net, state, source="somewhere")[0].endswith("loaded 1 of 6 tensors")


@pytest.mark.parametrize("error", [URLError("no route to host"), OSError("no route to host")])
def test_without_a_network_a_hint_is_given(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, **options: Any) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(InputError, match=rf"cannot download {URL} \(no route to host\)") as caught:
        weights.download(URL)
    assert f"hint: put the file into {torch.hub.get_dir()}/checkpoints, or" in str(
        caught.value
    ) and "model.backbone.weights=" in str(caught.value)


def test_a_download_runs_no_code_and_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    state, asked = some_state(), {}

    def fake(url: str, **options: Any) -> dict[str, Tensor]:
        asked.update(options, url=url)
        return state

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fake)
    assert_same(weights.download(URL), state)
    assert asked == {"url": URL, "map_location": "cpu", "check_hash": True, "weights_only": True}
