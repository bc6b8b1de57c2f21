"""The README's examples in Python run as they stand there."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def example(root: Path, heading: str) -> str:
    """The first indented block below a heading."""
    section = (root / "README.md").read_text(encoding="utf-8").split(f"\n### {heading}\n")[1]
    block = re.search(r"((?:^    .*\n|^\n)+)", section, re.MULTILINE)
    assert block, f"no example below {heading}"
    return textwrap.dedent(block[1])


def test_from_python(
    root: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("leaf.jpg", "other.jpg"):
        Image.fromarray(np.zeros((40, 50, 3), dtype=np.uint8)).save(name)
    code = example(root, "From Python")
    assert '"outputs/runs/<run folder>"' in code
    exec(code.replace('"outputs/runs/<run folder>"', f"{str(reference)!r}, extra_targets=['own_parts.']"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"(horizontal|none|vertical) [01]\.\d{3}", line) for line in lines)
