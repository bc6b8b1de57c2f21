"""The peak of memory: what was allocated in between counts, also after it was freed; what was there before does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hybridnet.measure import memory
from hybridnet.measure.memory import Peak

CPU = torch.device("cpu")
MEGABYTE = 2**20


def test_peak_counts_what_was_freed_again() -> None:
    before = torch.ones(100 * MEGABYTE, dtype=torch.uint8)
    peak = Peak(CPU)
    if peak.read() is None:
        pytest.skip("this system does not count it")
    large = torch.ones(64 * MEGABYTE, dtype=torch.uint8)
    del large
    assert 60 * MEGABYTE < peak.read() < 90 * MEGABYTE
    assert Peak(CPU).read() < 30 * MEGABYTE, "a new one begins at what is in use"
    del before


def test_where_nothing_counts_it_there_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "missing" / "clear_refs")
    assert Peak(CPU).read() is None
    assert Peak(torch.device("meta")).read() is None
