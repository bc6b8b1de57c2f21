"""The loop of the tutorials, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from hybridnet.errors import TrainingError
from hybridnet.measure.textbook import WARM_UPS, ImageFiles, Textbook, published, serve
from hybridnet.measure.works import Case

LABELS = [0, 1, 0, 1, 0]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(len(LABELS))]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((20, 30, 4), 50 * number, dtype=np.uint8)).save(path)  # with transparency
    return paths


def tiny() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 12, 2))


def test_it_answers_and_ends(files: list[Path]) -> None:
    model = tiny()
    before = model[1].weight.clone()
    with Textbook(files, LABELS, model, image_size=(8, 12), batch_size=2) as textbook:
        assert textbook.seconds_per_image(3) > 0 and textbook.seconds_per_image(1) > 0
    assert torch.equal(model[1].weight, before), "the copy was trained"
    assert not textbook._process.is_alive() and textbook._process.exitcode == 0


def test_an_ended_process_is_told(files: list[Path]) -> None:
    files[2].unlink()
    with Textbook(files, LABELS, tiny(), image_size=(8, 12), batch_size=2) as textbook:  # noqa: SIM117
        with pytest.raises(TrainingError, match="ended process in textbook=true"):
            textbook.seconds_per_image(1)


def test_pictures_are_read_as_the_tutorials_do(files: list[Path]) -> None:
    image, label = ImageFiles(files, LABELS, (8, 12))[3]
    assert (image.shape, image.dtype, label) == ((3, 8, 12), torch.float32, 1)
    expected = (150 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(image[:, 4, 6], expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_network_is_torchvisions(name: str) -> None:
    case = Case("plain", None, 64, overrides=(f"model/backbone={name}",))
    backbone = case.configuration().model.backbone
    model = published(case.blueprint(num_classes=3), backbone, num_classes=3)
    shapes = {key: value.shape for key, value in torchvision.models.get_model(name, num_classes=3).state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == shapes


def test_where_torchvision_has_none_it_is_the_model_itself() -> None:
    case = Case("plain", None, 64, overrides=("model.stem=small",))
    model = case.blueprint(num_classes=3)
    assert published(model, case.configuration().model.backbone, num_classes=3) is model


class Asking:
    """Another process that wants some steps and then has ended."""

    def __init__(self, *wanted: int) -> None:
        self.wanted, self.answers = list(wanted), []

    def recv(self) -> int:
        if not self.wanted:
            raise EOFError
        return self.wanted.pop(0)

    def send(self, answer: float) -> None:
        self.answers.append(answer)


def test_so_many_steps_are_trained(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process = lambda *args, shuffle, **kwargs: torch.utils.data.DataLoader(*args, shuffle=shuffle)  # noqa: E731
    monkeypatch.setattr("hybridnet.measure.textbook.DataLoader", in_this_process)
    monkeypatch.setattr("signal.signal", lambda *args: None)
    model, asking, sizes = tiny(), Asking(2, 1), []
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    before = model[1].weight.clone()
    serve(asking, ImageFiles(files, LABELS, (8, 12)), model, 2)
    assert len(asking.answers) == 2 and min(asking.answers) > 0
    assert sizes == ([2, 2, 1] * 5)[: 2 * WARM_UPS + 3]
    assert not torch.equal(model[1].weight, before)
