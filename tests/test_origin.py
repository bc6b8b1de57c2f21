from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet import config
from hybridnet.errors import InputError
from hybridnet.origin import lost, require_reachable

TABLE = ["data=metadata", "data.metadata=rel/metadata.csv", "data.label2id=rel/label2id.json"]


@pytest.fixture
def began_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where a run began, with files; the current one is another, without them."""
    (tmp_path / "there" / "rel").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    for name in ("metadata.csv", "label2id.json", "weights.pt"):
        (tmp_path / "there" / "rel" / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "there"


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (TABLE, {"data.metadata": "rel/metadata.csv", "data.label2id": "rel/label2id.json"}),
        (["data=folder", "data.root=rel"], {"data.root": "rel"}),
        (["model.backbone.weights=rel"], {"model.backbone.weights": "rel"}),
        (["model.backbone.weights=rel/weights.pt"], {"model.backbone.weights": "rel/weights.pt"}),
        (["data.cache_dir=rel/weights.pt"], {}),  # is made where it is missing
        (["monitor=rel"], {}),  # a word, which is by chance the name of something
        (["data.metadata=rel/metadata.csv", "data.label2id=rel/label2id.json"], {}),  # digits, made at first use
        (["data=folder", "data.root=nowhere"], {}),
    ],
)
def test_a_path_is_lost_that_leads_only_from_where_the_run_began(
    began_in: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], found: dict[str, str]
) -> None:
    assert lost(config.compose("train", overrides), began_in) == found
    monkeypatch.chdir(began_in)
    assert lost(config.compose("train", overrides), began_in) == {}


def _refusal(overrides: list[str], folder: Path, began_in: Path, **options: bool) -> str:
    cfg = config.compose("train", overrides)
    with pytest.raises(InputError) as raised:
        require_reachable([config.compose("train"), cfg], folder=folder, began_in=began_in, **options)
    return str(raised.value)


def test_where_to_go_on_is_said_in_one_line(began_in: Path) -> None:
    error = (
        "error: missing path in data.metadata=rel/metadata.csv, data.label2id=rel/label2id.json: the run began in "
        f"{began_in}, where rel/metadata.csv and rel/label2id.json are\nhint: start it there (cd {began_in})"
    )
    given = f"data.metadata={began_in}/rel/metadata.csv data.label2id={began_in}/rel/label2id.json"
    assert _refusal(TABLE, Path("run"), began_in) == f"{error}, or give {given}"
    of_sweep = error.replace("the run began", "the sweep began")
    assert _refusal(TABLE, Path("run"), began_in, of_sweep=True) == of_sweep, "its jobs would be others"
    Path("job.json").touch()
    assert _refusal(TABLE, Path(), began_in) == error, "and the job of a sweep another one"


def test_a_run_that_has_a_state_needs_no_initial_weights(began_in: Path) -> None:
    overrides = ["model.backbone.weights=rel"]
    error = f"error: missing path in model.backbone.weights=rel: the run began in {began_in}, where rel is\nhint: start"
    assert _refusal(overrides, Path(), began_in).startswith(error)
    Path("last.pt").touch()
    require_reachable([config.compose("train", overrides)], folder=Path(), began_in=began_in)
    assert _refusal(overrides, Path(), began_in, of_sweep=True)
