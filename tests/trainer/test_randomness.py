from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hybridnet.checkpoint import load_checkpoint, save_checkpoint
from hybridnet.trainer.randomness import offset_seed, random_states, restore_random_states, seed_everything

CPU = torch.device("cpu")


def draw(device: torch.device = CPU) -> dict[str, list[float]]:
    """An odd number of normal values: generators make them in pairs and keep the second one."""
    return {
        "torch": torch.randn(3).tolist() + torch.rand(2).tolist(),
        "device": torch.rand(3, device=device).tolist(),
        "numpy": [np.random.normal(), *np.random.randint(0, 1000, 3)],
        "python": [random.gauss(0, 1), random.random()],
    }


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("num_draws", [0, 1, 2])
def test_every_generator_goes_on_where_it_was(num_draws: int, device: str, tmp_path: Path) -> None:
    """Also through a file, which holds tensors and plain types only."""
    seed_everything(5)
    for _ in range(num_draws):
        draw(torch.device(device))
    save_checkpoint(tmp_path / "a.pt", random_states(torch.device(device)))
    expected = draw(torch.device(device))
    seed_everything(6)
    assert not any(values == expected[name] for name, values in draw(torch.device(device)).items())
    restore_random_states(load_checkpoint(tmp_path / "a.pt"), torch.device(device))
    assert draw(torch.device(device)) == expected


def test_reading_the_states_changes_none() -> None:
    seed_everything(5)
    expected = draw()
    seed_everything(5)
    random_states(CPU)
    assert draw() == expected


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_seed_decides_on_everything(device: str) -> None:
    def drawn(seed: int) -> dict[str, list[float]]:
        seed_everything(seed)
        return draw(torch.device(device))

    assert drawn(7) == drawn(7)
    for other in (8, 0, 2**32 + 6, -1):  # NumPy's own seeds have 32 bits and no sign
        here = drawn(other)
        assert here == drawn(other)
        assert not any(values == here[name] for name, values in drawn(7).items())


class FakeDevice:
    """In place of torch.cuda or torch.mps."""

    def __init__(self) -> None:
        self.states: dict[str, Tensor] = {}

    def get_rng_state(self, device: torch.device) -> Tensor:
        return self.states[str(device)]

    def set_rng_state(self, state: Tensor, device: torch.device) -> None:
        self.states[str(device)] = state


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeDevice]:
    fakes = {"cuda": FakeDevice(), "mps": FakeDevice()}
    for name, fake in fakes.items():
        monkeypatch.setattr(getattr(torch, name), "get_rng_state", fake.get_rng_state)
        monkeypatch.setattr(getattr(torch, name), "set_rng_state", fake.set_rng_state)
    return fakes


@pytest.mark.parametrize("name", ["cuda:1", "cuda", "mps"])
def test_the_generator_is_that_of_the_device_that_trains(name: str, fakes: dict[str, FakeDevice]) -> None:
    """Not of the current GPU, which is the first one whatever `trainer.device` says."""
    device = torch.device(name)
    fakes[device.type].states = {"cuda": torch.zeros(2), "cuda:0": torch.zeros(2), name: torch.ones(2)}
    saved = random_states(device)
    fakes[device.type].states = {}
    restore_random_states(saved, device)
    assert {key: state.tolist() for key, state in fakes[device.type].states.items()} == {name: [1, 1]}


@pytest.mark.parametrize(("first", "second"), [("cuda", "mps"), ("cpu", "cuda"), ("mps", "cpu"), ("cpu", "cpu")])
def test_another_kind_of_device_keeps_its_seed(first: str, second: str, fakes: dict[str, FakeDevice]) -> None:
    """Their states are of different forms; those of the CPU's generators are continued all the same."""
    for name, fake in fakes.items():
        fake.states = {name: torch.zeros(2)}
    seed_everything(5)
    saved = random_states(torch.device(first))
    expected = draw()
    for fake in fakes.values():
        fake.states = {}
    restore_random_states(saved, torch.device(second))
    assert draw() == expected
    assert fakes["cuda"].states == fakes["mps"].states == {}


def test_two_gpus_are_of_one_kind(fakes: dict[str, FakeDevice]) -> None:
    fakes["cuda"].states = {"cuda:1": torch.ones(2)}
    restore_random_states(random_states(torch.device("cuda:1")), torch.device("cuda:0"))
    assert fakes["cuda"].states["cuda:0"].tolist() == [1, 1]


def test_the_states_are_plain(differences: Callable[[Any, Any], list[str]], tmp_path: Path) -> None:
    draw()
    states = random_states(CPU)
    assert set(states) == {"torch", "device", "numpy", "python"}
    save_checkpoint(tmp_path / "a.pt", states)
    assert differences(load_checkpoint(tmp_path / "a.pt"), states) == []


def test_every_rank_draws_other_numbers_from_one_seed() -> None:
    drawn = []
    for rank in (1, 2, 1):
        seed_everything(7)
        offset_seed(rank)
        drawn.append(torch.rand(4).tolist())
    seed_everything(7)
    assert drawn[0] == drawn[2] and drawn[0] != drawn[1]
    assert torch.rand(4).tolist() not in drawn
