"""Bottleneck-Transformer block and its self-attention with relative positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridnet.model.pointwise import PointwiseConv2d
from hybridnet.settings import Count, checked


class BoTBlock(nn.Module):
    """A residual bottleneck with attention in place of the 3×3 convolution, and optionally a feed-forward part.

    conv1 (C→mid)-bn-relu → attention(mid) → bn-relu → conv2 (mid→C)-bn (γ = 0) + x → relu; size `full` adds
    conv-bn-relu-conv-bn (γ = 0) + x → relu. `lite`: mid = C / 4, no feed-forward part (the paper's bottleneck);
    `full`: mid = C and a feed-forward part four times as wide.

    Paper: Srinivas et al., "Bottleneck Transformers for Visual Recognition", arXiv:2101.11605.
    Deviations: the last BatchNorm of each part starts at zero, so a new block is the identity on x >= 0, unless
    identity_init is False; it follows the last stage of the backbone instead of replacing its convolutions; size
    `full`; after a backbone whose map has negative values the sums are not rectified (`keep_negative_values`), or the
    new block would take these values away.

    Args:
        channels: C of the input and the output.
        attention: function from the number of channels to an attention layer (B, mid, H, W) -> (B, mid, H, W).
        size: `lite` or `full`.
        identity_init: start as the exact identity.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; x >= 0, as after a ReLU, unless negative values are kept.

    Raises:
        ValueError: if channels < 4, or the attention layer does not fit the width.
    """

    @checked
    def __init__(
        self,
        channels: Count,
        *,
        attention: Callable[[int], nn.Module],
        size: Literal["lite", "full"],
        identity_init: bool,
    ) -> None:
        super().__init__()
        if channels < 4:
            raise ValueError(f"channels ({channels}) must be at least 4")
        mid, ffn_ratio = {"lite": (channels // 4, 0), "full": (channels, 4)}[size]
        self.conv1 = PointwiseConv2d(channels, mid, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.attention = attention(mid)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv2 = PointwiseConv2d(mid, channels, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.ffn = _feed_forward(channels, ffn_ratio * channels) if ffn_ratio else None
        self.act: nn.Module = nn.ReLU(inplace=True)
        if identity_init:
            nn.init.zeros_(self.bn3.weight)
            if self.ffn is not None:
                nn.init.zeros_(self.ffn[-1].weight)

    def keep_negative_values(self) -> None:
        """Leave out the ReLU after the sums: then a new block is the identity on every x."""
        self.act = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn2(self.attention(self.attended(x))), inplace=True)
        # x comes first: a sum takes its first term's memory layout.
        x = self.act(x + self.bn3(self.conv2(y)))
        return x if self.ffn is None else self.act(x + self.ffn(x))

    def attended(self, x: Tensor) -> Tensor:
        """What the attention layer sees of the block's input, (B, C, H, W) -> (B, mid, H, W)."""
        return F.relu(self.bn1(self.conv1(x)), inplace=True)


class SelfAttention(nn.Module):
    """Multi-head softmax attention over all positions, with relative position terms for rows and columns.

    logit_ij = q_i·k_j + q_i·(R_h[y_j - y_i + H - 1] + R_w[x_j - x_i + W - 1]) with q scaled by d^-1/2; softmax over j;
    times v. Tokens are row-major, head j owns channels [j·d, (j+1)·d). There is no output projection: the last
    convolution of the bottleneck is one.

    The logits are computed as q'_i·k'_j with q'_i = [q_i, its logit for every row, its logit for every column] and
    k'_j = [k_j, onehot(y_j), onehot(x_j)], filled up with zeros to a multiple of 8: the same sum, without a mask.
    Memory is O(N·(d + H + W)), N = H·W, with a kernel that stores no N×N weights and lets v be narrower than k, such
    as CUDA's memory-efficient one. PyTorch has none for the CPU: what it uses there stores N×N weights.

    Paper: Srinivas et al., "Bottleneck Transformers for Visual Recognition", arXiv:2101.11605.
    Deviations: the tables have a reference size; for another map they are resampled linearly in the offset divided
    by the largest offset, which at the reference size gives the tables themselves, bit for bit.

    Args:
        channels: C of the input and the output.
        heads: number of heads; divides channels.
        reference_size: (H, W) for which the tables hold one row per offset.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1.

    Raises:
        ValueError: if heads does not divide channels, or a setting is out of range.
    """

    @checked
    def __init__(self, channels: Count, *, heads: Count, reference_size: tuple[Count, Count]) -> None:
        super().__init__()
        self.heads = heads
        self.dim_head = split_heads(channels, heads)
        self.qkv = PointwiseConv2d(channels, 3 * channels, bias=False)
        self.rel_h, self.rel_w = (
            nn.Parameter(torch.randn(2 * size - 1, self.dim_head) * self.dim_head**-0.5) for size in reference_size
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        q, k, v = self._located(x)
        return to_map(F.scaled_dot_product_attention(q, k, v, scale=1.0), height, width)

    def weights(self, x: Tensor, queries: Tensor) -> Tensor:
        """Where some positions look, explicitly: the weights that `forward` multiplies v with.

        Args:
            x: (B, C, H, W).
            queries: int64 (Q,), positions y·W + x.

        Returns:
            (B, heads, Q, N), N = H·W; each row sums to 1.
        """
        q, k, _ = self._located(x)
        return (q[:, :, queries] @ k.transpose(2, 3)).softmax(dim=3)

    def _located(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q' and k', whose products are the logits, and v: (B, C, H, W) -> 3 × (B, heads, N, …)."""
        height, width = x.shape[2:]
        q, k, v = split_qkv(self.qkv(x), self.heads)  # 3 × (B, heads, N, d)
        q, k = (t.unflatten(2, (height, width)) for t in (q * self.dim_head**-0.5, k))  # 2 × (B, heads, H, W, d)
        spare = -(self.dim_head + height + width) % 8  # CUDA's memory-efficient kernel asks for aligned widths
        # Flattened after the concatenation, where it is a view: of the parts it depends on strides, which would limit
        # the sizes that an export takes.
        q = torch.cat([q, *self.position_logits(q, spare)], dim=4).flatten(2, 3)
        k = torch.cat([k, *_one_hot_positions(k, spare)], dim=4).flatten(2, 3)
        return q, k, v

    def position_logits(self, q: Tensor, spare: int) -> tuple[Tensor, Tensor]:
        """Logits of every row and every column for scaled queries, the second with `spare` zeros at its end.

        (B, heads, H, W, d) -> (B, heads, H, W, H) and (B, heads, H, W, W + spare).
        """
        height, width = q.shape[2:4]
        rows = _relative_table(self.rel_h, height).to(q.dtype)  # (H, H, d)
        columns = _relative_table(self.rel_w, width).to(q.dtype)  # (W, W, d)
        columns = F.pad(columns, (0, 0, 0, spare))  # the table is small: zeros here cost no copy of the queries
        return torch.einsum("bnyxd,yid->bnyxi", q, rows), torch.einsum("bnyxd,xjd->bnyxj", q, columns)


def _one_hot_positions(k: Tensor, spare: int) -> tuple[Tensor, Tensor]:
    """Where each key is: (B, heads, H, W, d) -> (B, heads, H, W, H) and (B, heads, H, W, W + spare), 0 and 1."""
    height, width = k.shape[2:4]
    rows = torch.eye(height, dtype=k.dtype, device=k.device)[:, None]  # (H, 1, H)
    columns = torch.eye(width, width + spare, dtype=k.dtype, device=k.device)
    return rows.expand(*k.shape[:4], -1), columns.expand(*k.shape[:4], -1)


def split_heads(channels: int, heads: int) -> int:
    """The width of one head.

    Raises:
        ValueError: if heads does not divide channels; names the numbers that do.
    """
    if channels % heads:
        divisors = [str(n) for n in range(1, channels + 1) if channels % n == 0]
        shown = ", ".join(divisors[:8]) + (" …" if len(divisors) > 8 else "")
        raise ValueError(f"channels ({channels}) must be divisible by heads ({heads}); set model.heads to {shown}")
    return channels // heads


def split_qkv(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3C, H, W) -> queries, keys and values, each (B, heads, N, d), N = H·W.

    One `unbind`, on views that follow channels_last memory: its backward writes the three gradients side by side.
    """
    tokens = qkv.flatten(2).transpose(1, 2).unflatten(2, (3, heads, -1))  # (B, N, 3, heads, d)
    q, k, v = tokens.unbind(2)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, heads, N, d) -> (B, C, H, W), channels_last in memory."""
    return tokens.transpose(1, 2).flatten(2).unflatten(1, (height, width)).permute(0, 3, 1, 2)


def _relative_table(table: Tensor, size: int) -> Tensor:
    """Rows of `table` for every pair of positions: (2·reference - 1, d) -> (size, size, d), entry [i, j] for j - i.

    The integer product comes before the division, so that at the reference size every row is hit exactly.
    """
    centre = (table.shape[0] - 1) // 2
    offsets = torch.arange(2 * size - 1, device=table.device) - (size - 1)
    position = (offsets * centre).to(table.dtype) / offsets[-1].clamp(min=1) + centre
    lower = position.floor()
    weight = (position - lower).unsqueeze(1)
    lower = lower.long()
    upper = (lower + 1).clamp(max=2 * centre)
    resampled = table[lower] * (1 - weight) + table[upper] * weight  # (2·size - 1, d)
    index = torch.arange(size, device=table.device)
    return resampled[index[None, :] - index[:, None] + size - 1]


def _feed_forward(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        PointwiseConv2d(channels, hidden, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        PointwiseConv2d(hidden, channels, bias=False),
        nn.BatchNorm2d(channels),
    )
