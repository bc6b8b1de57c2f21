"""Hybrids of convolution and attention: attention blocks on top of a backbone's feature map."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from hybridnet.model.backbone import Backbone
from hybridnet.model.bot import BoTBlock
from hybridnet.model.plain import PlainClassifier
from hybridnet.settings import Count, Rate, checked


class HybridClassifier(PlainClassifier):
    """Classifies images with a backbone and attention blocks, applied in the order they are listed.

    Every block starts as the identity on the backbone's output, so a new model computes what the plain one does,
    bit for bit, and a pretrained backbone's features survive the first step.

    Args:
        backbone: feature extractor with the interface of `hybridnet.model.backbone.Backbone`.
        num_classes: number of logits.
        blocks: name -> function from the number of channels to a block (B, C, h, w) -> (B, C, h, w).
        stage: the blocks follow layer `stage` of the backbone; 4 is after the last one.
        dropout: probability of dropping a pooled feature, 0 <= dropout < 1.

    Shape:
        (B, 3, H, W) -> (B, num_classes)

    Raises:
        ValueError: if a setting is out of range or a block does not fit the backbone's width.
    """

    @checked
    def __init__(
        self,
        backbone: Backbone,
        num_classes: Count,
        *,
        blocks: Mapping[str, Callable[[int], nn.Module]],
        stage: int,
        dropout: Rate,
    ) -> None:
        super().__init__(backbone, num_classes, dropout=dropout)
        backbone.require_stage(stage)
        self.stage = stage
        channels = backbone.channels[stage - 1]
        self.blocks = nn.Sequential(OrderedDict((name, block(channels)) for name, block in blocks.items()))
        if not backbone.is_rectified(stage):
            for block in self.blocks:
                if isinstance(block, BoTBlock):
                    block.keep_negative_values()

    def features(self, images: Tensor) -> Tensor:
        below = self.backbone(images, stop=self.stage)
        return self.backbone(self.blocks(below), start=self.stage)
