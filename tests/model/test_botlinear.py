"""Linear attention against the explicit form, which weighs every pair of positions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import cos, exp, sin
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hybridnet.model.bot import BoTBlock, split_qkv, to_map
from hybridnet.model.botlinear import LinearAttention, elu_plus_one, linear_attention, position_table

FEATURE_MAPS = ["elu", "relu", "softmax", "inline"]


def layer_of(channels: int = 24, *, heads: int = 3, feature_map: str = "elu") -> LinearAttention:
    return LinearAttention(channels, heads=heads, feature_map=feature_map).double().eval()


def softmax(values: np.ndarray) -> np.ndarray:
    return np.array([exp(v) for v in values]) / sum(exp(v) for v in values)


def pair_weights(query: np.ndarray, key: np.ndarray, feature_map: str) -> np.ndarray:
    """The N×N weights of one head, (N, d) and (N, d) -> (N, N), one pair at a time."""
    n, d = key.shape
    if feature_map == "softmax":
        of_query = [softmax(query[i]) for i in range(n)]
        of_key = np.array([softmax(key[:, c]) for c in range(d)]).T
        return np.array([[of_query[i] @ of_key[j] for j in range(n)] for i in range(n)])
    if feature_map == "inline":
        mean = sum(key[j] for j in range(n)) / n
        return np.array([[(1 + query[i] @ (key[j] - mean) / d**0.5) / n for j in range(n)] for i in range(n)])
    one = {"elu": lambda u: u + 1 if u > 0 else exp(u), "relu": lambda u: max(u, 0.0)}[feature_map]
    phi_q, phi_k = (np.array([[one(u) for u in row] for row in rows]) for rows in (query, key))
    similar = np.array([[phi_q[i] @ phi_k[j] / n for j in range(n)] for i in range(n)])
    return np.array([similar[i] / (sum(similar[i]) + 1e-12) for i in range(n)])


def place_code(channels: int, row: int, column: int) -> np.ndarray:
    """First half for the row, second for the column, each [sin | cos] of C / 4 frequencies."""
    frequencies = [10000 ** (-i / (channels // 4)) for i in range(channels // 4)]
    return np.array([f(place * w) for place in (row, column) for f in (sin, cos) for w in frequencies])


def depthwise(v: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    out = np.empty_like(v)
    for b, c, i, j in np.ndindex(*v.shape):
        out[b, c, i, j] = bias[c]
        for di, dj in np.ndindex(3, 3):
            y, x = i + di - 1, j + dj - 1
            if 0 <= y < v.shape[2] and 0 <= x < v.shape[3]:
                out[b, c, i, j] += weight[c, 0, di, dj] * v[b, c, y, x]
    return out


def core(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, scale: float, feature_map: str) -> np.ndarray:
    """Attention of maps (B, C, H, W), positions included, in the explicit N×N form."""
    batch, channels, height, width = v.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    d = channels // heads
    y = np.empty(v.shape)
    for b, head in np.ndindex(batch, heads):
        own = slice(head * d, (head + 1) * d)
        query, key = (
            np.array([m[b, own, i, j] + scale * place_code(channels, i, j)[own] for i, j in places]) for m in (q, k)
        )
        weights = pair_weights(query, key, feature_map)
        for n, (i, j) in enumerate(places):
            y[b, own, i, j] = sum(weights[n, m] * v[b, own, r, c] for m, (r, c) in enumerate(places))
    return y


def reference(layer: LinearAttention, x: np.ndarray, heads: int, feature_map: str, conv1x1: Callable) -> np.ndarray:
    channels = x.shape[1]
    qkv = conv1x1(x, layer.qkv)
    q, k, v = (qkv[:, part * channels : (part + 1) * channels] for part in range(3))
    return core(q, k, v, heads, layer.position_scale.item(), feature_map) + depthwise(v, layer.lepe)


@pytest.mark.parametrize("size", [(5, 7), (1, 4)])
@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_equals_the_loops(
    feature_map: str,
    size: tuple[int, int],
    randomise: Callable[..., nn.Module],
    random_map: Callable[..., Tensor],
    conv1x1: Callable,
) -> None:
    layer, x = randomise(layer_of(feature_map=feature_map), seed=0), random_map(2, 24, *size)
    expected = torch.from_numpy(reference(layer, x.numpy(), 3, feature_map, conv1x1))
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_tokens", [35, 8, 7])  # 7 is fewer than the width: the other order
@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_both_orders_equal_the_pairs_exactly(
    feature_map: str, num_tokens: int, random_map: Callable[..., Tensor]
) -> None:
    q, k, v = (random_map(2, 3, num_tokens, 8, seed=seed) for seed in range(3))  # (B, heads, N, d)
    expected = np.empty(v.shape)
    tokens = range(num_tokens)
    for b, head in np.ndindex(2, 3):
        weights = pair_weights(q[b, head].numpy(), k[b, head].numpy(), feature_map)
        expected[b, head] = [sum(weights[i, j] * v[b, head, j].numpy() for j in tokens) for i in tokens]
    y = linear_attention(q, k, v, feature_map=feature_map)
    torch.testing.assert_close(y, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(5, 7), (1, 4)])  # 4 is fewer than the width: the other order
@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_the_implied_weights_are_those_of_the_layer_but_for_its_local_term(
    feature_map: str, size: tuple[int, int], randomise: Callable[..., nn.Module], random_map: Callable[..., Tensor]
) -> None:
    layer, x = randomise(layer_of(feature_map=feature_map), seed=0), random_map(2, 24, *size)
    weights = layer.weights(x, torch.arange(size[0] * size[1]))
    v = split_qkv(layer.qkv(x), 3)[2]
    attended = layer(x) - layer.lepe(to_map(v, *size))
    torch.testing.assert_close(to_map(weights @ v, *size), attended, rtol=1e-9, atol=1e-9)
    some = torch.tensor([3, 0])
    torch.testing.assert_close(layer.weights(x, some), weights[:, :, some])


@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_weights_sum_to_one(feature_map: str, random_map: Callable[..., Tensor]) -> None:
    q, k = (random_map(2, 3, 35, 8, seed=seed) + 1 for seed in range(2))
    y = linear_attention(q, k, torch.full_like(k, 5.0), feature_map=feature_map)
    torch.testing.assert_close(y, torch.full_like(y, 5.0))


def test_value_by_hand() -> None:
    layer = layer_of(4, heads=1)
    with torch.no_grad():
        layer.position_scale.zero_()
        layer.qkv.weight.zero_()
        for channel in range(4):
            layer.qkv.weight[[4 + channel, 8 + channel], channel] = 1  # q = 0, k = x, v = x
    y = layer(torch.tensor([0.0, 1.0]).double().expand(1, 4, 1, 2).contiguous())
    # φ(0) = 1 and φ(1) = 2 for the two keys: (1·0 + 2·1) / 3 everywhere.
    torch.testing.assert_close(y, torch.full_like(y, 2 / 3), rtol=1e-6, atol=0)


def test_keys_are_divided_by_their_number() -> None:
    """φ(k)/N cancels but for the 1e-12 of the denominator: small features show it."""
    q, k, v = torch.full((1, 1, 4, 1), 1e-6), torch.full((1, 1, 4, 1), 1e-6), torch.full((1, 1, 4, 1), 3.0)
    # φ(q)·Σk̂ = 1e-6 · 4 · 1e-6 / 4 = 1e-12, so half of v is left.
    y = linear_attention(q.double(), k.double(), v.double(), feature_map="relu")
    torch.testing.assert_close(y, torch.full_like(y, 1.5), rtol=1e-6, atol=0)


def test_elu_plus_one_does_not_cancel() -> None:
    u = torch.tensor([-80.0, -20.0, -1.0, 0.0, 1.0, 50.0])
    expected = torch.tensor([exp(-80), exp(-20), exp(-1), 1.0, 2.0, 51.0])
    torch.testing.assert_close(elu_plus_one(u), expected, rtol=1e-6, atol=0)


def test_elu_plus_one_has_its_own_gradient(random_map: Callable[..., Tensor]) -> None:
    u = (2 * random_map(3, 7)).requires_grad_()
    assert torch.autograd.gradcheck(elu_plus_one, u) and torch.autograd.gradgradcheck(elu_plus_one, u)
    zero = torch.zeros(1, requires_grad=True)
    elu_plus_one(zero).sum().backward()
    assert zero.grad.item() == 1  # from both sides


@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_has_the_gradients_of_every_picture(feature_map: str, random_map: Callable[..., Tensor]) -> None:
    layer, x = layer_of(feature_map=feature_map), random_map(2, 24, 5, 7)
    parameters = dict(layer.named_parameters())

    def loss(parameters: dict[str, Tensor], picture: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (picture[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for number, picture in enumerate(x):
        for name, grad in zip(
            parameters, torch.autograd.grad(loss(parameters, picture), parameters.values()), strict=True
        ):
            torch.testing.assert_close(found[name][number], grad)


def test_exports_with_dynamic_sizes(random_map: Callable[..., Tensor]) -> None:
    """A branch on the number of tokens would freeze the size of the map."""
    layer = layer_of(24, heads=2)
    sizes = {2: torch.export.Dim("height", min=2, max=64), 3: torch.export.Dim("width", min=2, max=64)}
    exported = torch.export.export(layer, (random_map(1, 24, 5, 7),), dynamic_shapes=(sizes,)).module()
    for size in ((5, 7), (2, 3)):  # more and fewer tokens than the heads are wide
        x = random_map(1, 24, *size)
        torch.testing.assert_close(exported(x), layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_tokens", [6, 35])
def test_the_core_takes_the_smaller_order(num_tokens: int, random_map: Callable[..., Tensor]) -> None:
    q, k, v = (random_map(1, 1, num_tokens, 24, seed=seed) for seed in range(3))
    with torch.no_grad(), LargestTensor() as largest:
        linear_attention(q, k, v, feature_map="elu")
    assert largest.numel == num_tokens * 24  # 6 tokens: not d² = 576; 35 tokens: not N² = 1225


def test_relu_without_a_positive_query_gives_zero() -> None:
    q, k = -torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2)
    assert torch.equal(linear_attention(q, k, k, feature_map="relu"), torch.zeros_like(k))


def test_position_table_by_hand() -> None:
    table = position_table(torch.zeros(2, 8, 5, 7))  # frequencies 1 and 10000^(-1/2) = 1/100
    expected = [sin(3), sin(0.03), cos(3), cos(0.03), sin(6), sin(0.06), cos(6), cos(0.06)]
    assert table.shape == (8, 5, 7) and table.dtype == torch.float32
    torch.testing.assert_close(table[:, 3, 6], torch.tensor(expected))
    torch.testing.assert_close(table[:, 0, 0], torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 1]))


def test_positions_start_at_full_weight_and_the_local_term_at_zero() -> None:
    layer = layer_of()
    assert layer.position_scale.item() == 1 and layer.position_scale.requires_grad
    assert not layer.lepe.weight.any() and not layer.lepe.bias.any()
    assert layer.lepe.weight.shape == (24, 1, 3, 3)


@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_gradient_to_every_parameter_from_the_first_step(
    feature_map: str, random_map: Callable[..., Tensor], assert_gradients: Callable[..., None]
) -> None:
    layer = layer_of(feature_map=feature_map).train()
    (layer(random_map()) * random_map(seed=2)).sum().backward()
    assert_gradients(layer)
    assert layer.lepe.weight.grad.all() and layer.lepe.bias.grad.all()


@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_items_are_independent(
    feature_map: str,
    randomise: Callable[..., nn.Module],
    random_map: Callable[..., Tensor],
    assert_items_independent: Callable[[nn.Module, Tensor], None],
) -> None:
    assert_items_independent(randomise(layer_of(feature_map=feature_map), seed=0).float(), random_map().float())


@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_channels_last_changes_nothing(
    feature_map: str, randomise: Callable[..., nn.Module], random_map: Callable[..., Tensor]
) -> None:
    layer, x = randomise(layer_of(feature_map=feature_map), seed=0).float(), random_map().float()
    torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last)), layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_the_core_is_float32_under_autocast(
    feature_map: str, randomise: Callable[..., nn.Module], random_map: Callable[..., Tensor]
) -> None:
    layer, x = randomise(layer_of(feature_map=feature_map), seed=0).float(), random_map().float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        q, k, v = layer.qkv(x).chunk(3, dim=1)
        local = layer.lepe(v)
    assert v.dtype == local.dtype == torch.bfloat16
    q, k, v = (m.double().numpy() for m in (q, k, v))
    expected = torch.from_numpy(core(q, k, v, 3, layer.position_scale.item(), feature_map)) + local.double()
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", ["lite", "full"])
@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_a_block_starts_as_the_identity_behind_a_relu(
    feature_map: str, size: str, random_map: Callable[..., Tensor]
) -> None:
    attention = partial(LinearAttention, heads=3, feature_map=feature_map)
    block = BoTBlock(48, attention=attention, size=size, identity_init=True).eval()
    x = random_map(2, 48, 5, 7).float().relu()
    assert torch.equal(block(x), x)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest number of elements that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("feature_map", FEATURE_MAPS)
def test_nothing_grows_with_the_square_of_the_tokens(feature_map: str) -> None:
    layer = LinearAttention(8, heads=2, feature_map=feature_map)
    with torch.no_grad(), LargestTensor() as largest:
        layer(torch.randn(1, 8, 24, 32))
    assert largest.numel == 3 * 8 * 24 * 32  # qkv, far below N² = 589,824


def test_refuses_wrong_settings() -> None:
    with pytest.raises(ValueError, match=r"channels \(24\) must be divisible by heads \(5\); set model\.heads to 1, 2"):
        layer_of(heads=5)
    with pytest.raises(ValueError, match=r"channels \(30\) must be divisible by 4"):
        layer_of(30, heads=3)
    with pytest.raises(ValueError, match=r"heads: must be >= 1, got 0"):
        layer_of(heads=0)
    with pytest.raises(ValueError, match=r"feature_map: expected elu or relu or softmax or inline, got 'gelu'"):
        layer_of(feature_map="gelu")
