"""Where the training runs, and in which precision."""

from __future__ import annotations

import gc
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from hybridnet import processor
from hybridnet.errors import FaultsError
from hybridnet.memory import keep_large_blocks
from hybridnet.trainer.ranks import ALONE, Ranks

# As the allocators of the CPU, MPS, cuBLAS and cuDNN say it; CUDA's own has an exception for it.
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed", "allocation_failed")


def find_device(name: str, ranks: Ranks = ALONE) -> torch.device:
    """The device called `name`: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, `mps`.

    Of several processes on a machine each has the GPU of its number.

    Raises:
        ValueError: if PyTorch cannot use it on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device '{name}' is unknown; set trainer.device to auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and ranks.num > 1:
        device = torch.device("cuda", ranks.local_rank)
    if device.type == "cuda" and not torch.cuda.is_available():
        build = torch.version.cuda or "none, this is a CPU build"
        raise ValueError(
            f"device '{name}' is not available: PyTorch {torch.__version__} (CUDA {build}) sees no GPU; set "
            "trainer.device=cpu, or check the driver with nvidia-smi and install a PyTorch build for its CUDA version"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        hint = (
            f"set trainer.device=cuda:{last}" if ranks.num == 1 else f"start torchrun with --nproc-per-node {last + 1}"
        )
        raise ValueError(f"device '{device}' is not available: the last GPU is cuda:{last}; {hint}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device '{name}' is not available on this machine; set trainer.device=cpu")
    if device.type == "mps" and ranks.num > 1:
        raise ValueError(f"device '{name}' cannot be shared by {ranks.num} processes; set trainer.device=cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device '{name}' is not supported; set trainer.device to auto, cpu, cuda, cuda:1 or mps")
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host as PyTorch's allocator asks it, had no memory left, and nobody has explained it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError) or isinstance(error, FaultsError):
        return False
    return any(words in str(error).lower() for words in OUT_OF_MEMORY)


def set_determinism(is_deterministic: bool) -> None:
    """Whether operations that are faster when they add in any order (on GPUs) are replaced or refused."""
    if is_deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(is_deterministic)
    torch.backends.cudnn.deterministic = is_deterministic


def make_current(device: torch.device) -> None:
    """Let this GPU be the one meant where none is named: by NCCL, and by what pins the batches of worker processes.

    They would set up another one and take some of its memory.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def release_memory(device: torch.device) -> None:
    """Before anything is kept on a GPU: give back what an earlier training of this process has left there.

    Its captured step is in a reference cycle, with the model, and pictures that the GPU kept. PyTorch keeps freed
    memory, which counts as used where somebody asks how much is free.
    """
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def prepare_memory(device: torch.device) -> None:
    """Before a training: count a GPU's peak from here; on a CPU, keep large blocks from one step to the next."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    if device.type == "cpu":
        keep_large_blocks()


@dataclass(frozen=True)
class Precision:
    """The number format of the forward pass; the weights stay float32.

    Attributes:
        name: `bf16`, `fp16` or `float32`.
        device: whose autocast is used.
    """

    name: str
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """The format that the model's input is made in."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}[self.name]

    def autocast(self) -> AbstractContextManager:
        """One path for all formats: switched off for float32."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.name != "float32")

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Keeps small fp16 gradients from vanishing; switched off, it hands everything through."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def find_precision(name: str, device: torch.device) -> Precision:
    """`auto`: bf16 where the hardware is faster in it, else fp16 on a GPU and float32 on a CPU.

    Raises:
        ValueError: for another name, or fp16 on a CPU, which would be slower than float32 and less exact.
    """
    if name not in ("auto", "bf16", "fp16", "float32"):
        raise ValueError(f"precision ({name!r}) must be auto, bf16, fp16 or float32")
    if name == "auto":
        name = "bf16" if _is_fast_in_bf16(device) else "fp16" if device.type == "cuda" else "float32"
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision 'fp16' needs a GPU; set trainer.precision to auto, bf16 or float32")
    return Precision(name, device)


def _is_fast_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and processor.is_fast_in_bf16()
