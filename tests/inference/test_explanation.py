"""The maps: what they are, where they lie in the picture, and that the model is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import hybridnet
from hybridnet.data.preprocessing import Preprocessing
from hybridnet.errors import InputError
from hybridnet.inference.explanation import Explanation, explain
from hybridnet.inference.trained import TrainedModel
from hybridnet.model.backbone import Backbone
from hybridnet.model.bot import BoTBlock, SelfAttention
from hybridnet.model.botlinear import LinearAttention
from hybridnet.model.ca import CoordinateAttention
from hybridnet.model.hybrid import HybridClassifier
from hybridnet.model.plain import PlainClassifier

CLASSES = ["a", "b", "c"]
NAMES = sorted(path.stem for path in (Path(hybridnet.__file__).parents[1] / "conf" / "model").glob("*.yaml"))


class Pooling(Backbone):
    """Two stages: the brightness around every eighth pixel, or of tiles of eight, and the sum of four of these."""

    channels = (4, 4)

    def __init__(self, *, is_tiled: bool) -> None:
        super().__init__()
        self.is_tiled = is_tiled
        self.mix = nn.Parameter(torch.rand(4, 4, 1, 1) + 0.1)

    def forward(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        for stage in range(2)[start:stop]:
            if stage == 0:
                x = F.relu(x).sum(dim=1, keepdim=True).expand(-1, 4, -1, -1)
            strides = 8 if stage == 0 else 2
            kernel = strides if self.is_tiled else 2 * strides - 1
            x = F.avg_pool2d(x, kernel, strides, padding=0 if self.is_tiled else strides - 1)
            x = F.conv2d(x, self.mix)
        return x

    def stride(self, stage: int) -> int | None:
        return None if self.is_tiled else 8 * 2 ** (stage - 1)


def trained(network: nn.Module, image_size: Sequence[int], *, center_crop: float = 0.875) -> TrainedModel:
    size = {"image_size": image_size, "center_crop": center_crop}
    preprocessing = Preprocessing(**size, mean=[0.0] * 3, std=[0.25] * 3)
    return TrainedModel(network, model_config={}, classes=CLASSES, preprocessing=preprocessing).eval()


def pooling(*, is_tiled: bool, stage: int = 2, names: Sequence[str] = ("ca", "bot")) -> HybridClassifier:
    """All layers are identities but for what `randomised` changes."""
    parts: dict[str, Callable[[int], nn.Module]] = {
        "ca": lambda channels: CoordinateAttention(channels, reduction=1, identity_init=True),
        "bot": partial(
            BoTBlock,
            attention=partial(SelfAttention, heads=1, reference_size=(3, 5)),
            size="full",
            identity_init=True,
        ),
    }
    blocks = {name: parts[name] for name in names}
    network = HybridClassifier(Pooling(is_tiled=is_tiled), 3, blocks=blocks, stage=stage, dropout=0.5)
    with torch.no_grad():
        network.fc.weight.copy_(torch.tensor([[1.0] * 4, [-1.0] * 4, [0.0] * 4]))
        network.fc.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
    return network


def small(name: str, *overrides: str, image_size: Sequence[int] = (64, 96)) -> TrainedModel:
    """A model of conf/model whose blocks are no identities."""
    network = hybridnet.create_model(name, num_classes=3, overrides=["model.stem=small", *overrides]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return trained(network, image_size)


def noise(height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def seen(model: TrainedModel, picture: np.ndarray) -> Tensor:
    """The model's input, (1, 3, H, W)."""
    reduced = model.preprocessing.reduced(picture)
    return model.preprocessing.normalized(torch.from_numpy(model.preprocessing.cropped(reduced))[None])


def centroid(found: Explanation, values: np.ndarray, grid) -> tuple[float, float]:
    """Of what a map says over the crop, in pixels of the picture: row and column."""
    left, top, right, bottom = found.box
    size = (4 * (bottom - top), 4 * (right - left))
    spread = np.clip(grid.spread(values, found.box, size=size), 0, None)
    rows = top + (np.arange(size[0]) + 0.5) / 4
    columns = left + (np.arange(size[1]) + 0.5) / 4
    return float(spread.sum(axis=1) @ rows / spread.sum()), float(spread.sum(axis=0) @ columns / spread.sum())


