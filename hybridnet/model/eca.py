"""Efficient channel attention, inside every residual block or on top of the backbone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from hybridnet.model.backbone import Backbone
from hybridnet.model.plain import PlainClassifier
from hybridnet.settings import Count, Rate, checked


class ECA(nn.Module):
    """Reweights the channels of a feature map by a short convolution over their means.

    y = x · g · σ(conv1d_k(mean_hw x)), k = t if odd else t + 1, t = int(|log2 C + 1| / 2).

    Paper: Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", arXiv:1910.03151.
    Deviations: starts as the identity (gate doubled, convolution zero); `identity_init=False` is the paper's.

    Args:
        channels: C of the input and the output.
        identity_init: start as the exact identity.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1.

    Raises:
        ValueError: if channels < 1.
    """

    @checked
    def __init__(self, channels: Count, *, identity_init: bool) -> None:
        super().__init__()
        t = int(abs(math.log2(channels) + 1) / 2)
        kernel_size = t if t % 2 else t + 1
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.gain = 2.0 if identity_init else 1.0
        if identity_init:
            nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        # As (B, H, W, C): sums over H and W, here and in the backward, are faster than as (B, C, H, W).
        pixels = x.permute(0, 2, 3, 1)
        means = pixels.mean(dim=(1, 2)).unsqueeze(1)  # (B, 1, C)
        gate = self.gain * torch.sigmoid(self.conv(means)).unsqueeze(1)  # (B, 1, 1, C)
        return (pixels * gate).permute(0, 3, 1, 2)


class ECAClassifier(PlainClassifier):
    """Classifies images with a backbone whose channels are reweighted by ECA.

    Args:
        backbone: feature extractor with the interface of `hybridnet.model.backbone.Backbone`.
        num_classes: number of logits.
        eca: function from the number of channels to an ECA layer.
        placement: `residual` is the paper's, inside every residual block after its last BatchNorm and before the
            addition; `top` is after the last layer, where it is only a gate on the pooled vector.
        dropout: probability of dropping a pooled feature, 0 <= dropout < 1.

    Shape:
        (B, 3, H, W) -> (B, num_classes)

    Raises:
        ValueError: if a setting is out of range.
    """

    @checked
    def __init__(
        self,
        backbone: Backbone,
        num_classes: Count,
        *,
        eca: Callable[[int], ECA],
        placement: Literal["residual", "top"],
        dropout: Rate,
    ) -> None:
        super().__init__(backbone, num_classes, dropout=dropout)
        self.eca: nn.Module = nn.Identity()
        if placement == "residual":
            backbone.insert_attention(eca)
        else:
            self.eca = eca(backbone.channels[-1])

    def features(self, images: Tensor) -> Tensor:
        return self.eca(self.backbone(images))
