"""ResNet against torchvision's: names, weights, feature maps, and the slots for attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from hybridnet.model import winograd
from hybridnet.model.backbone.resnet import BasicBlock, Bottleneck, Conv, ResNet

ARCHITECTURES = {
    "resnet18": {"block": "basic", "layers": (2, 2, 2, 2)},
    "resnet34": {"block": "basic", "layers": (3, 4, 6, 3)},
    "resnet50": {"block": "bottleneck", "layers": (3, 4, 6, 3)},
}


class Nothing(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


def resnet(name: str = "resnet18", **settings: Any) -> ResNet:
    neutral = {
        "stem": "imagenet",
        "stochastic_depth": 0.0,
        "pretrained": False,
        "pretrained_url": "https://example.invalid/x.pth",
    }
    return ResNet(**{**ARCHITECTURES[name], **neutral, "weights": None, **settings})


def random_images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def published(name: str, randomise: Callable[..., nn.Module]) -> nn.Module:
    """torchvision's network with random weights and statistics."""
    return randomise(getattr(torchvision.models, name)(weights=None), seed=0).eval()


def without_fc(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("fc.")}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_torchvision(name: str, randomise: Callable[..., nn.Module]) -> None:
    theirs, ours = published(name, randomise), resnet(name).eval()
    state = without_fc(theirs)
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    x = images = random_images(2, 3, 64, 96)
    with torch.no_grad():
        for stage in (theirs.conv1, theirs.bn1, theirs.relu, theirs.maxpool):
            x = stage(x)
        for number, stage in enumerate((theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), start=1):
            x = stage(x)
            torch.testing.assert_close(ours(images, stop=number), x, rtol=1e-4, atol=1e-4)
            assert ours.channels[number - 1] == x.shape[1]
        torch.testing.assert_close(ours(images), x, rtol=1e-4, atol=1e-4)
    assert x.amax() > 0.1


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_small_maps_in_channels_last_give_the_same(name: str, randomise: Callable[..., nn.Module]) -> None:
    """Where another algorithm convolves: in the last stages of pictures of 48 pixels."""
    plain = randomise(resnet(name), seed=0)
    model = resnet(name).to(memory_format=torch.channels_last)
    model.load_state_dict(plain.state_dict())
    images = random_images(2, 3, 48, 40)
    with torch.profiler.profile(acc_events=True) as profile:
        features = model(images.contiguous(memory_format=torch.channels_last))
    assert "_Kn2Row" in {event.key for event in profile.key_averages()}
    expected = plain(images)
    assert (features - expected).norm() < 1e-4 * expected.norm()
    grad = random_images(*features.shape)
    features.backward(grad)
    expected.backward(grad)
    for (parameter, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert (ours.grad - theirs.grad).norm() < 1e-3 * theirs.grad.norm(), parameter


def test_larger_maps_are_convolved_in_tiles_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "is_faster", lambda x, weight, *, stride: x.shape[2] > 8 and stride == 1)
    conv = Conv(3, 5, 3)
    for size, is_tiled in ((8, False), (12, True)):
        x = random_images(2, 3, size, 13)
        with torch.profiler.profile(acc_events=True) as profile:
            y = conv(x)
        assert ("_Winograd" in {event.key for event in profile.key_averages()}) == is_tiled
        torch.testing.assert_close(y, nn.functional.conv2d(x, conv.weight, padding=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_stages_can_be_applied_in_two_parts(stage: int, randomise: Callable[..., nn.Module]) -> None:
    model = randomise(resnet(), seed=0).eval()
    images = random_images(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(model(model(images, stop=stage), start=stage), model(images))


@pytest.mark.parametrize(
    ("stem", "image", "expected"),
    [
        ("imagenet", (64, 96), (2, 3)),
        ("imagenet", (65, 97), (3, 4)),
        ("small", (32, 48), (4, 6)),
        ("small", (33, 49), (5, 7)),
    ],
)
def test_size_of_the_feature_map(stem: str, image: tuple[int, int], expected: tuple[int, int]) -> None:
    with torch.no_grad():
        assert resnet(stem=stem).eval()(random_images(1, 3, *image)).shape == (1, 512, *expected)


def test_small_stem_keeps_the_size(randomise: Callable[..., nn.Module]) -> None:
    model = randomise(resnet(stem="small"), seed=0).eval()
    images = random_images(1, 3, 16, 24)
    stem = model.bn1(nn.functional.conv2d(images, model.conv1.weight, padding=1)).relu()
    assert stem.shape == (1, 64, 16, 24)
    torch.testing.assert_close(model(images, stop=1), model.layer1(stem))


def test_convolutions_start_with_the_papers_scale() -> None:
    torch.manual_seed(0)
    model = resnet()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("name", "num_blocks"), [("resnet18", 8), ("resnet50", 16)])
def test_attention_goes_into_every_block(name: str, num_blocks: int) -> None:
    model = resnet(name)
    published_names = {name for name, _ in model.named_parameters()}
    model.insert_attention(Nothing)
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock | Bottleneck)]
    assert len(blocks) == len({block.attention for block in blocks}) == num_blocks
    assert all(isinstance(block.attention, Nothing) for block in blocks)
    assert len(list(model.parameters())) == len(published_names) + num_blocks
    assert model.pretrained_parameter_names() == published_names


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_attention_comes_after_the_last_norm_and_before_the_addition(
    name: str, randomise: Callable[..., nn.Module]
) -> None:
    model = randomise(resnet(name), seed=0).eval()
    model.insert_attention(Nothing)
    for block, inputs in ((model.layer1[1], model.channels[0]), (model.layer2[0], model.channels[0])):
        x = random_images(2, inputs, 6, 8)
        with torch.no_grad():
            assert torch.equal(block(x.clone()), block.downsample(x).relu())  # the residual branch counts nothing
            block.attention.gain.fill_(1)
            last_norm = block.bn3 if name == "resnet50" else block.bn2
            branch = []
            handle = last_norm.register_forward_hook(lambda module, inputs, out, seen=branch: seen.append(out.clone()))
            y = block(x.clone())
            handle.remove()
            torch.testing.assert_close(y, (branch[0] + block.downsample(x)).relu())