@pytest.mark.parametrize("image_size", [(96, 96), (96, 144), (144, 96)])
@pytest.mark.parametrize("shape", [(240, 150), (150, 240)])
@pytest.mark.parametrize("is_tiled", [True, False])
def test_maps_lie_where_the_bright_spot_is(is_tiled: bool, shape: tuple[int, int], image_size: tuple[int, int]) -> None:
    """At every layer, for upright and lying pictures, whatever the shape of the input."""
    model = trained(pooling(is_tiled=is_tiled), image_size)
    left, top, right, bottom = model.preprocessing.box(np.zeros((*shape, 3)))
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for down, across in ((0.42, 0.42), (0.42, 0.6), (0.6, 0.42)):
        row, column = top + down * (bottom - top), left + across * (right - left)
        radius = min(bottom - top, right - left) / 8
        spot = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * radius**2))
        picture = np.repeat((255 * spot)[..., None].astype(np.uint8), 3, axis=2)
        found = explain(model, picture, true_label="a")
        assert found.box == (left, top, right, bottom)
        assert [cam.layer for cam in found.cams] == ["layer2", "layer2 + attention"]
        position = 16 * (bottom - top) / image_size[0]  # pixels of the picture
        for cam in found.cams:
            assert centroid(found, cam.values, cam.grid) == pytest.approx((row, column), abs=0.15 * position)
        looks, cam = found.attention.query, found.cams[0]
        assert looks == np.unravel_index(cam.values.argmax(), cam.values.shape)
        assert abs(found.attention.grid.rows[looks[0]] - row) <= 0.55 * position
        assert abs(found.attention.grid.columns[looks[1]] - column) <= 0.55 * position


@pytest.mark.parametrize("shape", [(240, 150), (150, 240)])
def test_gates_lie_where_they_weight_the_picture(shape: tuple[int, int]) -> None:
    """A layer whose gates rise with the brightness of a row or column."""
    network = pooling(is_tiled=False, names=["ca"])
    ca = network.blocks.ca
    with torch.no_grad():
        for conv in (ca.conv1, ca.conv_h, ca.conv_w):
            conv.weight.fill_(0.5)
            if conv.bias is not None:
                conv.bias.zero_()
    model = trained(network, (96, 144))
    left, top, right, bottom = model.preprocessing.box(np.zeros((*shape, 3)))
    row, column = round(top + 0.3 * (bottom - top)), round(left + 0.7 * (right - left))
    picture = np.zeros((*shape, 3), np.uint8)
    picture[row - 8 : row + 8, column - 8 : column + 8] = 120
    gates = explain(model, picture, true_label=None).gates
    position = 16 * (bottom - top) / 96
    assert abs(gates.grid.rows[gates.rows.argmax()] - row) < position
    assert abs(gates.grid.columns[gates.columns.argmax()] - column) < position
    assert np.unravel_index(gates.product.argmax(), gates.product.shape) == (
        gates.rows.argmax(),
        gates.columns.argmax(),
    )
    assert gates.rows.max() > 1.02 * gates.rows.min()


def test_blocks_after_an_earlier_stage_have_its_finer_grid() -> None:
    model = trained(pooling(is_tiled=False, stage=1), (96, 144), center_crop=1.0)
    picture = np.zeros((192, 288, 3), np.uint8)
    picture[20:60, 180:220] = 255
    found = explain(model, picture, true_label=None)
    assert [(cam.layer, cam.values.shape) for cam in found.cams] == [("layer2", (6, 9)), ("layer1", (12, 18))]
    assert found.attention.weights.shape == (1, 12, 18) and found.gates.product.shape == (12, 18)
    for cam in found.cams:
        assert centroid(found, cam.values, cam.grid) == pytest.approx((40, 200), abs=5)
    finer = found.cams[1].values
    assert found.attention.query == np.unravel_index(finer.argmax(), finer.shape)


def test_grad_cam_of_a_plain_network_is_the_classifiers_sum() -> None:
    model = small("plain")
    picture = noise()
    found = explain(model, picture, true_label="c")
    with torch.no_grad():
        features = model.network.features(seen(model, picture))[0]
    num_positions = features[0].numel()
    for cam in found.cams:
        weight = model.network.fc.weight[CLASSES.index(cam.label)]
        expected = sum(weight[k].item() * features[k].numpy() for k in range(len(features))) / num_positions
        np.testing.assert_allclose(cam.values, expected.clip(min=0), rtol=1e-4, atol=1e-6)
    assert found.gates is None and found.attention is None
    assert found.missing == ("Coordinate Attention", "BoT or BoTLinear attention")


