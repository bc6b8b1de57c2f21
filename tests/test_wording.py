from __future__ import annotations

import pytest

from hybridnet.wording import lines_of, listing, number_of


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
