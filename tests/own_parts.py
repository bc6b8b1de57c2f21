"""What a user might bring with `extra_targets=[own_parts.]`: a small backbone, a tracker, and parts that fail."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridnet.data.augment import Augment, Changes
from hybridnet.data.metadata import MetadataImages
from hybridnet.model.backbone import Backbone
from hybridnet.trainer.protocols import Data


class Small(Backbone):
    """Four convolutions with the arguments of a ResNet: its checkpoints have kilobytes instead of hundreds of MB."""

    def __init__(
        self,
        *,
        block: str,
        layers: list[int],
        stem: str,
        stochastic_depth: float,
        pretrained: bool,
        pretrained_url: str,
        weights: str | None,
    ) -> None:
        super().__init__()
        self.channels = (8, 8, 16, 16)
        pairs = zip((3, *self.channels[:-1]), self.channels, strict=True)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2 if inputs == 3 else 1, 1), nn.BatchNorm2d(outputs))
            for inputs, outputs in pairs
        )
        self.num_steps = 0

    def forward(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        if self.training:
            self.num_steps += 1
            self.before_step()
        for stage in self.stages[start:stop]:
            x = F.relu(stage(x))
        return x

    def before_step(self) -> None:
        """For those that fail."""

    def first_stages(self, num: int) -> list[nn.Module]:
        return list(self.stages[:num])

    def insert_attention(self, attention: Callable[[int], nn.Module]) -> None:
        raise NotImplementedError

    def pretrained_parameter_names(self) -> set[str]:
        return {name for name, _ in self.named_parameters() if name.startswith("stages.0.")}

    def load_initial_weights(self) -> list[str]:
        return []


def squeeze(channels: int) -> nn.Module:
    """A block by a function in place of a class."""
    return nn.Conv2d(channels, channels, 1)


def nothing(*parts: Any) -> None:
    """Neither an optimizer nor a scheduler: its `return` was forgotten."""


class Raising(Small):
    """Has a mistake that shows after some steps, in the second epoch."""

    def before_step(self) -> None:
        if self.num_steps == 6:
            [][self.num_steps]


class Broken(Small):
    """Has a mistake that shows in the first step."""

    def before_step(self) -> None:
        [][self.num_steps]


class Hungry(Small):
    """Needs more memory than there is, in the second epoch."""

    def before_step(self) -> None:
        if self.num_steps == 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB.")


class Careless(Small):
    """Draws from a generator that no seed sets, as no two processes do it."""

    def before_step(self) -> None:
        with torch.no_grad():
            self.stages[0][0].bias += torch.tensor(np.random.default_rng().normal(size=8) * 1e-3)


class Still(Small):
    """Its BatchNorm never looks at the batch: what is computed for a picture does not depend on the others.

    It begins with weights and statistics that were trained before, which the first of several processes alone reads.
    """

    def train(self, mode: bool = True) -> Still:
        super().train(mode)
        for stage in self.stages:
            stage[1].eval()
        return self

    def load_initial_weights(self) -> list[str]:
        for stage in self.stages:
            nn.init.constant_(stage[0].bias, 0.3)
            nn.init.constant_(stage[1].running_mean, 0.2)
        return []


class Faithless(Small):
    """The second of several processes has a mistake that shows in the second epoch."""

    def before_step(self) -> None:
        if self.num_steps == 6 and os.environ.get("RANK") == "1":
            [][self.num_steps]


class Interrupted(Small):
    """Gets a terminal's Ctrl-C in its second step, and a SIGTERM of the process that has got it as well; only once."""

    def before_step(self) -> None:
        if self.num_steps == 2 and not Path("interrupted").exists():
            Path("interrupted").touch()
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)


class Deadly(Augment):
    """A worker process that has it is killed, as by the system when there is no memory left."""

    def draw(self, randoms: np.ndarray, sizes: np.ndarray, *, aspect: float) -> Changes:
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().draw(randoms, sizes, aspect=aspect)


class Notes:
    """A tracker that notes what it is told, one line each, in the run folder.

    Args:
        broken: what it fails at: `begin`, `epoch` or `end`.
    """

    def __init__(self, *, broken: str | None) -> None:
        self.broken = broken

    def begin(self, *, folder: Path, **about: Any) -> None:
        self.file = folder / "notes.jsonl"
        self._note("begin", **about)

    def epoch(self, row: dict[str, float]) -> None:
        self._note("epoch", row=row)

    def end(self, status: str, metrics: dict[str, float]) -> None:
        self._note("end", status=status, metrics=metrics)

    def _note(self, what: str, **content: Any) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"what": what, **content}) + "\n")
        if what == self.broken:
            raise ConnectionError("the server is down\nand this is its whole story")


class Promised:
    """Data that have what `Data` asks for, and nothing else."""

    @functools.wraps(MetadataImages.__init__)
    def __init__(self, **settings: Any) -> None:
        self._data = MetadataImages(**settings)

    def __getattr__(self, name: str) -> Any:
        if name in promised():
            return getattr(self._data, name)
        raise AttributeError(f"nothing promises {name}")


def promised() -> set[str]:
    """Names of all members of `Data`."""
    found = (name for kind in Data.__mro__ for name in {*vars(kind), *vars(kind).get("__annotations__", {})})
    return {name for name in found if not name.startswith("_")}
