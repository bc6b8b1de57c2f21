"""Models that answer together."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridnet.checkpoint import load_checkpoint, save_checkpoint
from hybridnet.data.progress import silently
from hybridnet.errors import InputError
from hybridnet.inference.members import answers_of, load_members, make_predictors
from hybridnet.inference.predictor import Answers
from hybridnet.trainer.device import find_precision

OWN = ["own_parts."]
PICTURES = list(np.random.default_rng(0).integers(0, 255, (5, 40, 40, 3), dtype=np.uint8))


def other(reference: Path, tmp_path: Path, **changes: object) -> Path:
    """A copy of the run whose model says something else."""
    folder = Path(shutil.copytree(reference, tmp_path / "other"))
    content = load_checkpoint(folder / "best_model.pt")
    content["model"]["fc.bias"] += torch.tensor([3.0, 0.0, -1.0])
    save_checkpoint(folder / "best_model.pt", content | changes)
    return folder


def logits(*runs: Path, pictures: list[object] = PICTURES) -> torch.Tensor:
    members = load_members([str(run) for run in runs], extra_targets=OWN)
    predictors = make_predictors(members, device="cpu", precision="float32", batch_size=None, tta="none")
    assert [predictor.batch_size for predictor in predictors] == [6] * len(runs)
    return answers_of(predictors, pictures, track=silently).logits


def test_probabilities_are_averaged(reference: Path, tmp_path: Path) -> None:
    changed = other(reference, tmp_path)
    alone = [logits(reference), logits(changed)]
    together = logits(reference, changed)
    assert torch.allclose(together.exp(), (alone[0].softmax(dim=1) + alone[1].softmax(dim=1)) / 2)
    assert not torch.allclose(together.softmax(dim=1), alone[0].softmax(dim=1), atol=1e-3)


def test_each_sees_pictures_in_its_own_size(reference: Path, tmp_path: Path) -> None:
    content = load_checkpoint(reference / "best_model.pt")
    larger = content["preprocessing"] | {"image_size": [48, 40]}
    assert logits(reference, other(reference, tmp_path, preprocessing=larger)).shape == (5, 3)


def test_what_one_cannot_see_is_left_out_for_all(reference: Path, tmp_path: Path) -> None:
    pictures = [PICTURES[0], tmp_path / "gone.png", PICTURES[1]]
    assert torch.equal(logits(reference, pictures=pictures), logits(reference, pictures=PICTURES[:2]))


class Partial:
    """A predictor that cannot see some of the pictures; its logits tell which one."""

    def __init__(self, num: int, *, without: int) -> None:
        seen = [index for index in range(num) if index != without]
        logits = torch.tensor([[float(index), 0.0] for index in seen])
        self.given = Answers(logits, np.array(seen), {without: f"cause {without}"})

    def answers(self, pictures: object, *, track: object) -> Answers:
        return self.given


def test_what_only_one_of_them_cannot_see_is_left_out_for_all() -> None:
    found = answers_of([Partial(4, without=1), Partial(4, without=2)], [], track=silently)
    assert found.indices.tolist() == [0, 3]
    assert found.causes == {1: "cause 1", 2: "cause 2"}
    assert torch.allclose(found.logits.softmax(dim=1)[:, 0], torch.tensor([0.0, 3.0]).sigmoid())


class Sure:
    """A predictor without the least doubt."""

    def __init__(self, *logits: float) -> None:
        self.given = Answers(torch.tensor([logits]), np.array([0]), {})

    def answers(self, pictures: object, *, track: object) -> Answers:
        return self.given


def test_what_all_are_sure_is_wrong_has_a_finite_logarithm() -> None:
    """The probability e^-200 is 0 in float32; a loss of infinity would be null in metrics.json."""
    found = answers_of([Sure(200.0, 0.0, -3.0), Sure(400.0, 0.0, 400.0)], [], track=silently)
    wanted = torch.tensor([[math.log(3 / 4), -200 - math.log(2), math.log(1 / 4)]])
    assert torch.allclose(found.logits, wanted, rtol=1e-6)


def test_the_logits_of_one_alone_stay_as_they_are() -> None:
    assert answers_of([Sure(200.0, 0.0, -3.0)], [], track=silently).logits.tolist() == [[200.0, 0.0, -3.0]]


def test_other_classes_are_refused(reference: Path, tmp_path: Path) -> None:
    folder = other(reference, tmp_path, label2id={"a": 0, "b": 1, "c": 2})
    with pytest.raises(InputError, match="its classes are a, b, c; those of .* are horizontal, none, vertical"):
        load_members([str(reference), str(folder)], extra_targets=OWN)


def test_what_is_not_given_is_that_of_the_training(reference: Path, tmp_path: Path) -> None:
    """Of a best_model.pt by itself neither precision, batch size nor the order in memory is known."""
    run = Path(shutil.copytree(reference, tmp_path / "run"))
    settings = run / ".hydra" / "config.yaml"
    text = settings.read_text().replace("precision: auto", "precision: bf16")
    settings.write_text(text.replace("channels_last: true", "channels_last: false"))
    alone = Path(shutil.copy(run / "best_model.pt", tmp_path))
    members = load_members([str(run), str(alone)], extra_targets=OWN)

    def made(precision: str | None, batch_size: int | None) -> list[tuple[str, int]]:
        found = make_predictors(members, device="cpu", precision=precision, batch_size=batch_size, tta="flips")
        assert [len(predictor.views) for predictor in found] == [4, 4]
        assert [predictor.memory_format for predictor in found] == [torch.contiguous_format, torch.channels_last]
        return [(predictor.precision.name, predictor.batch_size) for predictor in found]

    auto = find_precision("auto", torch.device("cpu")).name
    assert made(None, None) == [("bf16", 6), (auto, 32)]
    assert made("float32", 5) == [("float32", 5)] * 2


def test_a_device_that_is_not_there_is_a_wrong_input(reference: Path) -> None:
    members = load_members(str(reference), extra_targets=OWN)
    with pytest.raises(InputError, match="wrong value in trainer: device 'tpu'"):
        make_predictors(members, device="tpu", precision=None, batch_size=None, tta="none")
