"""The page: plain HTML, a style and a script, without any request to another server."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template

TYPES = {"page.css": "text/css", "page.js": "text/javascript"}


def page_files(title: str, facts: Mapping[str, str], *, max_bytes: int) -> dict[str, tuple[str, str]]:
    """Media type and text of each path of the page.

    Args:
        title: of the page.
        facts: about the model, by their names.
        max_bytes: of an upload.
    """
    listed = "\n".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items())
    html = Template(_text("page.html")).substitute(
        title=escape(title), facts=listed, max_bytes=max_bytes, max_megabytes=f"{max_bytes / 1e6:g}"
    )
    return {"/": ("text/html", html), **{f"/{name}": (kind, _text(name)) for name, kind in TYPES.items()}}


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
