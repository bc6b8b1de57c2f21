"""The plain classifier: backbone, global average pool, dropout, linear layer. Every other model builds on it."""

from __future__ import annotations

from torch import Tensor, nn

from hybridnet.model.backbone import Backbone
from hybridnet.settings import Count, Rate, checked


class PlainClassifier(nn.Module):
    """Classifies images with a convolutional backbone and no attention.

    Paper: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385.

    Args:
        backbone: feature extractor with the interface of `hybridnet.model.backbone.Backbone`.
        num_classes: number of logits.
        dropout: probability of dropping a pooled feature, 0 <= dropout < 1.

    Shape:
        (B, 3, H, W) -> (B, num_classes)

    Raises:
        ValueError: if num_classes < 1 or dropout is out of range.
    """

    @checked
    def __init__(self, backbone: Backbone, num_classes: Count, *, dropout: Rate) -> None:
        super().__init__()
        self.backbone = backbone
        # Made before any attention, so that one seed gives every variant the same backbone and the same classifier.
        self.fc = nn.Linear(backbone.channels[-1], num_classes)
        self.dropout = nn.Dropout(dropout)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, (B, 3, H, W) -> (B, C, h, w)."""
        return self.backbone(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))

    def classify(self, features: Tensor) -> Tensor:
        """The logits of a last feature map, (B, C, h, w) -> (B, num_classes)."""
        # The channels last, so that the gradient is laid out in memory as the features are.
        pooled = features.permute(0, 2, 3, 1).mean(dim=(1, 2))  # (B, C)
        return self.fc(self.dropout(pooled))

    def first_stages(self, num: int) -> list[nn.Module]:
        """The modules of the backbone's stem and of its stages 1 … num, to freeze them.

        Raises:
            ValueError: if there are not so many.
        """
        num_stages = len(self.backbone.channels)
        if num > num_stages:
            raise ValueError(f"freeze_stages ({num}) must be at most {num_stages}; set trainer.freeze_stages=2")
        return self.backbone.first_stages(num) if num else []

    @property
    def has_initial_weights(self) -> bool:
        """Whether the backbone begins with weights that were trained before."""
        return self.backbone.has_initial_weights

    def pretrained_parameter_names(self) -> set[str]:
        """Names of the parameters that a pretrained backbone brings; the optimizer trains the others with head_lr."""
        return {f"backbone.{name}" for name in self.backbone.pretrained_parameter_names()}
