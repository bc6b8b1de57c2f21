"""Coordinate attention: one gate per row and one per column."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridnet.model.pointwise import PointwiseConv2d
from hybridnet.settings import Count, checked


class CoordinateAttention(nn.Module):
    """Reweights a feature map by one gate per row and one per column, for every channel.

    z_h = mean over W (B, C, H, 1), z_w = mean over H (B, C, W, 1); f = hardswish(bn1(conv1(cat[z_h, z_w])));
    y = x · g·σ(conv_h f_h) · g·σ(conv_w f_w).

    Paper: Hou et al., "Coordinate Attention for Efficient Mobile Network Design", arXiv:2103.02907.
    Deviations: starts as the identity (gates doubled, last convs zero); `identity_init=False` is the paper's.

    Args:
        channels: C of the input and the output.
        reduction: the hidden width is max(8, channels // reduction).
        identity_init: start as the exact identity in eval mode.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1.

    Raises:
        ValueError: if channels < 1 or reduction < 1.
    """

    @checked
    def __init__(self, channels: Count, *, reduction: Count, identity_init: bool) -> None:
        super().__init__()
        hidden = max(8, channels // reduction)
        self.conv1 = PointwiseConv2d(channels, hidden, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish()
        self.conv_h = PointwiseConv2d(hidden, channels, bias=True)
        self.conv_w = PointwiseConv2d(hidden, channels, bias=True)
        self.gain = 2.0 if identity_init else 1.0
        if identity_init:
            for conv in (self.conv_h, self.conv_w):
                nn.init.zeros_(conv.weight)
                nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        row_gate, column_gate = (gate.permute(0, 2, 3, 1) for gate in self.gates(x))
        # As (B, H, W, C): sums over H or W, here and in the backward, are up to ten times faster than as (B, C, H, W).
        return (x.permute(0, 2, 3, 1) * row_gate * column_gate).permute(0, 3, 1, 2)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of the rows (B, C, H, 1) and of the columns (B, C, 1, W)."""
        height, width = x.shape[2:]
        pixels = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        means = torch.cat([pixels.mean(dim=2), pixels.mean(dim=1)], dim=1)  # z_h and z_w, (B, H+W, C)
        f = self.act(self.bn1(self.conv1(means.transpose(1, 2).unsqueeze(3))))  # (B, hidden, H+W, 1)
        f_h, f_w = f.split([height, width], dim=2)
        row_gate = self.gain * torch.sigmoid(self.conv_h(f_h))
        column_gate = self.gain * torch.sigmoid(self.conv_w(f_w.transpose(2, 3)))
        return row_gate, column_gate
