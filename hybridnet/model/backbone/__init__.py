"""Backbones: convolutional feature extractors with the interface below."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Backbone(nn.Module):
    """What the classifiers ask of a feature extractor.

    Attributes:
        channels: width of the feature map after each stage.
        hint_for_small_images: what else than larger images gives a larger map.
        has_initial_weights: whether the settings name weights for `load_initial_weights`, or the random ones stay.
    """

    channels: tuple[int, ...]
    has_initial_weights = True
    hint_for_small_images = "model.stem=small for pictures of 32 to 64 pixels"

    def forward(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        """Apply stages start+1 … stop (all by default); `start=0` takes images and begins with the stem."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def stride(self, stage: int) -> int | None:
        """Pixels between the centres of what neighbouring positions of a stage's map see.

        The first position's centre is then the image's first pixel. None where that is not so, or not known: maps are
        shown as if their positions tiled the image.
        """
        return None

    def require_stage(self, stage: int) -> None:
        """Refuse a stage that nothing can follow but the rest of the backbone.

        Raises:
            ValueError: if there is no such stage, or the backbone cannot be cut after it.
        """
        num_stages = len(self.channels)
        if not 1 <= stage <= num_stages:
            raise ValueError(f"stage ({stage}) must lie between 1 and {num_stages}; set model.stage={num_stages}")

    def is_rectified(self, stage: int) -> bool:
        """Whether the feature map after a stage is nowhere negative, as after a ReLU."""
        return True

    def insert_attention(self, attention: Callable[[int], nn.Module]) -> None:
        """Put a new attention layer into every residual block, after its last BatchNorm and before the addition."""
        raise NotImplementedError(f"{type(self).__name__} has no insert_attention()")

    def first_stages(self, num: int) -> list[nn.Module]:
        """The modules of the stem and of the stages 1 … num, to freeze them."""
        raise NotImplementedError(f"{type(self).__name__} has no first_stages()")

    def pretrained_parameter_names(self) -> set[str]:
        """Names of the parameters that belong to the published architecture, without inserted attention."""
        raise NotImplementedError(f"{type(self).__name__} has no pretrained_parameter_names()")

    def require_weights(self) -> None:
        """Raises InputError if a file that `load_initial_weights` reads is not there."""

    def load_initial_weights(self) -> list[str]:
        """Load the weights that the settings ask for and say, line by line, what was and was not loaded."""
        raise NotImplementedError(f"{type(self).__name__} has no load_initial_weights()")
