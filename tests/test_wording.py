from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybridnet.wording import lines_of, listing, number_of, spelt


@pytest.mark.parametrize(("count", "words"), [(0, "0 classes"), (1, "1 class"), (1234, "1,234 classes")])
def test_one_and_many(count: int, words: str) -> None:
    assert number_of(count, "class", "classes") == words
    assert number_of(count, "row") == words.replace("classes", "rows").replace("class", "row")


@pytest.mark.parametrize(("count", "end"), [(1, "0"), (20, "18, 19"), (1234, "18, 19 … (1,234 in all)")])
def test_first_twenty_entries_are_listed(count: int, end: str) -> None:
    assert listing([str(number) for number in range(count)]).endswith(end)
    assert listing(["a", "b", "c"], limit=2) == "a, b … (3 in all)"


@pytest.mark.parametrize(("count", "end"), [(20, "\n  18\n  19"), (1234, "\n  18\n  19\n  … and 1,214 more")])
def test_first_twenty_entries_have_a_line_each(count: int, end: str) -> None:
    assert lines_of([str(number) for number in range(count)]).endswith(end)
    assert lines_of([]) == ""


@pytest.mark.parametrize(
    ("name", "shown"), [(b"a/bl\xe4tt.jpg", r"a/bl\xe4tt.jpg"), ("blätt 葉.jpg".encode(), "blätt 葉.jpg")]
)
def test_names_that_are_not_utf8_show_their_bytes(name: bytes, shown: str) -> None:
    assert spelt(os.fsdecode(name)) == spelt(Path(os.fsdecode(name))) == shown
