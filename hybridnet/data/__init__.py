"""Data: from a CSV of photos to batches."""

from hybridnet.data.image import load_image

__all__ = ["load_image"]
