from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from hybridnet.report import drawn
from hybridnet.sweep.page import page
from hybridnet.sweep.study import read_study
from tests.sweep.folders import SweepFolder

NASTY = "<script>alert(\"1\")</script> & 'x'"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Its tags with their attributes, and its text; refuses tags that are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += "" if self._open and self._open[-1] == "style" else data

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    sweep = SweepFolder(tmp_path_factory.mktemp("page") / "my <sweep>")
    for heads in (2, 4):
        for size in ("lite", "full"):
            for seed in (0, 1):
                value = 0.9 + heads / 100 + seed / 1000
                sweep.add(value, f"model.heads={heads}", f"model.size={size}", f"seed={seed}", train_seconds=10 + heads)
    sweep.add(None, "model.heads=8", f"+data.name={NASTY}".replace("/", "\\"), status="failed", error=f"Error: {NASTY}")
    sweep.add(0.5, "model.heads=16", status="pruned")
    sweep.add(None, "model.heads=32", status="running", curve=[0.3])
    return sweep


@pytest.fixture(scope="module")
def made(sweep: SweepFolder) -> tuple[str, Page]:
    return _page(sweep)


def _page(sweep: SweepFolder) -> tuple[str, Page]:
    study = read_study([sweep.folder])
    text = page(study, drawn(study, sweep.folder / "report"))
    return text, Page(text)


def test_a_page_needs_nothing_from_elsewhere(made: tuple[str, Page]) -> None:
    text, parsed = made
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert not {"script", "iframe", "object", "base"} & {tag for tag, _ in parsed.tags}
    without_pictures = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"https?:|url\(|@import", without_pictures)
    assert len(parsed.having("img")) == 5
    for image in parsed.having("img"):
        head, _, content = (image["src"] or "").partition(",")
        assert head == "data:image/png;base64" and image["alt"]
        Image.open(io.BytesIO(base64.b64decode(content))).load()


def test_a_page_is_for_every_reader(made: tuple[str, Page]) -> None:
    _, parsed = made
    assert parsed.having("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in parsed.having("meta")
    assert {"charset": "utf-8"} in parsed.having("meta")
    assert all(attributes["scope"] == "col" for attributes in parsed.having("th"))
    assert all(attributes["data-label"] for attributes in parsed.having("td"))


def test_a_page_has_every_job_and_the_winner(sweep: SweepFolder, made: tuple[str, Page]) -> None:
    _, parsed = made
    for job in sweep.jobs():
        assert job.folder.name in parsed.text
    assert "valid_acc 0.9405 ± 0.0007 (mean ± std over 2 seeds)" in parsed.text
    assert "python train.py model.size=lite trainer.epochs=3 model.heads=4" in parsed.text
    for heading in ("Leaderboard", "What each setting does", "Two settings together", "Validation curves and cost"):
        assert heading in parsed.text
    for heading in ("Failed jobs", "Pruned jobs", "Unfinished jobs", "All jobs"):
        assert heading in parsed.text
    assert "11 jobs: 8 complete, 1 pruned, 1 failed, 1 interrupted" in parsed.text


def test_whatever_a_name_or_an_error_holds_is_text(made: tuple[str, Page]) -> None:
    text, parsed = made
    assert f"Error: {NASTY}" in parsed.text
    assert "<script" not in text and "my &lt;sweep&gt;" in text


@pytest.mark.parametrize("status", ["failed", "pending", "pruned", None])
def test_a_page_of_little_is_complete(tmp_path: Path, status: str | None) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    if status:
        sweep.add(0.5 if status == "pruned" else None, status=status)
    text, parsed = _page(sweep)
    assert text.endswith("</html>\n")
    assert ("All jobs" in parsed.text) == (status is not None)
    assert ("Leaderboard" in parsed.text) == (status == "pruned")


def test_several_sweeps_are_named_by_letters(sweep: SweepFolder, tmp_path: Path) -> None:
    other = SweepFolder(tmp_path / "other")
    other.add(0.95, "model.heads=4", "model.size=lite", "seed=7")
    study = read_study([sweep.folder, other.folder])
    parsed = Page(page(study, []))
    assert f"A: {sweep.folder}" in parsed.text and f"B: {other.folder}" in parsed.text
    assert "Its best job, B0, has 0.9500" in parsed.text


def test_a_page_says_what_was_averaged(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads in (2, 4):
        for fold in (0, 1, 2):
            sweep.add(heads / 10 + fold * heads / 100, f"model.heads={heads}", f"data.fold={fold}", pictures=f"{fold}")
    sweep.add(0.1, "model.heads=8", "data.fold=0", pictures="others")
    _, parsed = _page(sweep)
    assert "valid_acc 0.4400 ± 0.0400 (mean ± std over 3 folds)" in parsed.text
    assert "Its best job, 5, has 0.4800. This trains these settings on all 3 folds again:" in parsed.text
    assert "model.heads=4 data.fold=0,1,2" in parsed.text and "other pictures" in parsed.text
    assert "1 of the other 2 settings was measured on other pictures" in parsed.text
    assert {"data-label": "data.fold", "class": "short"} in parsed.having("td")
    assert "Two settings together" not in parsed.text
