"""The README's examples in Python run as they stand there."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from hybridnet.data.preprocessing import Preprocessing


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


@pytest.mark.parametrize("image_size", [(64, 64), (112, 112), (48, 96), (224, 160)])
@pytest.mark.parametrize(("size", "turned"), [((300, 300), 1), ((413, 301), 6), ((50, 70), 1)])
def test_pixels_for_an_onnx_file(
    image_size: tuple[int, int],
    size: tuple[int, int],
    turned: int,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(noise).save("leaf.jpg", exif=exif)
    own = Preprocessing(image_size=image_size, center_crop=0.875, mean=(0.0,) * 3, std=(1.0,) * 3)
    text = (root / "README.md").read_text(encoding="utf-8")
    code = text[text.index('    (height, width), share = about["image_size"]') : text.index("    image = (np.asarray")]
    names = {"about": own.plain(), "Image": Image, "ImageOps": ImageOps}
    exec(textwrap.dedent(code), names)
    difference = np.asarray(names["picture"], dtype=int) - own.cropped(own.reduction.load(Path("leaf.jpg")))
    assert np.abs(difference).max() <= 1
