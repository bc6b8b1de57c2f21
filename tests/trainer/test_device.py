from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from hybridnet import processor
from hybridnet.errors import Fault, TrainingError
from hybridnet.trainer import device as module
from hybridnet.trainer.device import (
    find_device,
    find_precision,
    is_out_of_memory,
    make_current,
    prepare_memory,
    release_memory,
    set_determinism,
)
from hybridnet.trainer.ranks import Ranks

CPU = torch.device("cpu")


def test_auto_is_the_best_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("auto") == torch.device("cuda")
    assert find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"'cuda:2' is not .*: the last GPU is cuda:1; set trainer.device=cuda:1"):
        find_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", r"'cuda' is not available: PyTorch .* sees no GPU; set trainer\.device=cpu"),
        ("gpu", "'gpu' is unknown; set trainer.device to auto"),
        ("meta", "'meta' is not supported"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        find_device(name)


def test_processes_cannot_share_the_one_gpu_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gloo does not carry its tensors."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto") == torch.device("mps")
    with pytest.raises(ValueError, match=r"'mps' cannot be shared by 2 processes; set trainer\.device=cpu"):
        find_device("auto", Ranks(rank=1, num=2, local_rank=1))


@pytest.mark.parametrize(("is_fast", "expected"), [(True, "bf16"), (False, "float32")])
def test_auto_on_a_cpu_is_bf16_only_where_it_is_fast(
    is_fast: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "is_fast_in_bf16", lambda: is_fast)
    assert find_precision("auto", CPU).name == expected


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_a_gpu(has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert find_precision("auto", torch.device("cuda")).name == expected


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="precision 'fp16' needs a GPU; set trainer.precision"):
        find_precision("fp16", CPU)


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"precision \('float16'\) must be auto, bf16, fp16 or float32"):
        find_precision("float16", CPU)


def test_the_scaler_is_on_only_for_fp16() -> None:
    assert not find_precision("bf16", CPU).grad_scaler().is_enabled()
    assert not find_precision("float32", CPU).grad_scaler().is_enabled()


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_precision(name: str, dtype: torch.dtype) -> None:
    precision = find_precision(name, CPU)
    with precision.autocast():
        assert torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == dtype
    assert precision.dtype == dtype


@pytest.mark.gpu
def test_fp16_on_a_gpu_is_scaled() -> None:
    precision = find_precision("fp16", torch.device("cuda"))
    assert precision.dtype == torch.float16 and precision.grad_scaler().is_enabled()


# Memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        torch.OutOfMemoryError("in other words"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried …"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried …"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.93 GB, other allocations: 120.25 MB)"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:50],
)
def test_what_is_said_where_memory_is_full(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x256 and 96x3)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        OSError("out of memory"),
        ValueError("out of memory"),
        TrainingError(Fault("too little memory", "data.num_workers=2", "out of memory")),
        KeyboardInterrupt(),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:50],
)
def test_what_else_goes_wrong(error: BaseException) -> None:
    """Also what somebody has explained already: the data have other reasons, and other ways out."""
    assert not is_out_of_memory(error)


def test_this_machines_allocator_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)


@pytest.mark.gpu
def test_the_gpus_allocator_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, device="cuda")
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_what_an_earlier_training_has_left_is_given_back(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting garbage takes time, and a CPU's memory is used again without."""
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("cache"))
    step = SimpleNamespace(weight=torch.zeros(2))
    step.itself = step
    left = weakref.ref(step.weight)
    monkeypatch.setattr(module.gc, "collect", lambda collect=gc.collect: calls.append("garbage") or collect())
    gc.disable()
    try:
        del step
        assert left() is not None
        release_memory(torch.device(device))
        assert (left() is None) == (device == "cuda") == (calls == ["garbage", "cache"])
    finally:
        gc.enable()


@pytest.mark.parametrize(("device", "expected"), [("cpu", ["large blocks"]), ("cuda:1", ["peak of cuda:1"])])
def test_memory_is_prepared_for_the_device(device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """glibc keeps large blocks where the CPU trains; the peak of the GPU that trains is counted anew."""
    calls: list[str] = []
    monkeypatch.setattr(module, "keep_large_blocks", lambda: calls.append("large blocks"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append(f"peak of {device}"))
    prepare_memory(torch.device(device))
    assert calls == expected


@pytest.mark.parametrize(("device", "expected"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_only_a_gpu_that_trains_is_made_the_current_one(
    device: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a number it is the current one already, which a sweep may have chosen."""
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(str(device)))
    make_current(torch.device(device))
    assert calls == expected


# Determinism


@pytest.fixture
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    set_determinism(False)


@pytest.mark.usefixtures("_as_it_was")
def test_determinism_is_set_and_unset() -> None:
    set_determinism(False)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    for is_deterministic in (True, False, True):
        set_determinism(is_deterministic)
        assert torch.are_deterministic_algorithms_enabled() is is_deterministic
        assert torch.backends.cudnn.deterministic is is_deterministic
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.usefixtures("_as_it_was")
def test_a_workspace_of_the_users_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    set_determinism(True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
