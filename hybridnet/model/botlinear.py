"""Linear attention for the Bottleneck-Transformer block (BoTLinear)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridnet.model.bot import split_heads, split_qkv, to_map
from hybridnet.model.pointwise import PointwiseConv2d
from hybridnet.settings import Count, checked


class LinearAttention(nn.Module):
    """Multi-head attention in O(N) time and memory, with 2-D sine-cosine positions and a local term.

    o_i = φ(q_i)·Σ_j φ(k_j) v_jᵀ / φ(q_i)·Σ_j φ(k_j), y = o + lepe(v). A fixed position table times a learned scalar is
    added to q and to k. Tokens are row-major, head j owns channels [j·d, (j+1)·d). The core runs in float32, or in
    float64 if the input is.

    Feature maps φ:
        elu: elu(u) + 1 (Katharopoulos et al., "Transformers are RNNs", arXiv:2006.16236).
        relu: max(u, 0).
        softmax: softmax over d of q and over N of k (Shen et al., "Efficient Attention", arXiv:1812.01243).
        inline: weights (1 + d^-1/2 q_i·(k_j - mean k)) / N (Han et al., "Bridging the Divide", arXiv:2412.06590).

    Deviations: positions on q and k and the local term `lepe` (a depthwise 3×3 convolution of v) stand in for BoT's
    relative positions. `lepe` starts at zero, or it would drown the attention, whose output is √N times smaller.

    Args:
        channels: C of the input and the output; divisible by 4.
        heads: number of heads; divides channels.
        feature_map: `elu`, `relu`, `softmax` or `inline`.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1.

    Raises:
        ValueError: if heads or 4 does not divide channels, or a setting is out of range.
    """

    @checked
    def __init__(
        self, channels: Count, *, heads: Count, feature_map: Literal["elu", "relu", "softmax", "inline"]
    ) -> None:
        super().__init__()
        if channels % 4:
            raise ValueError(f"channels ({channels}) must be divisible by 4 for the sine-cosine positions")
        self.heads = heads
        self.dim_head = split_heads(channels, heads)
        self.feature_map = feature_map
        self.qkv = PointwiseConv2d(channels, 3 * channels, bias=False)
        self.position_scale = nn.Parameter(torch.ones(()))
        self.lepe = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        nn.init.zeros_(self.lepe.weight)
        nn.init.zeros_(self.lepe.bias)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        q, k, v = split_qkv(self.qkv(x), self.heads)  # 3 × (B, heads, N, d)
        local = self.lepe(to_map(v, height, width))
        with torch.autocast(x.device.type, enabled=False):
            q, k = self._located(q, k, x)
            y = linear_attention(q, k, v.contiguous().to(q.dtype), feature_map=self.feature_map)
        # Of a model whose weights are 16 bits the next layer takes no float32.
        return (to_map(y, height, width) + local).to(self.qkv.weight.dtype)

    def weights(self, x: Tensor, queries: Tensor) -> Tensor:
        """Where some positions look: the weights of v that the O(N) order never computes, without the local term.

        The attention is linear in v, so its answer to the unit vectors are the weights.

        Args:
            x: (B, C, H, W).
            queries: int64 (Q,), positions y·W + x.

        Returns:
            float32, or float64 if x is, (B, heads, Q, N), N = H·W; each row sums to 1. With `inline` some may be
            negative; with `relu` all are 0 where no product of a query and a key is positive.
        """
        q, k, _ = split_qkv(self.qkv(x), self.heads)
        with torch.autocast(x.device.type, enabled=False):
            q, k = self._located(q, k, x)
            unit_vectors = torch.eye(k.shape[2], dtype=k.dtype, device=k.device).expand(*k.shape[:2], -1, -1)
            return linear_attention(q[:, :, queries], k, unit_vectors, feature_map=self.feature_map)

    def _located(self, q: Tensor, k: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys with their positions in the map x, float32 or float64 (B, heads, N, d)."""
        position = self.position_scale * position_table(x)
        position = position.unflatten(0, (self.heads, -1)).flatten(2).transpose(1, 2).contiguous()  # (heads, N, d)
        # Tokens side by side, as the products want them: cheaper to copy while it is still bf16.
        return q.contiguous().to(position.dtype) + position, k.contiguous().to(position.dtype) + position


def linear_attention(q: Tensor, k: Tensor, v: Tensor, *, feature_map: str) -> Tensor:
    """Attention of queries, keys and values (B, heads, N, d) -> (B, heads, N, d), in O(N)."""
    num_tokens, dim_head = k.shape[2:]
    if feature_map == "softmax":
        return _weighted(q.softmax(dim=3), k.softmax(dim=2), v)
    if feature_map == "inline":
        centred = k - k.mean(dim=2, keepdim=True)
        return _weighted(q, centred * (dim_head**-0.5 / num_tokens), v) + v.mean(dim=2, keepdim=True)
    phi = elu_plus_one if feature_map == "elu" else F.relu
    q, k = phi(q), phi(k) / num_tokens  # divided by N, so that sums over many tokens stay near 1
    return _weighted(q, k, v, normalised=True)


def _weighted(q: Tensor, k: Tensor, v: Tensor, *, normalised: bool = False) -> Tensor:
    """Sums of v with the weights q·kᵀ, divided by the sums of the weights if normalised, in the cheaper order.

    With fewer tokens than the heads are wide (49 against 128 at 224 pixels) the N×N weights are smaller than kᵀv, d×d:
    their size is never more than N·d. An exported program has no size yet and takes the order that is O(N).
    """
    if not torch.compiler.is_exporting() and k.shape[2] < k.shape[3]:
        weights = q @ k.transpose(2, 3)  # (B, heads, N, N)
        return (weights / (weights.sum(dim=3, keepdim=True) + 1e-12) if normalised else weights) @ v
    y = q @ (k.transpose(2, 3) @ v)  # kᵀv: (B, heads, d, d)
    return y / (q @ k.sum(dim=2).unsqueeze(3) + 1e-12) if normalised else y


def elu_plus_one(u: Tensor) -> Tensor:
    """elu(u) + 1, written so that a very negative u gives a small positive number instead of cancelling to 0."""
    return _EluPlusOne.apply(u)


class _EluPlusOne(torch.autograd.Function):
    """max(u, 0) + exp(min(u, 0)). The derivative is min(φ, 1), so only the result is kept: half the passes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return u.clamp(max=0).exp_().add_(u.clamp(min=0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (phi,) = ctx.saved_tensors
        return grad * phi.clamp(max=1)


def position_table(x: Tensor) -> Tensor:
    """2-D sine-cosine positions for a map x (B, C, H, W) -> (C, H, W), float32, or float64 if x is.

    The first C / 2 channels encode y, the others x, each as [sin | cos] of C / 4 frequencies 10000^(-i / (C/4)).
    """
    channels, height, width = x.shape[1:]
    quarter, dtype = channels // 4, torch.promote_types(x.dtype, torch.float32)
    frequencies = 10000.0 ** (-torch.arange(quarter, device=x.device, dtype=dtype) / quarter)

    def encode(size: int) -> Tensor:
        angles = frequencies[:, None] * torch.arange(size, device=x.device, dtype=dtype)
        return torch.cat([angles.sin(), angles.cos()])  # (C/2, size)

    rows = encode(height)[:, :, None].expand(-1, -1, width)
    columns = encode(width)[:, None, :].expand(-1, height, -1)
    return torch.cat([rows, columns])