def test_grad_cam_below_the_attention_has_the_mean_gradient_through_it() -> None:
    """The mean gradient of a channel is how the logit changes when all of the channel is raised."""
    network = pooling(is_tiled=False).double()
    with torch.no_grad():
        for parameter in network.blocks.parameters():
            parameter.normal_(std=0.5)
    model = trained(network.float(), (32, 48), center_crop=1.0)
    picture = noise(32, 48)
    found = explain(model, picture, true_label=None)
    network.double().eval()
    label = CLASSES.index(found.prediction.label)
    with torch.no_grad():
        below = network.backbone(seen(model, picture).double())
        expected = 0
        for channel in range(4):
            logits = []
            for sign in (1, -1):
                raised = below.clone()
                raised[:, channel] += sign * 1e-4
                logits.append(network.classify(network.blocks(raised))[0, label].item())
            expected += (logits[0] - logits[1]) / 2e-4 / below[0, 0].numel() * below[0, channel].numpy()
    assert (expected > 0).any()
    np.testing.assert_allclose(found.cams[0].values, expected.clip(min=0), rtol=1e-3, atol=1e-5)


def test_gates_say_how_much_stronger_each_position_leaves() -> None:
    model = small("ca", "model.reduction=8")
    picture = noise()
    gates = explain(model, picture, true_label=None).gates
    ca = model.network.blocks.ca
    with torch.no_grad():
        x = model.network.backbone(seen(model, picture))
        row_gate, column_gate = (gate.numpy()[0] for gate in ca.gates(x))  # (C, h, 1) and (C, 1, w)
        y = ca(x)[0].numpy()
        x = x[0].numpy()
    _, height, width = x.shape
    for i, j in np.ndindex(height, width):
        assert gates.product[i, j] == pytest.approx(abs(y[:, i, j]).sum() / x[:, i, j].sum(), rel=1e-4)
    for i in range(height):
        assert gates.rows[i] == pytest.approx((x[:, i] * row_gate[:, i]).sum() / x[:, i].sum(), rel=1e-4)
    for j in range(width):
        expected = (x[:, :, j] * column_gate[:, :, j]).sum() / x[:, :, j].sum()
        assert gates.columns[j] == pytest.approx(expected, rel=1e-4)
    assert gates.change == pytest.approx(abs(y - x).sum() / x.sum(), rel=1e-4)
    assert gates.neutral == 1


def test_a_new_model_has_gates_of_one_and_the_papers_of_a_half() -> None:
    for identity_init, neutral in ((True, 1.0), (False, 0.5)):
        network = pooling(is_tiled=True, names=["ca"])
        network.blocks.ca = CoordinateAttention(4, reduction=1, identity_init=identity_init)
        for conv in (network.blocks.ca.conv_h, network.blocks.ca.conv_w):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
        picture = noise(96, 96)
        picture[:30] = 0  # no channel is active there
        gates = explain(trained(network, (96, 96)), picture, true_label=None).gates
        assert gates.neutral == neutral and gates.change == pytest.approx(0, abs=1e-6)
        np.testing.assert_allclose(gates.rows, neutral, rtol=1e-5)
        np.testing.assert_allclose(gates.columns, neutral, rtol=1e-5)
        np.testing.assert_allclose(gates.product, neutral**2, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("bot", []), *(("hybrid", [f"model.feature_map={kind}"]) for kind in ("elu", "relu", "softmax", "inline"))],
)
def test_heads_show_the_layers_own_weights_from_the_strongest_position(name: str, overrides: list[str]) -> None:
    model = small(name, *overrides)
    picture = noise()
    found = explain(model, picture, true_label=None)
    caught = []
    is_attention = SelfAttention | LinearAttention
    (layer,) = (module for module in model.network.modules() if isinstance(module, is_attention))
    with torch.no_grad(), layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0])):
        model(seen(model, picture))
        row, column = found.attention.query
        height, width = caught[0].shape[2:]
        expected = layer.weights(caught[0], torch.tensor([row * width + column]))[0, :, 0].view(4, height, width)
    np.testing.assert_allclose(found.attention.weights, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.attention.weights.sum(axis=(1, 2)), 1, rtol=1e-4)
    assert found.cams[0].values.argmax() == row * width + column
    assert found.attention.layer == ("BoT" if name == "bot" else "BoTLinear")
    assert found.attention.feature_map == (overrides[0].partition("=")[2] if overrides else None)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_is_explained(name: str) -> None:
    model = small(name, image_size=(64, 96))
    found = explain(model, noise(), true_label=None)
    assert found.cams[0].layer == "layer4" and found.cams[0].values.shape == (8, 12)
    assert (found.gates is None) == ("Coordinate Attention" in found.missing)
    assert (found.attention is None) == ("BoT or BoTLinear attention" in found.missing)
    assert found.prediction == model.predict(noise(), precision="float32")[0]


