from __future__ import annotations

from hybridnet.pruner.none import NoPruner


def test_nothing_is_hopeless() -> None:
    assert not NoPruner().is_hopeless([0.0, 0.0], [[1.0, 1.0]] * 9)