@pytest.mark.parametrize(("name", "num_blocks"), [("resnet18", 8), ("resnet50", 16)])
def test_stochastic_depth_leaves_out_residual_branches_picture_by_picture(name: str, num_blocks: int) -> None:
    """The last block with the given probability, the first never, and linearly in between."""
    torch.manual_seed(0)
    model = resnet(name, stochastic_depth=0.5).train()
    branches = [module.drop for module in model.modules() if isinstance(module, BasicBlock | Bottleneck)]
    ones = torch.ones(20_000, 1, 1, 1)
    shares = [1 - (branch(ones) > 0).float().mean().item() for branch in branches]
    assert shares == pytest.approx([0.5 * i / (num_blocks - 1) for i in range(num_blocks)], abs=0.015)
    assert all(branch(ones).mean().item() == pytest.approx(1, abs=0.05) for branch in branches)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_stochastic_depth_keeps_the_shortcut(name: str, randomise: Callable[..., nn.Module]) -> None:
    model = randomise(resnet(name, stochastic_depth=0.5), seed=0).train()
    block, x = model.layer4[0], random_images(64, model.channels[2], 4, 6)
    block.attention = Nothing(block.channels)
    nn.init.ones_(block.attention.gain)
    torch.manual_seed(0)
    with torch.no_grad():
        y, shortcut = block(x.clone()), block.downsample(x).relu()
    left_out = [torch.equal(one, other) for one, other in zip(y, shortcut, strict=True)]
    assert 8 < sum(left_out) < 40


def test_stochastic_depth_is_for_training_only(randomise: Callable[..., nn.Module]) -> None:
    with_it, without = (randomise(resnet(stochastic_depth=rate), seed=0).eval() for rate in (0.5, 0.0))
    assert list(with_it.state_dict()) == list(without.state_dict())
    with torch.no_grad():
        assert torch.equal(with_it(random_images(2, 3, 64, 64)), without(random_images(2, 3, 64, 64)))


