from __future__ import annotations

import platform
from types import SimpleNamespace

import pytest

from hybridnet import memory


@pytest.mark.parametrize(("name", "expected"), [("glibc", [(-3, 2**30), (-1, 2**31 - 1)]), ("", [])])
def test_glibc_keeps_large_blocks_and_another_library_is_left_alone(
    name: str, expected: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """M_MMAP_THRESHOLD is -3 and M_TRIM_THRESHOLD -1."""
    calls: list[tuple[int, int]] = []
    libc = SimpleNamespace(mallopt=lambda *numbers: calls.append(numbers))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(platform, "libc_ver", lambda: (name, "2.36"))
    memory.keep_large_blocks()
    assert calls == expected
