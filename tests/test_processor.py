"""What a processor is fast in, by what it says of itself."""

from __future__ import annotations

import platform

import pytest
import torch

from hybridnet import processor

INTEL = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "avx512_fp16": True}
AMD = {"cpu_name": "AMD EPYC", "avx512_bf16": True, "avx512_fp16": False}


@pytest.mark.parametrize(
    ("capabilities", "in_bf16", "by_avx512"),
    [
        ({"avx2": True}, False, False),
        (AMD, True, True),
        ({**AMD, "avx512_fp16": True}, True, True),
        ({"avx512_bf16": True}, True, True),
        ({"arm_bf16": True}, True, False),
        ({**INTEL, "amx_bf16": True}, True, False),
        ({**INTEL, "amx_bf16": False}, False, False),
        ({**INTEL, "avx512_fp16": False}, True, True),
        ({**INTEL, "avx512_bf16": False}, False, False),
    ],
    ids=str,
)
def test_bf16_is_fast_only_with_instructions_that_are(
    capabilities: dict[str, bool | str], in_bf16: bool, by_avx512: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert (processor.is_fast_in_bf16(), processor.is_fast_in_bf16_by_avx512()) == (in_bf16, by_avx512)


@pytest.mark.parametrize(
    ("capabilities", "taken", "expected"),
    [(AMD, "AVX512", True), (AMD, "AVX2", False), (INTEL, "AVX512", False), ({}, "AVX512", False)],
    ids=str,
)
def test_products_are_slow_with_avx512_on_amd(
    capabilities: dict[str, bool | str], taken: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: taken)
    assert processor.halves_products() is expected


@pytest.mark.parametrize(
    ("capabilities", "system", "expected"),
    [({"cpu_name": "AMD EPYC 9B45 "}, "x86_64", "AMD EPYC 9B45"), ({}, "i386", "i386"), ({}, "", platform.machine())],
)
def test_it_is_named(capabilities: dict[str, str], system: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(platform, "processor", lambda: system)
    assert processor.name() == expected


def test_before_pytorch_could_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """2.10 has no such function."""
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not (processor.is_fast_in_bf16() or processor.is_fast_in_bf16_by_avx512() or processor.halves_products())
