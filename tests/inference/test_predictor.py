"""The answers to a list of pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridnet.data.preprocessing import Preprocessing
from hybridnet.errors import TrainingError
from hybridnet.inference.predictor import Predictor

PREPROCESSING = Preprocessing(image_size=(6, 8), center_crop=1.0, mean=(0, 0, 0), std=(1, 1, 1))


class Corners(nn.Module):
    """The logits are the values of the four corners of the red channel."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        assert images.is_contiguous(memory_format=torch.channels_last)
        return images[:, 0, ::5, ::7].flatten(1)


class Full(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def predictor(network: nn.Module, *, batch_size: int = 2, tta: str = "none") -> Predictor:
    return Predictor(network, PREPROCESSING, device="cpu", precision="float32", batch_size=batch_size, tta=tta)


def pictures(num: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (num, 6, 8, 3), dtype=np.uint8))


def corners(picture: np.ndarray) -> list[float]:
    return torch.from_numpy(picture[::5, ::7, 0].copy()).div(255).flatten().tolist()


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_answers_are_in_the_order_of_the_list(batch_size: int) -> None:
    shown = pictures(5)
    answers = predictor(Corners(), batch_size=batch_size).answers(shown)
    assert answers.indices.tolist() == [0, 1, 2, 3, 4]
    assert torch.allclose(answers.logits, torch.tensor([corners(picture) for picture in shown]))


def test_what_cannot_be_decoded_has_a_cause(tmp_path: Path) -> None:
    first, second, third = pictures(3)
    answers = predictor(Corners()).answers([first, tmp_path / "gone.png", second, third])
    assert answers.indices.tolist() == [0, 2, 3]
    assert answers.logits.shape == (3, 4)
    assert answers.causes == {1: "no such file"}
    assert not len(predictor(Corners()).answers([tmp_path / "gone.png"]).indices)
    assert not len(predictor(Corners()).answers([]).indices)


@pytest.mark.parametrize(
    ("tta", "views"),
    [
        ("flip", lambda p: [p, p[:, ::-1]]),
        ("flips", lambda p: [p, p[:, ::-1], p[::-1], p[::-1, ::-1]]),
    ],
)
def test_augmentation_gives_the_mean_probabilities(tta: str, views: object) -> None:
    (picture,) = pictures(1)
    wanted = torch.tensor([corners(view) for view in views(picture)]).softmax(dim=1).mean(dim=0)
    answers = predictor(Corners(), tta=tta).answers([picture])
    assert torch.allclose(answers.logits.exp()[0], wanted)


def test_a_view_without_doubt_leaves_the_logarithm_finite() -> None:
    """The probability e^-200 is 0 in float32."""

    class Sure(Corners):
        def forward(self, images: Tensor) -> Tensor:
            return 200 * super().forward(images)

    picture = np.zeros((6, 8, 3), dtype=np.uint8)
    picture[0, 0] = 255  # the first corner; mirrored, the second
    logits = predictor(Sure(), tta="flip").answers([picture]).logits[0]
    assert torch.allclose(logits, torch.tensor([-math.log(2), -math.log(2), -200.0, -200.0]))


def test_full_memory_names_what_to_change() -> None:
    with pytest.raises(TrainingError) as caught:
        predictor(Full(), batch_size=8).answers(pictures(9))
    assert str(caught.value) == (
        "error: memory full in cpu: 8 pictures at once do not fit\nhint: set data.batch_size=4"
    )


def test_the_network_is_put_into_eval_mode_and_bf16_is_asked_of_autocast() -> None:
    seen = []

    class Watcher(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, images: Tensor) -> Tensor:
            seen.append((self.training, images.dtype))
            return self.fc(images.mean(dim=(2, 3)))

    made = Predictor(Watcher().train(), PREPROCESSING, device="cpu", precision="bf16", batch_size=2)
    assert made.answers(pictures(2)).logits.dtype == torch.float32
    assert seen == [(False, torch.bfloat16)]


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_is_that_of_the_training(channels_last: bool) -> None:
    """The same bits need the same order in memory."""
    seen = []

    class Watcher(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            seen.extend(x.is_contiguous(memory_format=torch.channels_last) for x in (images, self.weight))
            return super().forward(images).mean(dim=(2, 3))

    options = {"device": "cpu", "precision": "float32", "batch_size": 2, "channels_last": channels_last}
    Predictor(Watcher(3, 4, 3), PREPROCESSING, **options).answers(pictures(2))
    assert seen == [channels_last] * 2


@pytest.mark.parametrize(("device", "expected"), [("cuda", True), ("mps", False), ("cpu", False)])
def test_only_a_copy_to_cuda_is_not_waited_for(device: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = predictor(Corners())
    made.device = torch.device(device)

    def to(_: Tensor, where: torch.device, *, non_blocking: bool) -> Tensor:
        raise LookupError(where, non_blocking)

    monkeypatch.setattr(Tensor, "to", to)
    with pytest.raises(LookupError) as caught:
        made.logits(torch.zeros(1, 6, 8, 3, dtype=torch.uint8))
    assert caught.value.args == (torch.device(device), expected)
