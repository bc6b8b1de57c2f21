"""What the tests of decoding and of the store share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridnet.data.decoded import Reduction
from hybridnet.data.image import load_reduced
from hybridnet.data.store import Store
from hybridnet.errors import Fault, InputError

CROP_SIDE, SHORT_SIDE = 24, 28
REDUCTION = Reduction(CROP_SIDE, SHORT_SIDE)

Noise = Callable[..., np.ndarray]
Open = Callable[..., Store]


def untracked(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    return items


def pictures_of(opened: Store, files: Sequence[Path]) -> list[np.ndarray]:
    pictures = opened.pictures(range(len(files)))
    return [pictures[index] for index in range(len(files))]


def assert_right(opened: Store, files: Sequence[Path], reduction: Reduction = REDUCTION) -> None:
    """Every picture is that of its file, bit for bit, and has the size that was promised."""
    pictures = opened.pictures(range(len(files)))
    for index, file in enumerate(files):
        expected = load_reduced(file, crop_side=reduction.crop_side, short_side=reduction.short_side)
        assert pictures[index].dtype == np.uint8
        np.testing.assert_array_equal(pictures[index], expected, err_msg=file.name)
        assert tuple(pictures.sizes[index]) == expected.shape[:2]


def folders(cache: Path) -> list[Path]:
    """Of complete stores."""
    return [path for path in cache.iterdir() if path.is_dir() and not path.name.startswith(".")]


def unfinished(cache: Path) -> list[Path]:
    return list(cache.glob(".*.tmp"))


def fault_of(call: Callable[[], object]) -> Fault:
    with pytest.raises(InputError) as error:
        call()
    (fault,) = error.value.faults
    return fault
