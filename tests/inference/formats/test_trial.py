from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridnet.errors import TrainingError
from hybridnet.inference.formats import trial as module
from hybridnet.inference.formats.trial import seconds_of, tried
from hybridnet.inference.pictures import random_pictures
from hybridnet.inference.trained import TrainedModel
from tests.inference.formats.models import trained

PICTURES = random_pictures((24, 40), 3).items


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 1e-6)


@pytest.fixture
def model() -> TrainedModel:
    model = trained("plain")
    with torch.no_grad():
        model.network.fc.weight.mul_(0.2)  # far from probabilities of 0 and 1, which hide what differs
    return model


def test_two_sizes_and_two_batch_sizes_and_the_smallest(model: TrainedModel) -> None:
    shapes = set()

    @torch.no_grad()
    def program(images: Tensor) -> Tensor:
        shapes.add(tuple(images.shape))
        return model.network(images)

    trial = tried(program, model, PICTURES, smallest=(5, 7), tolerance=1e-4)
    own, other = (24, 40), (18, 50)
    tried_sizes = [(agreement.image_size, agreement.batch_size) for agreement in trial.agreements]
    assert tried_sizes == [(own, 16), (own, 1), (other, 16), (other, 1), ((5, 7), 1)]
    assert shapes == {(n, 3, *size) for n in (3, 1) for size in (own, other)} | {(1, 3, 5, 7)}
    assert trial.max_error < 1e-5 and trial.smallest == (5, 7) and trial.program is program
    assert len(tried(program, model, PICTURES, smallest=None, tolerance=1e-4).agreements) == 4
    assert [a.image_size for a in tried(program, model, PICTURES, smallest=(24, 40), tolerance=1e-4).agreements][
        2:4
    ] == [(24, 50)] * 2, "no size below the smallest"


def test_a_program_that_knows_one_size_only_is_found_out(model: TrainedModel) -> None:
    @torch.no_grad()
    def program(images: Tensor) -> Tensor:
        return model.network(images) + (torch.tensor([0.1, 0, 0]) if images.shape[3] == 50 else 0)

    with pytest.raises(TrainingError) as caught:
        tried(program, model, PICTURES, smallest=None, tolerance=1e-4)
    assert [fault.where for fault in caught.value.faults] == [
        f"the exported model at 18×50, batch size {size}" for size in (16, 1)
    ]
    assert "(tolerance=0.0001), 0 of 3 labels are others" in caught.value.faults[0].cause
    tried(program, model, PICTURES, smallest=None, tolerance=0.1)


def test_no_number_is_refused_at_any_tolerance(model: TrainedModel) -> None:
    with pytest.raises(TrainingError, match="differ by up to nan"):
        tried(lambda images: torch.full((len(images), 3), torch.nan), model, PICTURES, smallest=None, tolerance=1.0)


def test_the_slower_program_takes_longer(model: TrainedModel) -> None:
    @torch.no_grad()
    def slow(images: Tensor) -> Tensor:
        return sum(model.network(images) for _ in range(30))

    network, once, often = seconds_of(model, [torch.no_grad()(model.network), slow])
    assert often > 5 * once > 0 and often > 5 * network > 0
