"""hybridnet: ResNet image classifiers with attention on top, trained from a CSV of photos.

import hybridnet

model = hybridnet.create_model("hybrid", num_classes=4, overrides=["model.heads=8"])
model = hybridnet.load_model("outputs/runs/hybrid_2026-11-23_16-03-57-123456")
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["create_model", "load_model"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # Imported at first use: a misspelt override is answered before torch is imported.
    if name in __all__:
        from hybridnet import api

        return getattr(api, name)
    raise AttributeError(f"module 'hybridnet' has no attribute '{name}'")
