from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from hybridnet.trainer.compilation import Compilation, find_compilation

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
OFF = Compilation(compiles=False, captures=False, is_optional=True)


def test_auto_captures_on_a_cuda_gpu_where_nothing_speaks_against_it() -> None:
    assert find_compilation("auto", CUDA, oom="error", num_ranks=1) == Compilation(False, True, True)
    assert find_compilation("auto", CUDA, oom="accumulate", num_ranks=1) == OFF
    assert find_compilation("auto", CUDA, oom="error", num_ranks=2) == OFF
    assert find_compilation("auto", CPU, oom="error", num_ranks=1) == OFF
    assert find_compilation("auto", torch.device("mps"), oom="error", num_ranks=1) == OFF


@pytest.mark.parametrize(
    ("mode", "compiles", "captures"),
    [("off", False, False), ("graph", False, True), ("inductor", True, False), ("inductor_graph", True, True)],
)
def test_what_is_asked_for_is_done(mode: str, compiles: bool, captures: bool) -> None:
    assert find_compilation(mode, CUDA, oom="error", num_ranks=1) == Compilation(compiles, captures, False)


@pytest.mark.parametrize("mode", ["graph", "inductor_graph"])
@pytest.mark.parametrize(
    ("device", "oom", "num_ranks", "message"),
    [
        (CPU, "error", 1, "a CUDA graph needs a CUDA GPU, not cpu; set {}"),
        (CUDA, "accumulate", 1, "a recorded step cannot try again with smaller parts; set trainer.oom=error or {}"),
        (CUDA, "error", 3, "a step of 3 processes is not recorded; set {}"),
    ],
)
def test_what_cannot_be_done_is_refused(
    mode: str, device: torch.device, oom: str, num_ranks: int, message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        find_compilation(mode, device, oom=oom, num_ranks=num_ranks)
    assert str(caught.value) == f"compile ({mode}): {message.format('trainer.compile=auto')}"


def test_inductor_does_not_ask_for_a_gpu() -> None:
    assert find_compilation("inductor", CPU, oom="accumulate", num_ranks=2).compiles


def test_only_the_largest_batch_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short last batch of an epoch would be compiled for minutes, to run once an epoch."""
    compiled_for, options = [], []

    def compiling(forward: object, **given: object) -> object:
        options.append(given)

        def compiled(images: Tensor) -> Tensor:
            compiled_for.append(len(images))
            return forward(images)

        return compiled

    monkeypatch.setattr(torch, "compile", compiling)
    forward = Compilation(compiles=True, captures=False, is_optional=False).compiled(lambda images: images + 1)
    for size in (4, 4, 3, 4, 1, 6, 4):
        assert torch.equal(forward(torch.zeros(size)), torch.ones(size))
    assert compiled_for == [4, 4, 4, 6]
    assert options == [{"dynamic": False}]


def test_without_compilation_nothing_stands_between() -> None:
    def forward(images: Tensor) -> Tensor:
        return images

    assert OFF.compiled(forward) is forward


class _Small(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2, width)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images)


def test_every_model_of_a_sweep_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have one `forward`, and PyTorch's own limit for it is 8."""
    compiled = []

    def backend(module: nn.Module, _: object) -> Callable[..., object]:
        compiled.append(module)
        return module.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    compilation = Compilation(compiles=True, captures=False, is_optional=False)
    for width in range(1, 11):
        assert compilation.compiled(_Small(width))(torch.zeros(3, 2)).shape == (3, width)
    assert len(compiled) == 10
