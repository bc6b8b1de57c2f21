from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridnet.data.preprocessing import Preprocessing
from hybridnet.errors import InputError
from hybridnet.inference.agreement import Agreement, compare

PREPROCESSING = Preprocessing(image_size=(6, 8), center_crop=1.0, mean=(0.5,) * 3, std=(0.25,) * 3)


class Means(nn.Module):
    """Two logits: the mean of red, and of blue."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))[:, [0, 2]]


def agreement(expected: list[list[float]], found: list[list[float]]) -> Agreement:
    return Agreement((6, 8), 2, torch.tensor(expected), torch.tensor(found), np.arange(len(expected)), {})


def pictures(num: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (num, 6, 8, 3), dtype=np.uint8))


def test_every_batch_size_is_asked_about_every_picture(tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")
    seen: list[tuple[int, ...]] = []

    def program(images: Tensor) -> Tensor:
        assert images.is_contiguous() and images.dtype == torch.float32
        seen.append(tuple(images.shape))
        return Means()(images) + 1  # which probabilities do not feel

    shown = pictures(5)
    found = compare(Means(), program, [*shown[:2], tmp_path / "junk", *shown[2:]], PREPROCESSING, batch_sizes=(4, 1))
    assert [one.batch_size for one in found] == [4, 1] and found[0].image_size == (6, 8)
    assert sorted(shape[0] for shape in seen) == [1] * 5 + [2, 3] and {shape[1:] for shape in seen} == {(3, 6, 8)}
    by_hand = np.stack(shown).mean(axis=(1, 2))[:, [0, 2]] / 255 / 0.25
    expected = np.exp(by_hand) / np.exp(by_hand).sum(axis=1, keepdims=True)
    for one in found:
        np.testing.assert_allclose(one.expected.numpy(), expected, atol=1e-5)
        assert one.indices.tolist() == [0, 1, 3, 4, 5] and list(one.causes) == [2]
        assert one.max_error < 1e-6 and one.num_other == 0 and one.holds(1e-6)


def test_no_picture_that_can_be_decoded_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(InputError, match="none of 1 can be decoded; the first: is none of JPEG"):
        compare(Means(), Means(), [tmp_path / "junk"], PREPROCESSING, batch_sizes=(4,))


def test_a_difference_is_found_by_hand() -> None:
    one = agreement([[0.6, 0.4], [0.3, 0.7]], [[0.45, 0.55], [0.3, 0.7]])
    assert one.max_error == pytest.approx(0.15) and one.num_other == 1
    assert one.accuracies(np.array([0, 0])) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("expected", "found", "holds"),
    [
        ([0.6, 0.4], [0.65, 0.35], True),
        ([0.6, 0.4], [0.75, 0.25], False),  # too far
        ([0.53, 0.47], [0.47, 0.53], True),  # another label, of a tie within the tolerance
        ([0.56, 0.44], [0.47, 0.53], False),  # another label, of no tie
        ([0.6, 0.4], [float("nan"), float("nan")], False),
    ],
)
def test_what_agrees_within_a_tenth(expected: list[float], found: list[float], holds: bool) -> None:
    assert agreement([[0.2, 0.8], expected], [[0.2, 0.8], found]).holds(0.1) is holds
