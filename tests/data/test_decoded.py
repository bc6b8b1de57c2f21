"""Decoded pictures: views of a file, or decoded when they are asked for."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridnet.data.decoded import Entry, LivePictures, Reduction, StoredPictures, map_pixels
from hybridnet.errors import InputError

SIZES = [(4, 6), (7, 3), (5, 5)]
REDUCTION = Reduction(crop_side=24, short_side=28)


@pytest.fixture
def arrays(noise: Callable[..., np.ndarray]) -> list[np.ndarray]:
    return [noise(height, width, seed=number) for number, (height, width) in enumerate(SIZES)]


@pytest.fixture
def stored(arrays: list[np.ndarray], tmp_path: Path) -> StoredPictures:
    """The pictures one behind the other in a file, the last one first in the split."""
    (tmp_path / "pixels.bin").write_bytes(b"".join(array.tobytes() for array in arrays))
    starts = np.cumsum([0, *(array.size for array in arrays)])
    entries = [Entry(h, w, int(start), 0, 0, "") for (h, w), start in zip(SIZES, starts, strict=False)]
    return StoredPictures(tmp_path / "pixels.bin", entries[::-1])


@pytest.fixture
def live(arrays: list[np.ndarray], tmp_path: Path) -> LivePictures:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for array, file in zip(arrays, files, strict=True):
        Image.fromarray(array).save(file)
    return LivePictures(files, SIZES, REDUCTION)


def test_pictures_of_the_file(stored: StoredPictures, arrays: list[np.ndarray]) -> None:
    assert stored.sizes.tolist() == [list(size) for size in SIZES[::-1]]
    for index, expected in enumerate(arrays[::-1]):
        np.testing.assert_array_equal(stored[index], expected)


def test_a_picture_cannot_be_changed(stored: StoredPictures, arrays: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="read-only"):
        stored[0][:] = 7
    np.testing.assert_array_equal(stored[0], arrays[-1])


def test_the_file_may_be_larger_than_the_memory(tmp_path: Path) -> None:
    """Two terabytes, of which the disk has none."""
    file = tmp_path / "pixels.bin"
    file.touch()
    os.truncate(file, 2**41)
    assert map_pixels(file)[-1] == 0


def test_a_worker_opens_the_file_itself(stored: StoredPictures, tmp_path: Path) -> None:
    expected = stored[1].copy()  # mapped by now
    content = pickle.dumps(stored)
    assert len(content) < 1000
    assert expected.tobytes()[:8] not in content, "the pixels must not travel"
    np.testing.assert_array_equal(pickle.loads(content)[1], expected)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "pixels.bin").touch()
    assert map_pixels(tmp_path / "pixels.bin").shape == (0,)


def test_live_pictures(live: LivePictures, arrays: list[np.ndarray]) -> None:
    for index, expected in enumerate(arrays):
        np.testing.assert_array_equal(live[index], expected)


def test_replaced_file_is_named(live: LivePictures, noise: Callable[..., np.ndarray]) -> None:
    Image.fromarray(noise(9, 9)).save(live.files[1])
    with pytest.raises(InputError, match=r"changed image in .*1\.png: it was replaced after the run had started"):
        live[1]


def test_stored_pictures_are_announced(stored: StoredPictures, arrays: list[np.ndarray]) -> None:
    stored.will_need(np.array([2, 0]))
    np.testing.assert_array_equal(stored[0], arrays[2])


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice")
def test_files_are_announced(live: LivePictures, monkeypatch: pytest.MonkeyPatch) -> None:
    announced: list[tuple] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *call: announced.append(call))
    live.files[0].unlink()  # is told when it is read
    live.will_need(np.array([0, 2]))
    assert announced == [(0, 0, os.POSIX_FADV_WILLNEED)]
