"""The hybrid classifier, and the rules for every variant: identity at start, first gradients, numbers of parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridnet import create_model
from hybridnet.model.backbone import Backbone
from hybridnet.model.bot import BoTBlock, SelfAttention
from hybridnet.model.botlinear import LinearAttention
from hybridnet.model.ca import CoordinateAttention
from hybridnet.model.hybrid import HybridClassifier

PLAIN_PARAMETERS = 11_178_564  # at 4 classes
STAGES = ("model.stage=3", "model.stage=4")
SIZES = ("model.size=lite", "model.size=full")
VARIANTS = [
    ("eca", "model.placement=residual"),
    ("eca", "model.placement=top"),
    *(("ca", stage) for stage in STAGES),
    *((name, size, stage) for name in ("bot", "botlinear", "hybrid") for size in SIZES for stage in STAGES),
]


class Scale(nn.Module):
    def __init__(self, channels: int, *, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain * self.factor + self.offset


def random_images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def seeded_model(name: str, *overrides: str) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, num_classes=4, overrides=overrides)


def num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.fixture(scope="module")
def plain_logits() -> Tensor:
    with torch.no_grad():
        return seeded_model("plain").eval()(random_images(2, 3, 64, 96))


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_blocks_follow_the_stage_in_the_order_of_the_yaml(stage: int, tiny_backbone: Backbone) -> None:
    blocks = {"second": partial(Scale, factor=2, offset=0), "first": partial(Scale, factor=1, offset=3)}
    model = HybridClassifier(tiny_backbone, 5, blocks=blocks, stage=stage, dropout=0.5).eval()
    assert [name for name, _ in model.blocks.named_children()] == ["second", "first"]
    assert all(block.gain.shape == (tiny_backbone.channels[stage - 1], 1, 1) for block in model.blocks)
    images = random_images(2, 3, 5, 7)
    x = images
    for number, layer in enumerate(tiny_backbone.stages, start=1):
        x = layer(x)
        if number == stage:
            x = x * 2 + 3
    torch.testing.assert_close(model.features(images), x)
    torch.testing.assert_close(model(images), model.fc(x.mean(dim=(2, 3))))


def test_every_model_starts_as_the_plain_one(model_name: str, plain_logits: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(seeded_model(model_name).eval()(random_images(2, 3, 64, 96)), plain_logits)


@pytest.mark.parametrize("variant", VARIANTS, ids=" ".join)
def test_every_variant_starts_as_the_plain_model(variant: tuple[str, ...], plain_logits: Tensor) -> None:
    model = seeded_model(*variant).eval()
    assert num_parameters(model) > PLAIN_PARAMETERS
    with torch.no_grad():
        assert torch.equal(model(random_images(2, 3, 64, 96)), plain_logits)


def test_another_backbone_needs_no_other_change() -> None:
    images = random_images(1, 3, 64, 96)
    wide = "model/backbone=resnet50"
    with torch.no_grad():
        expected = seeded_model("plain", wide).eval()(images)
        model = seeded_model("hybrid", wide, "model.size=lite").eval()
        assert model.blocks.botlinear.conv1.weight.shape == (512, 2048, 1, 1)
        assert torch.equal(model(images), expected)


def zero_gates(model: nn.Module) -> set[str]:
    """The tensors that are zero to make a block the identity.

    BatchNorm's biases are zero by default, and `lepe` lies behind the zero γ of its block: both wait for step 2.
    """
    norms = {f"{name}.bias" for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    zeros = {name for name, parameter in model.named_parameters() if not parameter.any()}
    return {name for name in zeros - norms if ".lepe." not in name}


NUM_GATES = {"eca": 8, "ca": 4, "bot": 1, "botlinear": 1, "hybrid": 5}


@pytest.mark.parametrize("variant", [v for v in VARIANTS if "model.stage=3" not in v], ids=" ".join)
def test_gradients_of_the_first_two_steps(variant: tuple[str, ...], assert_gradients: Callable[..., None]) -> None:
    model = seeded_model(*variant, "model.stem=small").train()
    gates = zero_gates(model)
    expected = 1 if "model.placement=top" in variant else NUM_GATES[variant[0]] + ("model.size=full" in variant)
    assert len(gates) == expected
    images, labels = random_images(4, 3, 16, 24), torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    F.cross_entropy(model(images), labels).backward()
    first = dict(model.named_parameters())
    assert [name for name in sorted(gates) if not first[name].grad.any()] == []

    optimizer.step()
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    # The BatchNorm after the attention takes out what lepe.bias adds, so in training its gradient is rounding only.
    assert_gradients(model, but=("lepe.bias",))


@pytest.mark.parametrize(
    ("name", "overrides", "expected", "percent"),
    [
        ("plain", [], PLAIN_PARAMETERS, 0.0),
        ("eca", [], 11_178_600, 0.0),
        ("ca", [], 11_204_196, 0.2),
        ("bot", [], 11_361_156, 1.6),
        ("botlinear", [], 11_361_605, 1.6),
        ("hybrid", [], 14_625_381, 30.8),
        ("hybrid", ["model.size=lite"], 11_387_237, 1.9),
    ],
)
def test_table_of_parameters(name: str, overrides: list[str], expected: int, percent: float) -> None:
    model = create_model(name, num_classes=4, overrides=overrides)
    plain = PLAIN_PARAMETERS - num_parameters(model.fc)
    assert num_parameters(model) == expected
    assert round(100 * (num_parameters(model) - num_parameters(model.fc) - plain) / plain, 1) == percent


def test_the_flagship_is_coordinate_then_linear_attention() -> None:
    model = create_model("hybrid", num_classes=4)
    assert [name for name, _ in model.blocks.named_children()] == ["ca", "botlinear"]
    assert isinstance(model.blocks.ca, CoordinateAttention) and isinstance(model.blocks.botlinear, BoTBlock)
    attention = model.blocks.botlinear.attention
    assert isinstance(attention, LinearAttention)
    assert (attention.heads, attention.dim_head, attention.feature_map) == (4, 128, "elu")


def test_knobs_reach_the_blocks() -> None:
    knobs = ("size=lite", "heads=8", "reduction=16", "feature_map=inline", "dropout=0.25", "stem=small")
    model = create_model("hybrid", num_classes=4, overrides=[f"model.{knob}" for knob in knobs])
    assert model.blocks.botlinear.attention.heads == 8
    assert model.blocks.botlinear.attention.feature_map == "inline"
    assert model.blocks.ca.conv1.out_channels == 512 // 16
    assert model.dropout.p == 0.25
    assert model.backbone.conv1.stride == (1, 1)


def test_blocks_share_no_parameters(tiny_backbone: Backbone) -> None:
    attention = partial(SelfAttention, heads=2, reference_size=(5, 7))
    block = partial(BoTBlock, attention=attention, size="lite", identity_init=True)
    model = HybridClassifier(tiny_backbone, 4, blocks={"a": block, "b": block}, stage=3, dropout=0)
    first, second = ({id(p) for p in part.parameters()} for part in model.blocks)
    assert first and second and not first & second


@pytest.mark.parametrize("stage", [0, 5])
def test_refuses_a_stage_that_the_backbone_lacks(stage: int, tiny_backbone: Backbone) -> None:
    message = rf"stage \({stage}\) must lie between 1 and 4; set model\.stage=4"
    with pytest.raises(ValueError, match=message):
        HybridClassifier(tiny_backbone, 4, blocks={}, stage=stage, dropout=0.1)


def test_refuses_wrong_settings(tiny_backbone: Backbone) -> None:
    build = partial(HybridClassifier, tiny_backbone, 4, stage=4)
    with pytest.raises(ValueError, match=r"dropout: must be >= 0 and < 1, got 1\.0"):
        build(blocks={}, dropout=1.0)
    with pytest.raises(ValueError, match=r"reduction: must be >= 1, got 0"):
        build(blocks={"ca": partial(CoordinateAttention, reduction=0, identity_init=True)}, dropout=0.1)
    attention = partial(SelfAttention, heads=3, reference_size=(7, 7))
    with pytest.raises(ValueError, match=r"channels \(5\) must be divisible by heads \(3\); set model\.heads to 1, 5"):
        build(blocks={"bot": partial(BoTBlock, attention=attention, size="lite", identity_init=True)}, dropout=0.1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.heads=3", r"channels \(512\) must be divisible by heads \(3\)\nhint: set model\.heads to 1, 2, 4, 8"),
        ("model.reduction=0", r"model\.reduction=0: must be >= 1, got 0"),
        ("model.dropout=1.0", r"model\.dropout=1\.0: must be >= 0 and < 1, got 1\.0"),
        ("model.stage=5", r"stage \(5\) must lie between 1 and 4\nhint: set model\.stage=4"),
    ],
)
def test_refuses_wrong_overrides(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("hybrid", num_classes=4, overrides=[override])
