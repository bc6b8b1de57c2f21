"""Batches of a list of pictures: in its order, without those that cannot be decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hybridnet.data.listed import ListedBatch, ListedImages
from hybridnet.data.preprocessing import Preprocessing

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(image_size=(4, 6), center_crop=1.0, mean=(0, 0, 0), std=(1, 1, 1))


def grey(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, dtype=np.uint8)


def test_bad_files_are_left_out_and_told(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for number, file in enumerate(files):
        Image.fromarray(grey(number)).save(file)
    files[1].write_text("no picture")
    files[4].unlink()
    files[5].write_bytes(b"")
    images = ListedImages(files, PREPROCESSING)
    batches = list(images.batches(batch_size=2, device=CPU))
    assert [batch.indices.tolist() for batch in batches] == [[0], [2, 3], [], [6]]
    assert [len(batch) for batch in batches] == [1, 2, 0, 1]
    for batch in batches:
        assert batch.images.shape == (len(batch), 4, 6, 3)
        assert [int(image[0, 0, 0]) for image in batch.images] == batch.indices.tolist()
    assert images.causes == {
        1: "is none of JPEG, PNG, WebP, BMP and TIFF, or its header is damaged",
        4: "no such file",
        5: "is empty (0 bytes)",
    }


def test_arrays_and_files_are_the_same(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (31, 25, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    (batch,) = ListedImages([picture, tmp_path / "a.png"], PREPROCESSING).batches(batch_size=5, device=CPU)
    assert torch.equal(batch.images[0], batch.images[1])


def test_a_batch_counts_its_pictures() -> None:
    assert len(ListedBatch(torch.zeros(3, 4, 6, 3), np.arange(3))) == 3
