from __future__ import annotations

import pytest

from hybridnet.markdown import block, code, escaped, row, table


def test_no_text_is_markup() -> None:
    assert escaped("a|b_c*\n<d>") == r"a\|b\_c\* \<d\>"
    assert row(["x|y", "1"]) == r"| x\|y | 1 |"
    assert list(table(["a", "b"], [["1", "2"]])) == ["| a | b |", "| --- | --- |", "| 1 | 2 |", ""]
    assert block("a\nb") == ["    a", "    b"]


@pytest.mark.parametrize(("text", "coded"), [("a b", "`a b`"), ("a`b", "`` a`b ``")])
def test_code_has_as_many_backticks_as_it_needs(text: str, coded: str) -> None:
    assert code(text) == coded
