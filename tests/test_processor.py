"""What a processor is fast in, by what it says of itself."""

from __future__ import annotations

import pytest
import torch

from hybridnet import processor

INTEL = {"cpu_name": "Intel Xeon", "avx512_bf16": True, "avx512_fp16": True}
AMD = {"cpu_name": "AMD EPYC", "avx512_bf16": True, "avx512_fp16": False}


def pretend(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool | str], taken: str = "AVX512") -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: taken)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True}, False),
        (AMD, True),
        ({**AMD, "avx512_fp16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"arm_bf16": True}, True),
        ({**INTEL, "amx_bf16": True}, True),
        ({**INTEL, "amx_bf16": False}, False),
        ({**INTEL, "avx512_fp16": False}, True),
        ({**INTEL, "avx512_bf16": False}, False),
    ],
    ids=str,
)
def test_bf16_is_fast_only_with_instructions_that_are(
    capabilities: dict[str, bool | str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, capabilities)
    assert processor.is_fast_in_bf16() is expected


@pytest.mark.parametrize(
    ("capabilities", "taken", "expected"),
    [
        (AMD, "AVX512", True),
        (AMD, "AVX2", False),
        ({**INTEL, "amx_bf16": True}, "AVX512", False),
        ({"cpu_name": "AMD EPYC"}, "AVX512", False),
        ({"arm_bf16": True}, "DEFAULT", False),
    ],
    ids=str,
)
def test_bf16_by_avx512(
    capabilities: dict[str, bool | str], taken: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, capabilities, taken)
    assert processor.has_bf16_in_avx512() is expected


@pytest.mark.parametrize(
    ("capabilities", "taken", "expected"),
    [(AMD, "AVX512", True), (AMD, "AVX2", False), (INTEL, "AVX512", False), ({}, "AVX512", False)],
    ids=str,
)
def test_products_are_slow_with_avx512_on_amd(
    capabilities: dict[str, bool | str], taken: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, capabilities, taken)
    assert processor.halves_products() is expected


def test_before_pytorch_could_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """2.10 has no such function."""
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert processor.has_avx512()
    assert not (processor.is_fast_in_bf16() or processor.has_bf16_in_avx512() or processor.halves_products())
