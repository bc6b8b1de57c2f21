"""The page: what it says is text, and it asks no other server."""

from __future__ import annotations

import re

import pytest

from hybridnet.web.page import page_files

FACTS = {"3 classes": "<b>leaf</b>, root & stem", "Model": "hybrid"}


@pytest.fixture(scope="module")
def files() -> dict[str, tuple[str, str]]:
    return page_files('Try "a<b>"', FACTS, max_bytes=12_500_000)


def test_names_and_facts_are_text(files: dict[str, tuple[str, str]]) -> None:
    kind, html = files["/"]
    assert kind == "text/html"
    assert "<h1>Try &quot;a&lt;b&gt;&quot;</h1>" in html
    assert "<dt>3 classes</dt><dd>&lt;b&gt;leaf&lt;/b&gt;, root &amp; stem</dd>" in html
    assert 'data-max-bytes="12500000"' in html and "up to 12.5 MB" in html
    assert "$" not in html


def test_nothing_comes_from_another_server(files: dict[str, tuple[str, str]]) -> None:
    assert set(files) == {"/", "/page.css", "/page.js"}
    for _, text in files.values():
        assert not re.search(r"(https?:)?//[a-z]|@import|url\(", text)
    html = files["/"][1]
    assert re.findall(r'(?:src|href)="([^"]*)"', html) == ["data:,", "page.css", "page.js"]
    # The security policy lets no text in the page act as a script or a style.
    assert not re.search(r'<style|style=|\bon[a-z]+="|<script(?! src="page\.js" type="module"></script>)', html)


def test_script_and_page_fit(files: dict[str, tuple[str, str]]) -> None:
    html, script = files["/"][1], files["/page.js"][1]
    wanted = re.findall(r'getElementById\("(\w+)"\)', script)
    assert len(wanted) == 4
    assert all(f'id="{name}"' in html for name in wanted)
    assert "innerHTML" not in script
