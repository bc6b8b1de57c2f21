from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

timm = pytest.importorskip("timm")

from hybridnet.errors import InputError  # noqa: E402
from hybridnet.model.backbone.timm_networks import create, download, require_known, survey  # noqa: E402


def _refused(name: str, *, pretrained: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        require_known(name, pretrained=pretrained)
    return str(caught.value)


@pytest.mark.parametrize(("name", "pretrained"), [("resnet18", False), ("resnet18.a1_in1k", True), ("resnet18", True)])
def test_what_timm_has_is_known(name: str, pretrained: bool) -> None:
    require_known(name, pretrained=pretrained)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet81",
            "in model.backbone.name=resnet81: timm has no network of this name\nhint: did you mean resnet18, ",
        ),
        ("xyz", "timm has no network of this name\nhint: see timm.list_models()"),
        ("resnet18.a1", "no weights 'a1' for resnet18\nhint: did you mean resnet18.a3_in1k, "),
        (
            "local-dir:x",
            "hint: a name of timm's own list; weights from elsewhere: model.backbone.weights=<file or run fo",
        ),
        ("hf-hub:timm/resnet18.a1_in1k", "unknown network"),
        ("timm/resnet18", "hint: a name of timm's own list; weights from elsewhere: "),
        ("resnetblur18.a1_in1k", "no weights 'a1_in1k' for resnetblur18\nhint: resnetblur18"),
    ],
)
def test_others_are_refused_with_what_may_be_meant(name: str, message: str) -> None:
    assert message in _refused(name)


def test_weights_that_do_not_exist_are_refused() -> None:
    name = next(n for n in timm.list_models() if not timm.get_pretrained_cfg(n).has_weights)
    require_known(name, pretrained=False)
    assert "timm has no weights for it\nhint: set model.pretrained=false" in _refused(name, pretrained=True)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    message = 'missing package in model/backbone=timm: timm is not installed\nhint: pip install -e ".[timm]"'
    assert message in _refused("resnet18")


def test_a_network_has_the_stride_that_is_asked_for() -> None:
    for stride in (8, 16, 32):
        assert create("resnet18", stride).feature_info.reduction()[-1] == stride
    with pytest.raises(InputError, match=r"output_stride=16: test_vit cannot do that"):
        create("test_vit", 16)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "test_convnext", "test_mambaout"])
def test_a_sequence_is_cut_where_its_maps_are(name: str) -> None:
    """Every part stands once, in order, and what comes out of each stage is the map that timm gives."""
    stages, _ = survey(name, None)
    network = create(name, None).eval()
    parts = [part for stage in stages for part in stage]
    assert len(parts) == len(set(parts))
    assert 0 < len(stages) <= 4
    x = images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    maps = []
    with torch.no_grad():
        for stage in stages:
            for part in stage:
                x = network.get_submodule(part)(x)
            maps.append(x)
        expected = network(images)[-len(stages) :]
    assert all(torch.equal(found, wanted) for found, wanted in zip(maps, expected, strict=True))


def test_what_is_no_sequence_is_not_cut() -> None:
    assert survey("test_vit", None) == (None, [False])
    assert survey("selecsls42", None) == (None, [True]), "its parts hand on several maps"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", [True] * 4),
        ("mobilenetv1_100", [True] * 4),  # ReLU6
        ("mobilenetv4_conv_small", [True, True, False, True]),
        ("test_convnext", [False] * 4),
    ],
)
def test_maps_of_a_relu_are_told(name: str, expected: list[bool]) -> None:
    assert survey(name, None)[1] == expected


def test_a_survey_draws_no_random_number() -> None:
    survey.cache_clear()
    before = torch.get_rng_state()
    survey("resnet18", 16)
    assert torch.equal(torch.get_rng_state(), before)


class Own(torch.nn.Module):
    def __init__(self, after: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.pretrained_cfg = {"input_size": (3, 8, 8)}
        self.relu, self.after = torch.nn.ReLU(), after

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.after(self.relu(x))]


def test_a_network_that_reads_numbers_cannot_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda name, **options: Own(lambda x: x * x.sum().item()))
    with pytest.raises(
        InputError, match=r"unusable network in model.backbone.name=x: it cannot be checked before it is"
    ):
        survey("x", None)


def test_what_a_relu_gave_may_be_changed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for after in (lambda x: x, lambda x: x.sub_(1)):
        monkeypatch.setattr(timm, "create_model", lambda name, after=after, **options: Own(after))
        survey.cache_clear()
        found.append(survey("x", None))
    survey.cache_clear()
    assert found == [(None, [True]), (None, [False])]


def test_without_a_network_a_hint_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **options: Any) -> None:
        raise FileNotFoundError("An error happened\nwhile trying to locate the file on the Hub")

    monkeypatch.setattr(timm, "create_model", fail)
    message = r"cannot download the weights of resnet18 \(An error happened while"
    with pytest.raises(InputError, match=message) as caught:
        download("resnet18", None)
    assert "model.backbone.weights=<file or run folder>" in str(caught.value)