def test_no_setting_loads_no_weights() -> None:
    assert resnet().load_initial_weights() == [] and not resnet().has_initial_weights
    assert resnet(weights="a.pth").has_initial_weights and resnet(pretrained=True).has_initial_weights


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_loads_the_weights_of_an_earlier_run(prefix: str, tmp_path: Path, randomise: Callable[..., nn.Module]) -> None:
    state = without_fc(published("resnet18", randomise))
    content = {"model": {f"{prefix}{name}": value for name, value in state.items()}, "label2id": {"cat": 0}}
    torch.save(content, tmp_path / "best_model.pt")
    model = resnet(weights=str(tmp_path))
    lines = model.load_initial_weights()
    assert lines == [f"backbone weights from {tmp_path}: loaded {len(state)} of {len(state)} tensors"]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_loads_published_weights_into_a_network_with_attention(
    monkeypatch: pytest.MonkeyPatch, randomise: Callable[..., nn.Module]
) -> None:
    theirs = published("resnet18", randomise)
    asked: dict[str, Any] = {}

    def fake(url: str, **options: Any) -> dict[str, Tensor]:
        asked.update(options, url=url)
        return theirs.state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fake)
    model = resnet(pretrained=True, pretrained_url="https://example.invalid/resnet18.pth", stem="small")
    model.insert_attention(Nothing)
    head, shape, missing, unused = model.load_initial_weights()
    assert asked["url"] == "https://example.invalid/resnet18.pth"
    assert asked["weights_only"] is True and asked["check_hash"] is True
    assert head == f"backbone weights from {asked['url']}: loaded 119 of 128 tensors"
    assert shape == "  not loaded, another shape: conv1.weight (64, 3, 7, 7) there, (64, 3, 3, 3) here"
    assert missing.startswith("  not in the file, left as initialised: layer1.0.attention.gain, layer1.1.attention")
    assert unused == "  in the file, not used: fc.weight, fc.bias"
    assert torch.equal(model.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert not model.layer4[1].attention.gain.any()


def test_warns_when_the_weights_are_those_of_another_depth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Most names and shapes of a ResNet-50 are those of a ResNet-18: its norms, and half of the 3×3 convolutions."""
    torch.save(resnet("resnet50").state_dict(), tmp_path / "resnet50.pth")
    head, *_ = resnet(weights=str(tmp_path / "resnet50.pth")).load_initial_weights()
    assert head.endswith("loaded 97 of 120 tensors")
    (record,) = caplog.records
    assert "only 97 of the 120 tensors" in record.getMessage() and "23 have another shape" in record.getMessage()


def test_refuses_two_sources_of_weights() -> None:
    with pytest.raises(ValueError, match=r"pretrained and weights both .*set model\.pretrained=false"):
        resnet(pretrained=True, weights="outputs/runs/some")


def test_refuses_wrong_settings() -> None:
    with pytest.raises(ValueError, match=r"stem: expected imagenet or small, got 'tiny'"):
        resnet(stem="tiny")
    with pytest.raises(ValueError, match=r"layers: expected .*, got 3 values"):
        resnet(layers=(2, 2, 2))
    with pytest.raises(ValueError, match=r"layers: must be >= 1, got 0"):
        resnet(layers=(2, 2, 0, 2))
    with pytest.raises(ValueError, match=r"block: expected basic or bottleneck, got 'wide'"):
        resnet(block="wide")
    with pytest.raises(ValueError, match=r"stochastic_depth: must be >= 0 and < 1, got 1"):
        resnet(stochastic_depth=1.0)


@pytest.mark.parametrize("num", [1, 2, 4])
def test_the_first_stages_are_the_stem_and_the_layers_before_it(num: int) -> None:
    """Whatever is in front of what is trained is among them, and nothing else."""
    backbone = resnet()
    modules = backbone.first_stages(num)
    names = {name for name, _ in backbone.named_parameters()}
    frozen = {
        name for name, value in backbone.named_parameters() if any(value is p for m in modules for p in m.parameters())
    }
    prefixes = ("conv1.", "bn1.", *(f"layer{number}." for number in range(1, num + 1)))
    assert frozen == {name for name in names if name.startswith(prefixes)}


@pytest.mark.parametrize(
    ("name", "stem", "stage", "size"),
    [
        ("resnet18", "imagenet", 1, 96),
        ("resnet18", "imagenet", 2, 160),
        ("resnet18", "small", 3, 96),
        ("resnet50", "small", 2, 48),
    ],
)
def test_what_a_position_sees_is_centred_at_its_number_times_the_stride(
    name: str, stem: str, stage: int, size: int
) -> None:
    """Not-a-number in one column of the image spreads to all that see it."""
    backbone = resnet(name, stem=stem).eval()
    images = torch.zeros(size, 3, 4, size)
    images[range(size), :, :, range(size)] = torch.nan  # one column in each
    with torch.no_grad():
        sees = backbone(images, stop=stage)[:, 0, 0].isnan()  # (column of the image, position)
    stride = backbone.stride(stage)
    assert sees.shape[1] == size // stride
    inner = [column for column in sees.T if not (column[0] or column[-1])]
    assert len(inner) > 2
    first = next(number for number, column in enumerate(sees.T) if not (column[0] or column[-1]))
    for number, column in enumerate(inner, start=first):
        seen = column.nonzero().flatten()
        assert (seen.min() + seen.max()) / 2 == number * stride
