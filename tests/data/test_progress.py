from __future__ import annotations

from hybridnet.data.progress import silently


def test_nothing_is_shown_and_every_item_comes_through() -> None:
    assert list(silently(iter("abc"), "Reading", 3)) == ["a", "b", "c"]
