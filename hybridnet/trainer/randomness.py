"""One seed for every source of random numbers, and their states for a checkpoint."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed PyTorch on every device, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def offset_seed(rank: int) -> None:
    """Let PyTorch draw other numbers on this rank than on the first, whose seed it has."""
    torch.manual_seed((torch.initial_seed() + rank) % 2**63)


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of all generators, in tensors and plain types."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "device": {} if device.type == "cpu" else {device.type: _of_device(device).get_rng_state(device)},
        "numpy": [name, keys.tolist(), position, has_gauss, gauss],
        "python": [version, list(words), next_gauss],
    }


def restore_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Continue where `random_states` was called; on another kind of device its generator keeps its seed."""
    torch.set_rng_state(states["torch"])
    if device.type in states["device"]:
        _of_device(device).set_rng_state(states["device"][device.type], device)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    version, words, next_gauss = states["python"]
    random.setstate((version, tuple(words), next_gauss))


def _of_device(device: torch.device) -> Any:
    return torch.mps if device.type == "mps" else torch.cuda
