"""timm's networks as backbones: the same maps, cut where ours can be cut, and nothing read while a model is made."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

timm = pytest.importorskip("timm")

from safetensors.torch import save_file  # noqa: E402

import hybridnet  # noqa: E402
from hybridnet import config, experiment  # noqa: E402
from hybridnet.checkpoint import load_checkpoint  # noqa: E402
from hybridnet.errors import InputError  # noqa: E402
from hybridnet.model.backbone.timm import Timm  # noqa: E402
from hybridnet.model.bot import BoTBlock, SelfAttention  # noqa: E402
from hybridnet.model.botlinear import LinearAttention  # noqa: E402
from hybridnet.model.ca import CoordinateAttention  # noqa: E402
from hybridnet.model.eca import ECA  # noqa: E402
from hybridnet.model.hybrid import HybridClassifier  # noqa: E402
from tests.trainer.replaying import CpuGraphs  # noqa: E402

# The smallest networks that timm has: sequences, one of them flattened, EfficientNetFeatures, and (B, H, W, C).
CUT = ("test_resnet", "test_convnext", "test_efficientnet", "test_mambaout")
RECTIFIED = {
    "test_resnet": True,
    "regnetx_002": True,
    "mobilenetv3_small_050": False,  # has ReLUs too
    "test_convnext": False,
    "test_vit": False,
}
NEUTRAL = {"stem": "imagenet", "pretrained": False, "weights": None, "freeze_batch_norm": False, "output_stride": None}
KNOWN: config.Known = {}
BLOCKS = {
    "ca": partial(CoordinateAttention, reduction=8, identity_init=True),
    "lite": partial(
        BoTBlock, attention=partial(SelfAttention, heads=2, reference_size=(3, 5)), size="lite", identity_init=True
    ),
    "full": partial(
        BoTBlock, attention=partial(LinearAttention, heads=4, feature_map="elu"), size="full", identity_init=True
    ),
}


def backbone(name: str = "test_resnet", **settings: Any) -> Timm:
    return Timm(**{"name": name, **NEUTRAL, **settings})


def random_images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def composed(*overrides: str) -> config.DictConfig:
    return config.compose("train", ["model/backbone=timm", "data.image_size=160", *overrides], known=KNOWN)


def classifier(model: str, name: str, *overrides: str) -> nn.Module:
    torch.manual_seed(0)
    return experiment.build_model(composed(f"model={model}", f"model.backbone.name={name}", *overrides), num_classes=4)


def faults(*overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        experiment.check(composed(*overrides))
    return str(caught.value)


@pytest.mark.parametrize("name", [*CUT, "test_vit"])
def test_gives_timms_maps(name: str, randomise: Callable[..., nn.Module]) -> None:
    theirs = randomise(timm.create_model(name, features_only=True), seed=0).eval()
    ours = backbone(name).eval()
    ours.network.load_state_dict(theirs.state_dict())
    images = random_images(2, 3, 160, 160)
    with torch.no_grad():
        maps = theirs(images)[-4:]
        if name == "test_mambaout":
            maps = [m.permute(0, 3, 1, 2) for m in maps]
        assert torch.equal(ours(images), maps[-1])
        if name in CUT:
            assert [m.shape[1] for m in maps] == list(ours.channels)
            assert all(torch.equal(ours(images, stop=k), maps[k - 1]) for k in range(1, 5))
    assert maps[-1].shape[1] == ours.channels[-1] and len(ours.channels) == 4


@pytest.mark.parametrize("name", CUT)
def test_stages_can_be_applied_in_two_parts(name: str, randomise: Callable[..., nn.Module]) -> None:
    model = randomise(backbone(name), seed=0).eval()
    images = random_images(2, 3, 64, 96)
    with torch.no_grad():
        for stage in (1, 2, 3, 4):
            assert torch.equal(model(model(images, stop=stage), start=stage), model(images))


def test_a_network_without_stages_is_applied_as_a_whole() -> None:
    model = backbone("test_vit").eval()
    images = random_images(2, 3, 160, 160)
    whole = model(images)
    assert torch.equal(model(model(images, stop=4), start=4), whole)
    message = r"stage \(3\): test_vit cannot be cut between its stages; set model\.stage=4"
    for use in (lambda: model(images, stop=3), lambda: model(whole, start=3), lambda: model.require_stage(3)):
        with pytest.raises(ValueError, match=message):
            use()
    assert model.first_stages(4) == [model.network]
    with torch.device("meta"):
        assert backbone("levit_128s").channels == (384,) * 4, "its end's, though it has narrower maps"
    with pytest.raises(ValueError, match=r"freeze_stages \(2\): test_vit cannot .*; set trainer\.freeze_stages=4"):
        model.first_stages(2)


def test_the_first_stages_are_all_that_comes_before_the_others() -> None:
    model = backbone("test_efficientnet")
    first = {id(p) for module in model.first_stages(2) for p in module.parameters()}
    model(random_images(2, 3, 64, 64), stop=2).sum().backward()
    assert {id(p) for p in model.parameters() if p.grad is not None} == first


@pytest.mark.parametrize("name", RECTIFIED)
def test_knows_whether_a_map_can_be_negative(name: str) -> None:
    model = backbone(name).eval()
    with torch.no_grad():
        smallest = model(random_images(2, 3, 160, 160)).amin()
    assert model.is_rectified(4) == RECTIFIED[name] == bool(smallest >= 0)


def test_knows_of_each_stage_whether_its_map_can_be_negative() -> None:
    with torch.device("meta"):
        model = backbone("mobilenetv4_conv_small")
    assert [model.is_rectified(stage) for stage in (1, 2, 3, 4)] == [True, True, False, True]


@pytest.mark.parametrize("name", [*CUT, "test_vit"])
def test_new_attention_is_the_identity_on_every_map(name: str, randomise: Callable[..., nn.Module]) -> None:
    body = randomise(backbone(name), seed=0).eval()
    images = random_images(2, 3, 160, 160)
    for stage in (3, 4) if name in CUT else (4,):
        model = HybridClassifier(body, 4, blocks=BLOCKS, stage=stage, dropout=0).eval()
        with torch.no_grad():
            assert torch.equal(model.features(images), body(images))
            assert body(images).amax() > 0.1


def test_the_flagship_starts_as_the_plain_model() -> None:
    """mobilenetv3 ends in a Hardswish, whose negative values a ReLU would take away."""
    images, name = random_images(2, 3, 64, 96), "mobilenetv3_small_050"
    with torch.no_grad():
        assert torch.equal(classifier("hybrid", name).eval()(images), classifier("plain", name).eval()(images))


def test_attention_goes_into_the_residual_blocks_of_a_resnet() -> None:
    images = random_images(2, 3, 64, 96)
    model = classifier("eca", "resnet18").eval()
    layers = {module for module in model.modules() if isinstance(module, ECA)}
    assert len(layers) == 8
    new = {name for name, _ in model.named_parameters()} - model.pretrained_parameter_names()
    assert new == {name for name, _ in model.named_parameters() if ".se.conv." in name or name.startswith("fc.")}
    with torch.no_grad():
        assert torch.equal(model(images), classifier("plain", "resnet18").eval()(images))
        block = model.backbone.network.layer1[1]
        block.se = nn.Threshold(1e9, 0.0)  # nothing of the branch is left
        x = random_images(1, 64, 4, 6)
        assert torch.equal(block(x.clone()), x.relu())


def test_attention_in_a_bottleneck_has_the_width_of_its_end() -> None:
    with torch.device("meta"):
        model, widths = backbone("resnet50"), []
    model.insert_attention(lambda channels: widths.append(channels) or nn.Identity())
    assert widths == [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3


@pytest.mark.parametrize(("name", "why"), [("test_convnext", "no residual blocks"), ("seresnet18", "already")])
def test_says_where_attention_cannot_go_into_blocks(name: str, why: str) -> None:
    message = faults("model=eca", f"model.backbone.name={name}")
    assert why in message and "hint: set model.placement=top, or model.backbone.name to a ResNet" in message
    experiment.check(composed("model=eca", f"model.backbone.name={name}", "model.placement=top"))


def test_frozen_batch_norm_stays_as_it_is() -> None:
    model = classifier("plain", "test_efficientnet", "model.backbone.freeze_batch_norm=true")
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    assert set(before) == set(backbone("test_efficientnet").state_dict()) and len(norms) > 10
    assert not any(norm.training for norm in norms), "from the outset"
    model.train().requires_grad_(True)  # as the trainer does
    assert model.training and not any(norm.training for norm in norms)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    F.cross_entropy(model(random_images(4, 3, 64, 64)), torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    optimizer.step()
    for name, value in model.backbone.state_dict().items():
        is_norm = name.rpartition(".")[0] in {f"network.{n}" for n in model.backbone._frozen}
        assert torch.equal(value, before[name]) == is_norm, name


def test_output_stride_makes_the_map_larger() -> None:
    images = random_images(1, 3, 64, 96)
    for stride, size in ((None, (2, 3)), (16, (4, 6)), (8, (8, 12))):
        assert backbone("resnet18", output_stride=stride).eval()(images).shape[2:] == size
    message = faults("model.backbone.name=test_vit", "model.backbone.output_stride=16")
    assert "output_stride=16: test_vit cannot do that\nhint: set model.backbone.output_stride=null" in message
    message = faults("model.backbone.name=resnet18", "data.image_size=32")
    assert "or a network with a smaller stride: model.backbone.output_stride=8" in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "missing value in model.backbone.name: must be given"),
        (["model.backbone.name=resnet81"], "timm has no network of this name\nhint: did you mean resnet18, "),
        (["model.backbone.name=resnet18", "model.stem=small"], "a network of timm has its own\nhint: set model.stem="),
        (["model.backbone.name=test_vit", "model.stage=3"], "test_vit cannot be cut between its stages\nhint: set mod"),
        (
            ["model.backbone.name=nest_tiny", "data.image_size=224"],
            "stage (4) must lie between 1 and 3\nhint: set model.stage=3",
        ),
        (["model.backbone.name=test_vit", "data.image_size=[160,192]"], "images of 160×160 only\nhint: set data.im"),
        (["model.backbone.name=halonet26t"], "image_size (160×160): halonet26t does not take it\nhint: set data.imag"),
        (["model.backbone.name=resnet18", "model.pretrained=true", "model.backbone.weights=x"], "hint: set model.pre"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refuses_what_cannot_be(overrides: list[str], message: str) -> None:
    found = faults(*overrides)
    assert message in found and found.count("error:") == 1


def test_sync_batchnorm_would_lose_activations() -> None:
    message = faults("model.backbone.name=test_efficientnet", "trainer.sync_batchnorm=true")
    assert "is no plain BatchNorm2d with parameters (BatchNormAct2d)" in message
    message = faults(
        "model.backbone.name=resnet18", "model.backbone.freeze_batch_norm=true", "trainer.sync_batchnorm=true"
    )
    assert "is no plain BatchNorm2d with parameters (BatchNorm2d)" in message


def timms_weights(name: str, randomise: Callable[..., nn.Module]) -> dict[str, Tensor]:
    """Of the whole network, with its own names and its classifier."""
    return randomise(timm.create_model(name), seed=0).state_dict()


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit"])
def test_loads_a_file_of_timm(name: str, tmp_path: Path, randomise: Callable[..., nn.Module]) -> None:
    state = timms_weights(name, randomise)
    file = tmp_path / "model.safetensors"
    save_file(state, file)
    model = backbone(name, weights=str(file)).eval()
    head, *rest = model.load_initial_weights()
    num = len(model.state_dict())
    assert head == f"backbone weights from {file}: loaded {num} of {num} tensors"
    assert any(line.startswith("  in the file, not used: ") for line in rest)
    assert rest[-1].startswith(f"  timm's weights of {name} expect data.mean=[") and "data.image_size=[160" in rest[-1]
    whole = timm.create_model(name).eval()
    whole.load_state_dict(state)
    images = random_images(2, 3, 160, 160)
    with torch.no_grad():
        expected = whole.forward_intermediates(images, intermediates_only=True)[-1]
        torch.testing.assert_close(model(images), expected)


def test_says_nothing_of_weights_that_timm_does_not_have(tmp_path: Path) -> None:
    file = tmp_path / "own.pt"
    torch.save(backbone("mnasnet_050").state_dict(), file)
    (line,) = backbone("mnasnet_050", weights=str(file)).load_initial_weights()
    assert line.startswith(f"backbone weights from {file}: loaded ")


def test_loads_an_earlier_run_and_torchvisions_names(tmp_path: Path, randomise: Callable[..., nn.Module]) -> None:
    source = randomise(classifier("ca", "resnet18"), seed=0)
    torch.save({"model": source.state_dict()}, tmp_path / "best_model.pt")
    own = experiment.build_model(config.compose("train", ["model=plain"]), num_classes=4)
    torch.save(own.state_dict(), tmp_path / "own.pt")
    for place, expected in ((tmp_path, source.backbone.network), (tmp_path / "own.pt", own.backbone)):
        model = backbone("resnet18", weights=str(place), freeze_batch_norm=True)
        head, *_, frozen = model.load_initial_weights()
        assert head == f"backbone weights from {place}: loaded 120 of 120 tensors"
        assert frozen == "  model.backbone.freeze_batch_norm: 20 BatchNorms are frozen"
        state = expected.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in model.network.state_dict().items())


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    for name, message in (("junk.safetensors", "unusable weights"), ("none.safetensors", "no such file")):
        with pytest.raises(InputError, match=message):
            backbone(weights=str(tmp_path / name)).load_initial_weights()


def test_downloads_what_timm_has(monkeypatch: pytest.MonkeyPatch, randomise: Callable[..., nn.Module]) -> None:
    model = backbone("resnet18.a1_in1k", pretrained=True)
    source = randomise(timm.create_model("resnet18", features_only=True), seed=0)
    asked = []
    monkeypatch.setattr(timm, "create_model", lambda name, **options: asked.append((name, options)) or source)
    head, expects = model.load_initial_weights()
    assert asked == [("resnet18.a1_in1k", {"pretrained": True, "features_only": True})]
    assert head == "backbone weights from timm, resnet18.a1_in1k: loaded 120 of 120 tensors"
    assert expects.endswith("data.mean=[0.485,0.456,0.406] data.std=[0.229,0.224,0.225] data.image_size=[224,224]")
    assert torch.equal(model.network.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_says_what_is_frozen() -> None:
    assert backbone().load_initial_weights() == [] and not backbone().has_initial_weights
    (line,) = backbone("resnet18", freeze_batch_norm=True).load_initial_weights()
    assert line == "  model.backbone.freeze_batch_norm: 20 BatchNorms are frozen, with the statistics of a new network"
    (line,) = backbone("test_convnext", freeze_batch_norm=True).load_initial_weights()
    assert line == "  model.backbone.freeze_batch_norm: 0 BatchNorms are frozen"


@pytest.mark.parametrize("place", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:{}", "hf_hub:a/b", "timm/resnet18"])
def test_a_checkpoint_cannot_make_it_read_from_elsewhere(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier("plain", "test_resnet")
    node = {"_target_": "hybridnet.model.backbone.timm.Timm", **NEUTRAL, "name": place.format(tmp_path)}
    content = {
        "model_config": {"_target_": "hybridnet.model.plain.PlainClassifier", "dropout": 0.1, "backbone": node},
        "num_classes": 4,
        "label2id": {"a": 0, "b": 1, "c": 2, "d": 3},
        "model": model.state_dict(),
    }
    torch.save(content, tmp_path / "best_model.pt")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("it was read from elsewhere")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(InputError, match="unknown network"):
        hybridnet.load_model(tmp_path)


def test_a_run_is_trained_and_loaded(run: Callable[..., Any], small: list[str], tmp_path: Path) -> None:
    options = [*small, "model/backbone=timm", "model.backbone.name=test_convnext", "data.image_size=64"]
    code, _, error = run(*options, "trainer.epochs=1", "trainer.ema_decay=0.9", "hydra.run.dir=run")
    assert code == 0, error
    model = hybridnet.load_model(tmp_path / "run")
    assert isinstance(model.network.backbone, Timm)
    weights = load_checkpoint(tmp_path / "run" / "best_model.pt")["model"]
    assert all(torch.equal(value, weights[name]) for name, value in model.network.state_dict().items())
    assert model(random_images(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("name", ["test_resnet", "test_mambaout", "test_vit"])
def test_a_step_can_be_captured(name: str) -> None:
    """Channels last, in bf16, without reading a number: what a CUDA graph asks for."""
    model = classifier("botlinear", name).to(memory_format=torch.channels_last).train()
    images = random_images(2, 3, 160, 160).contiguous(memory_format=torch.channels_last)

    def step(images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(images), torch.tensor([1, 2]))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        return loss.detach(), *gradients

    replay, outputs = CpuGraphs(torch.device("cpu")).captured(lambda: step(images))
    replay()
    assert all(output.isfinite().all() for output in outputs)


def test_can_be_compiled() -> None:
    model, images = backbone("test_efficientnet").eval(), random_images(2, 3, 64, 64)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images))
