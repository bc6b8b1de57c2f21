"""The plain classifier, and what every classifier of conf/model promises: sizes, formats, precisions, classes."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridnet import create_model
from hybridnet.model.backbone import Backbone
from hybridnet.model.plain import PlainClassifier


def random_images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_pools_then_classifies(tiny_backbone: Backbone) -> None:
    model = PlainClassifier(tiny_backbone, 7, dropout=0.5).double().eval()
    images = random_images(2, 3, 5, 7).double()
    features = tiny_backbone(images).detach().numpy()
    weight, bias = model.fc.weight.detach().numpy(), model.fc.bias.detach().numpy()
    pooled = np.array([[sum(features[b, c].flat) / 35 for c in range(20)] for b in range(2)])
    expected = np.array([[weight[k] @ pooled[b] + bias[k] for k in range(7)] for b in range(2)])
    torch.testing.assert_close(model(images), torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


def test_drops_pooled_features_in_training_only(tiny_backbone: Backbone) -> None:
    model = PlainClassifier(tiny_backbone, 20, dropout=0.75)
    with torch.no_grad():
        model.fc.weight.copy_(torch.eye(20))  # logits are the pooled features
        model.fc.bias.zero_()
        for parameter in tiny_backbone.parameters():
            parameter.abs_()
    images = random_images(64, 3, 2, 3).abs()
    pooled = model.eval()(images)
    assert (pooled > 0).all()
    torch.manual_seed(0)
    ratio = model.train()(images) / pooled
    kept = ratio > 0
    torch.testing.assert_close(ratio[kept], torch.full_like(ratio[kept], 4.0))
    assert kept.float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_the_gradient_lies_in_memory_as_the_features_do(tiny_backbone: Backbone) -> None:
    """The ReLU below takes many times as long where both orders meet."""
    model = PlainClassifier(tiny_backbone, 7, dropout=0)
    features = random_images(2, 20, 3, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(model.classify(features).square().sum(), features)
    assert gradient.stride() == features.stride()


@pytest.mark.parametrize("num_classes", [1, 2, 7])
def test_any_number_of_classes(num_classes: int, tiny_backbone: Backbone, assert_gradients: Callable) -> None:
    model = PlainClassifier(tiny_backbone, num_classes, dropout=0)
    logits = model(random_images(3, 3, 5, 7))
    assert logits.shape == (3, num_classes)
    logits.square().sum().backward()
    assert_gradients(model.fc)


@pytest.fixture(scope="module")
def random_model(model_name: str, randomise: Callable[..., nn.Module]) -> nn.Module:
    """Built once for the tests below: composing a configuration costs more than running the model."""
    return randomise(create_model(model_name, num_classes=7), seed=0).eval()


def test_every_model_knows_its_pretrained_parameters(random_model: nn.Module, plain_names: set[str]) -> None:
    names = {name for name, _ in random_model.named_parameters()}
    assert random_model.pretrained_parameter_names() == plain_names - {"fc.weight", "fc.bias"}
    assert plain_names <= names


@pytest.fixture(scope="module")
def plain_names() -> set[str]:
    return {name for name, _ in create_model("plain", num_classes=4).named_parameters()}


def test_every_model_takes_every_size(random_model: nn.Module) -> None:
    for height, width in ((64, 64), (96, 160), (33, 65)):
        images = random_images(1, 3, height, width)
        with torch.no_grad():
            logits, other = random_model(images), random_model(images.flip(2))
        assert logits.shape == (1, 7) and logits.isfinite().all()
        assert not torch.allclose(logits, other), "the logits do not depend on the image"


def test_every_model_takes_large_images(random_model: nn.Module) -> None:
    with torch.no_grad():
        logits = random_model(random_images(1, 3, 448, 320))
    assert logits.shape == (1, 7) and logits.isfinite().all()


def test_items_are_independent_in_every_model(
    random_model: nn.Module, assert_items_independent: Callable[[nn.Module, Tensor], None]
) -> None:
    with torch.no_grad():
        assert_items_independent(deepcopy(random_model).double(), random_images(2, 3, 64, 96).double())


def test_memory_format_and_bfloat16_give_nearly_the_same_logits(random_model: nn.Module) -> None:
    images = random_images(2, 3, 64, 96)
    channels_last = deepcopy(random_model).to(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = random_model(images)
        last = channels_last(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = random_model(images)
    scale = logits.abs().amax().item()
    torch.testing.assert_close(last, logits, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(half.float(), logits, rtol=0, atol=0.03 * scale)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_model_may_have_weights_of_another_format(random_model: nn.Module, dtype: torch.dtype) -> None:
    images = random_images(2, 3, 64, 96)
    with torch.no_grad():
        logits, found = random_model(images), deepcopy(random_model).to(dtype)(images.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), logits, rtol=0, atol=0.03 * logits.abs().amax().item())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_no_picture_has_no_logits(random_model: nn.Module, memory_format: torch.memory_format) -> None:
    model = deepcopy(random_model).to(memory_format=memory_format)
    for size in (64, 32):
        assert model(torch.empty(0, 3, size, size)).shape == (0, 7)
    with pytest.raises(ValueError, match="expected 4D input"):
        model(torch.zeros(3, 64, 64))


def test_refuses_wrong_settings(tiny_backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"dropout: must be >= 0 and < 1, got 1\.0"):
        PlainClassifier(tiny_backbone, 4, dropout=1.0)
    with pytest.raises(ValueError, match=r"dropout: must be >= 0 and < 1, got -0\.1"):
        PlainClassifier(tiny_backbone, 4, dropout=-0.1)
    with pytest.raises(ValueError, match=r"num_classes: must be >= 1, got 0"):
        PlainClassifier(tiny_backbone, 0, dropout=0.1)
