"""BoT's self-attention and block against explicit loops over all pairs of positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybridnet.model.bot import BoTBlock, SelfAttention, split_qkv, to_map


def attention_of(channels: int = 24, *, heads: int = 3, size: tuple[int, int] = (5, 7)) -> SelfAttention:
    return SelfAttention(channels, heads=heads, reference_size=size).double().eval()


def block_of(*, size: str, channels: int = 24, heads: int = 3, identity_init: bool = True) -> BoTBlock:
    attention = partial(attention_of, heads=heads)
    return BoTBlock(channels, attention=attention, size=size, identity_init=identity_init).double().eval()


def relative_row(table: np.ndarray, offset: int, size: int) -> np.ndarray:
    """The row for `offset` on a map with `size` positions: linear in the offset divided by the largest one."""
    reference = (len(table) + 1) // 2
    normalised = offset / (size - 1) if size > 1 else 0.0
    place = (normalised + 1) * (reference - 1)
    return np.array([np.interp(place, range(len(table)), column) for column in table.T])


def attend(layer: SelfAttention, x: np.ndarray, heads: int) -> np.ndarray:
    weight = layer.qkv.weight.detach().numpy()[:, :, 0, 0]
    rel_h, rel_w = layer.rel_h.detach().numpy(), layer.rel_w.detach().numpy()
    batch, channels, height, width = x.shape
    d = channels // heads
    places = [(row, column) for row in range(height) for column in range(width)]
    from_row = {o: relative_row(rel_h, o, height) for o in range(1 - height, height)}
    from_column = {o: relative_row(rel_w, o, width) for o in range(1 - width, width)}
    y = np.empty_like(x)
    for b, head in np.ndindex(batch, heads):
        own = np.arange(head * d, (head + 1) * d)
        query, key, value = (
            {place: weight[part * channels + own] @ x[b, :, place[0], place[1]] for place in places}
            for part in range(3)
        )
        for i in places:
            q = query[i] / d**0.5
            weights = [exp(q @ key[j] + q @ (from_row[j[0] - i[0]] + from_column[j[1] - i[1]])) for j in places]
            y[b, own, i[0], i[1]] = sum(w * value[j] for w, j in zip(weights, places, strict=True)) / sum(weights)
    return y


def block_reference(block: BoTBlock, x: np.ndarray, heads: int, conv1x1: Callable, batch_norm: Callable) -> np.ndarray:
    y = np.maximum(batch_norm(conv1x1(x, block.conv1), block.bn1), 0)
    y = np.maximum(batch_norm(attend(block.attention, y, heads), block.bn2), 0)
    x = np.maximum(batch_norm(conv1x1(y, block.conv2), block.bn3) + x, 0)
    if block.ffn is not None:
        wide, norm, _, narrow, last_norm = block.ffn
        y = np.maximum(batch_norm(conv1x1(x, wide), norm), 0)
        x = np.maximum(batch_norm(conv1x1(y, narrow), last_norm) + x, 0)
    return x


def test_attention_equals_the_loops(randomise: Callable[..., nn.Module], random_map: Callable[..., Tensor]) -> None:
    layer, x = randomise(attention_of(), seed=0), random_map()
    expected = torch.from_numpy(attend(layer, x.numpy(), heads=3))
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(7, 5), (3, 9), (4, 6), (1, 4), (4, 1), (1, 1)])
def test_attention_equals_the_loops_at_other_sizes(
    size: tuple[int, int], randomise: Callable[..., nn.Module], random_map: Callable[..., Tensor]
) -> None:
    layer, x = randomise(attention_of(), seed=0), random_map(2, 24, *size)
    expected = torch.from_numpy(attend(layer, x.numpy(), heads=3))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6)  # the place between two rows is float32


@pytest.mark.parametrize("size", [(5, 7), (3, 9), (1, 4)])
def test_the_weights_are_those_that_the_layer_multiplies_v_with(
    size: tuple[int, int], randomise: Callable[..., nn.Module], random_map: Callable[..., Tensor]
) -> None:
    layer, x = randomise(attention_of(), seed=0), random_map(2, 24, *size)
    weights = layer.weights(x, torch.arange(size[0] * size[1]))
    v = split_qkv(layer.qkv(x), 3)[2]
    torch.testing.assert_close(to_map(weights @ v, *size), layer(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, 3, size[0] * size[1], dtype=torch.float64))
    some = torch.tensor([3, 0])
    torch.testing.assert_close(layer.weights(x, some), weights[:, :, some])


def test_attention_by_hand() -> None:
    layer = attention_of(1, heads=1, size=(1, 2))
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.tensor([1.0, 0.0, 1.0]).reshape(3, 1, 1, 1))  # q = x, k = 0, v = x
        layer.rel_h.zero_()
        layer.rel_w.copy_(torch.tensor([[0.0], [0.0], [log(3)]], dtype=torch.float64))  # offsets -1, 0, 1
    y = layer(torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64))
    # The left token looks right with weight 3 : 1, the right one looks left with weight 1 : 1.
    torch.testing.assert_close(y.flatten(), torch.tensor([1.75, 1.5], dtype=torch.float64), rtol=1e-12, atol=0)


def test_queries_are_scaled() -> None:
    layer = attention_of(4, heads=1, size=(1, 2))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.qkv.weight[[0, 4, 8], 0] = 1  # q, k and v are channel 0, in channel 0
    y = layer(torch.tensor([[0.0, 2.0]]).double().reshape(1, 1, 1, 2).expand(1, 4, 1, 2).contiguous())
    # The second token's logits are 2·0 and 2·2, times 4^-1/2.
    assert y[0, 0, 0, 1].item() == pytest.approx(2 * exp(2) / (1 + exp(2)), rel=1e-12)


def position_rows(layer: SelfAttention, height: int, width: int) -> Tensor:
    """R_h + R_w as the layer uses it, (N, N, d): the position terms of unit queries."""
    d = layer.dim_head
    units = torch.eye(d, dtype=layer.rel_h.dtype)[:, None, None, None, :].expand(d, 1, height, width, d)
    rows, columns = layer.position_logits(units, spare=0)  # (d, 1, H, W, H) and (d, 1, H, W, W)
    pairs = rows[..., :, None] + columns[..., None, :]  # (d, 1, H, W, H, W)
    return pairs[:, 0].flatten(3, 4).flatten(1, 2).permute(1, 2, 0)


@pytest.mark.parametrize(("used", "unused", "axis"), [("rel_h", "rel_w", 0), ("rel_w", "rel_h", 1)])
def test_tables_are_used_bitwise_at_the_reference_size(used: str, unused: str, axis: int) -> None:
    torch.manual_seed(0)
    layer = SelfAttention(24, heads=3, reference_size=(5, 7))
    table = getattr(layer, used).detach()
    with torch.no_grad():
        getattr(layer, unused).zero_()
        rows = position_rows(layer, 5, 7)
    places = [(row, column) for row in range(5) for column in range(7)]
    size = (5, 7)[axis]
    for i, j in np.ndindex(35, 35):
        assert torch.equal(rows[i, j], table[places[j][axis] - places[i][axis] + size - 1])


# Reference size 3, so rows for the offsets -2 … 2; each row lists what the offsets of the other size must find.
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [4.0]),
        (2, [1.0, 4.0, 16.0]),
        (3, [1.0, 2.0, 4.0, 8.0, 16.0]),
        (4, [1.0, 5 / 3, 8 / 3, 4.0, 20 / 3, 32 / 3, 16.0]),
        (5, [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0]),
    ],
)
@pytest.mark.parametrize("table", ["rel_h", "rel_w"])
def test_tables_are_resampled_linearly(table: str, size: int, expected: list[float]) -> None:
    layer = SelfAttention(1, heads=1, reference_size=(3, 3))
    shape = (size, 1) if table == "rel_h" else (1, size)
    with torch.no_grad():
        layer.rel_h.zero_()
        layer.rel_w.zero_()
        getattr(layer, table).copy_(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])[:, None])
        rows = position_rows(layer, *shape)[:, :, 0]
    for i, j in np.ndindex(size, size):
        assert rows[i, j].item() == pytest.approx(expected[j - i + size - 1], rel=1e-6)


def test_tables_start_with_the_papers_scale() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(256, heads=4, reference_size=(50, 60))
    assert layer.rel_h.shape == (99, 64) and layer.rel_w.shape == (119, 64)
    for table in (layer.rel_h, layer.rel_w):
        assert table.std().item() == pytest.approx(64**-0.5, rel=0.05)
        assert abs(table.mean().item()) < 0.01


def test_a_gradient_reaches_every_row_of_the_tables(
    randomise: Callable[..., nn.Module], random_map: Callable[..., Tensor], assert_gradients: Callable[..., None]
) -> None:
    layer = randomise(attention_of(), seed=0)
    (layer(random_map()) * random_map(seed=2)).sum().backward()
    assert_gradients(layer)
    assert layer.rel_h.grad.all() and layer.rel_w.grad.all()


@pytest.mark.parametrize("size", [(5, 7), (1, 3)])
def test_items_are_independent(
    size: tuple[int, int],
    randomise: Callable[..., nn.Module],
    random_map: Callable[..., Tensor],
    assert_items_independent: Callable[[nn.Module, Tensor], None],
) -> None:
    x = random_map(2, 24, *size)
    assert_items_independent(randomise(attention_of(), seed=0), x)
    assert_items_independent(randomise(block_of(size="full"), seed=0), x)


@pytest.mark.parametrize(("size", "mid"), [("lite", 6), ("full", 24)])
def test_block_equals_the_loops(
    size: str,
    mid: int,
    randomise: Callable[..., nn.Module],
    random_map: Callable[..., Tensor],
    conv1x1: Callable,
    batch_norm: Callable,
) -> None:
    block = randomise(block_of(size=size), seed=0)
    assert block.conv1.weight.shape == (mid, 24, 1, 1)
    for training in (False, True):
        block.train(training)
        expected = block_reference(block, random_map().numpy(), 3, conv1x1, batch_norm)
        torch.testing.assert_close(block(random_map()), torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("size", "expected"), [("lite", 8.0), ("full", 24.0)])
def test_block_by_hand(size: str, expected: float) -> None:
    block = BoTBlock(4, attention=lambda mid: nn.Identity(), size=size, identity_init=True).eval()
    with torch.no_grad():
        for module in block.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(1)
                module.running_var.fill_(1 - module.eps)
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(1 / module.in_channels)  # the mean of the channels
        block.conv2.weight.mul_(3)
        if block.ffn is not None:
            block.ffn[0].weight.mul_(2)
    # 2 in every channel: conv2 makes it 6 and the shortcut 8; the feed-forward part adds 2·8.
    y = block(torch.full((1, 4, 2, 3), 2.0))
    torch.testing.assert_close(y, torch.full_like(y, expected))


@pytest.mark.parametrize("size", ["lite", "full"])
def test_block_starts_as_the_identity_behind_a_relu(
    size: str, randomise: Callable[..., nn.Module], random_map: Callable[..., Tensor]
) -> None:
    block = block_of(size=size).float()
    for norm in (block.bn1, block.bn2):
        randomise(norm, seed=0)
    x = random_map().float().relu()
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("size", ["lite", "full"])
def test_block_without_the_identity_start_changes_its_input(size: str, random_map: Callable[..., Tensor]) -> None:
    block, x = block_of(size=size, identity_init=False).train(), random_map().relu()
    assert all(norm.weight.eq(1).all() for norm in block.modules() if isinstance(norm, nn.BatchNorm2d))
    assert not torch.allclose(block(x), x, atol=0.1)


@pytest.mark.parametrize("size", ["lite", "full"])
def test_gradients_of_a_block(
    size: str,
    randomise: Callable[..., nn.Module],
    random_map: Callable[..., Tensor],
    assert_gradients: Callable[..., None],
) -> None:
    block = randomise(block_of(size=size), seed=0).train()
    (block(random_map()) * random_map(seed=2)).sum().backward()
    assert_gradients(block)


@pytest.mark.parametrize("size", ["lite", "full"])
def test_the_zero_norms_learn_from_the_first_step(size: str, random_map: Callable[..., Tensor]) -> None:
    block = block_of(size=size).train()
    (block(random_map().relu()) * random_map(seed=2)).sum().backward()
    zeros = [p for name, p in block.named_parameters() if name.endswith("weight") and not p.any()]
    assert len(zeros) == {"lite": 1, "full": 2}[size]
    assert all(p.grad.any() for p in zeros)


def test_attention_exports_with_dynamic_sizes(random_map: Callable[..., Tensor]) -> None:
    """A branch for the reference size would freeze the size of the map, one for the spare columns their number."""
    layer = attention_of(8, heads=2, size=(5, 7))
    sizes = {2: torch.export.Dim("height", min=2, max=64), 3: torch.export.Dim("width", min=2, max=64)}
    exported = torch.export.export(layer, (random_map(1, 8, 5, 7),), dynamic_shapes=(sizes,)).module()
    for size in ((5, 7), (3, 9), (4, 9), (13, 6)):  # 0, 0, 7 and 1 spare columns
        x = random_map(1, 8, *size)
        torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.parametrize("size", [(11, 13), (24, 17), (20, 24)])
def test_no_logits_of_pairs_are_made_outside_the_kernel(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, random_map: Callable[..., Tensor]
) -> None:
    """The kernel gets no N×N mask, and widths that one without N×N weights takes; what it does inside is its own."""
    layer, sizes, calls = attention_of(8, heads=2), Sizes(), []
    kernel = F.scaled_dot_product_attention

    def outside(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        calls.append((q.shape, k.shape, v.shape, options))
        with sizes.paused():
            return kernel(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", outside)
    with sizes:
        layer(random_map(1, 8, *size))
    tokens = size[0] * size[1]
    wide = (1, 2, tokens, (4 + sum(size) + 7) // 8 * 8)
    assert calls == [(wide, wide, (1, 2, tokens, 4), {"scale": 1.0})]
    assert sizes.seen and max(sizes.seen) < 2 * tokens**2


class Sizes(TorchDispatchMode):
    """Records the number of elements of every tensor that an operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.listening = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.listening = False
        yield
        self.listening = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.listening:
            self.seen += [t.numel() for t in tree_leaves(out) if isinstance(t, Tensor)]
        return out


def test_refuses_heads_that_do_not_divide_the_channels() -> None:
    message = r"channels \(30\) must be divisible by heads \(4\); set model\.heads to 1, 2, 3, 5, 6, 10, 15, 30"
    with pytest.raises(ValueError, match=message):
        attention_of(30, heads=4)
    with pytest.raises(ValueError, match=r"channels \(6\) must be divisible by heads \(4\); set model\.heads to 1, 2"):
        block_of(size="lite", heads=4)


def test_refuses_wrong_settings() -> None:
    with pytest.raises(ValueError, match=r"heads: must be >= 1, got 0"):
        attention_of(heads=0)
    with pytest.raises(ValueError, match=r"reference_size: must be >= 1, got 0"):
        attention_of(size=(0, 7))
    with pytest.raises(ValueError, match=r"channels \(3\) must be at least 4"):
        block_of(size="lite", channels=3)
    with pytest.raises(ValueError, match=r"size: expected lite or full, got 'huge'"):
        block_of(size="huge")
