"""What this machine's processor is fast in."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch


def name() -> str:
    """Of the processor, as it calls itself: `AMD EPYC 9554`; where it cannot be asked, what the system knows."""
    return _capabilities().get("cpu_name", "").strip() or platform.processor() or platform.machine()


def is_fast_in_bf16() -> bool:
    """Whether bf16 is faster than float32; without instructions for it PyTorch emulates it, several times slower."""
    capabilities = _capabilities()
    has_other = any(capabilities.get(feature, False) for feature in ("amx_bf16", "arm_bf16", "bf16"))
    return has_other or is_fast_in_bf16_by_avx512()


def is_fast_in_bf16_by_avx512() -> bool:
    """Whether it is, and by AVX-512's own instructions (VDPBF16PS), not in tiles (AMX)."""
    capabilities = _capabilities()
    # Intel's cores with AVX512-FP16 leave bf16 to AMX, which virtual machines may hide: convolutions by VDPBF16PS
    # then have 0.55 of the speed of float32's. AMD's have twice; older Intel cores with it were not measured.
    leaves_it_to_amx = "Intel" in name() and capabilities.get("avx512_fp16", False)
    return capabilities.get("avx512_bf16", False) and not (leaves_it_to_amx or capabilities.get("amx_bf16", False))


def has_avx512() -> bool:
    """Whether PyTorch takes AVX-512; `ATEN_CPU_CAPABILITY` can hide it."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def halves_products() -> bool:
    """Whether float32's matrix products have half the speed of its convolutions.

    MKL, which multiplies matrices, takes AVX2 on AMD's processors; oneDNN, which convolves, takes AVX-512.
    """
    return has_avx512() and "AMD" in name()


def _capabilities() -> Mapping[str, Any]:
    return getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.11
