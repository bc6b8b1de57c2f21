from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hybridnet.inference.formats.torch_export import ABOUT, load, write
from tests.inference.formats.models import assert_same, trained, variants


def test_the_flagship_gives_its_logits_and_says_what_it_is(root: Path, tmp_path: Path) -> None:
    """And nothing of this machine, in the graph of its core in float32 either."""
    path, model = tmp_path / "model.tmp", trained("hybrid")
    with path.open("wb") as stream:
        smallest = write(stream, model, about={"classes": ["a", "ö"]})
    assert_same(load(str(path)), model, smallest=smallest)
    about = {ABOUT: ""}
    with path.open("rb") as stream:
        torch.export.load(stream, extra_files=about)
    assert json.loads(about[ABOUT]) == {"classes": ["a", "ö"], "smallest_size": [5, 5]}
    assert str(root).encode() not in path.read_bytes()


@pytest.mark.parametrize(("name", "overrides"), variants())
def test_every_model_gives_its_logits(name: str, overrides: tuple[str, ...], tmp_path: Path) -> None:
    model = trained(name, overrides)
    with (tmp_path / "model.pt2").open("wb") as stream:
        smallest = write(stream, model, about={})
    assert_same(load(str(tmp_path / "model.pt2")), model, smallest=smallest)