@pytest.mark.parametrize(
    "overrides",
    [["model/backbone=resnet34", "model.size=lite"], ["model/backbone=resnet50", "model.stage=3", "model.size=lite"]],
)
def test_every_backbone_is_explained(overrides: list[str]) -> None:
    found = explain(small("hybrid", *overrides, image_size=(32, 48)), noise(), true_label="b")
    is_after = "model.stage=3" in overrides
    assert found.gates.product.shape == ((8, 12) if is_after else (4, 6))
    assert {cam.layer for cam in found.cams} == {"layer4", "layer3" if is_after else "layer4 + attention"}


def test_the_true_class_has_maps_where_it_is_another_one() -> None:
    model = trained(pooling(is_tiled=True), (96, 96))
    picture = noise(96, 96)
    assert [(cam.label, cam.layer) for cam in explain(model, picture, true_label="b").cams] == [
        ("a", "layer2"),
        ("b", "layer2"),
        ("a", "layer2 + attention"),
        ("b", "layer2 + attention"),
    ]
    found = explain(model, picture, true_label="b")
    assert found.cams[0].values.all() and not found.cams[1].values.any()  # brightness speaks for a, against b
    assert [cam.label for cam in explain(model, picture, true_label="a").cams] == ["a", "a"]


def test_a_photo_is_shown_upright_whole_and_no_larger_than_needed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(noise(900, 1500)).save(tmp_path / "a.jpg", exif=exif)
    model = trained(pooling(is_tiled=True), (96, 144))
    found = explain(model, tmp_path / "a.jpg", true_label=None)
    assert found.picture.shape == (1067, 640, 3) and found.picture.dtype == np.uint8
    left, top, right, bottom = found.box
    assert (right - left, bottom - top) == (560, 373)  # 0.875 of the width
    assert found.prediction == model.predict(tmp_path / "a.jpg", precision="float32")[0]


def state(model: TrainedModel) -> list:
    parts = [(name, value.clone(), value.requires_grad) for name, value in model.state_dict(keep_vars=True).items()]
    modules = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return [*parts, modules, [p.grad for p in model.parameters()]]


def assert_same(before: list, after: list) -> None:
    for one, other in zip(before[:-2], after[:-2], strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1]) and one[2] == other[2]
    assert before[-2:] == after[-2:]


@pytest.mark.parametrize("is_frozen", [True, False])
def test_the_model_is_left_as_it_was(is_frozen: bool) -> None:
    model = small("hybrid", "model.size=lite", image_size=(32, 48))
    model.network.train()
    model.network.blocks.ca.eval()
    model.requires_grad_(not is_frozen)
    before = state(model)
    first = explain(model, noise(), true_label="a")
    assert_same(before, state(model))
    for context in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with context:
            again = explain(model, noise(), true_label="a")
        np.testing.assert_array_equal(again.cams[0].values, first.cams[0].values)


def test_the_model_is_left_as_it_was_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(pooling(is_tiled=True), (96, 96))
    model.network.train()
    before = state(model)
    monkeypatch.setattr(CoordinateAttention, "forward", lambda self, x: [][0])
    with pytest.raises(IndexError):
        explain(model, noise(), true_label=None)
    assert_same(before, state(model))


def test_what_cannot_be_explained_is_told(tmp_path: Path) -> None:
    model = trained(pooling(is_tiled=True), (96, 96))
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"unreadable image in .*a\.jpg: is none of JPEG"):
        explain(model, tmp_path / "a.jpg", true_label=None)
    with pytest.raises(InputError, match="expected a path, an image of Pillow, or a uint8 array"):
        explain(model, np.zeros((4, 4, 7), np.uint8), true_label=None)
    with pytest.raises(InputError, match="unknown class in true_label=d: the model has a, b, c"):
        explain(model, noise(), true_label="d")
    with pytest.raises(InputError, match="Flatten is no PlainClassifier"):
        explain(trained(nn.Flatten(), (96, 96)), noise(), true_label=None)


def test_plain_classifiers_of_others_need_no_more_than_the_interface() -> None:
    network = PlainClassifier(Pooling(is_tiled=False), 3, dropout=0.0)
    found = explain(trained(network, (96, 144)), noise(), true_label=None)
    assert [cam.layer for cam in found.cams] == ["layer2"]
