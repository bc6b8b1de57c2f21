from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from hybridnet import config
from hybridnet.errors import InputError


def test_a_run_keeps_what_hydra_would_keep_without_the_settings_of_one_start() -> None:
    typed = [
        "seed=3",
        "resume=auto",
        "+resume_allow=[data]",
        "+sweep=mine",
        "sweep.on_error=stop",
        "model.dropout='${oc.env:X}'",
        "resumed=${seed}",
    ]
    cfg = OmegaConf.create({"seed": 3, "copy": "${seed}"})
    hydra_cfg = OmegaConf.create({"overrides": {"task": typed}, "run": {"dir": "ü"}})
    files = config.hydra_files(cfg, hydra_cfg, without=["resume", "resume_allow", "sweep"])
    assert list(files) == ["config.yaml", "hydra.yaml", "overrides.yaml"]
    assert files["config.yaml"] == "seed: 3\ncopy: ${seed}\n"
    assert yaml.safe_load(files["hydra.yaml"]) == {"hydra": {"overrides": {"task": typed}, "run": {"dir": "ü"}}}
    assert yaml.safe_load(files["overrides.yaml"]) == ["seed=3", "model.dropout='${oc.env:X}'", "resumed=${seed}"]
    assert yaml.safe_load(config.hydra_files(cfg, hydra_cfg, without=())["overrides.yaml"]) == typed


def _write_overrides(folder: Path, text: str) -> Path:
    (folder / ".hydra").mkdir()
    file = folder / ".hydra" / "overrides.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "overrides", [[], ["seed=3", "model.dropout=${oc.env:X}", "data.root='ü, a=b'", "~model.heads"]]
)
def test_the_overrides_of_a_run_are_read_as_they_were_typed(tmp_path: Path, overrides: list[str]) -> None:
    hydra_cfg = OmegaConf.create({"overrides": {"task": overrides}})
    _write_overrides(tmp_path, config.hydra_files(OmegaConf.create(), hydra_cfg, without=())["overrides.yaml"])
    read = config.read_overrides(tmp_path)
    assert read == overrides
    assert type(read) is list


def test_where_there_is_no_run_it_is_said_how_one_begins(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        config.read_overrides(tmp_path)
    assert str(caught.value) == (
        f"error: no run to continue in resume={tmp_path}: there is no {tmp_path / '.hydra' / 'overrides.yaml'}\n"
        "hint: resume=<run folder>; hydra.run.dir=<folder> resume=auto starts a run where there is none"
    )


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "it holds no list"),
        ("a: b", "it holds no list"),
        ("{", "while parsing a flow node"),
        ("- seed=3\n- data.root=[1\n", "no viable alternative"),
        ("- 3\n", "'int' object"),
    ],
)
def test_damaged_overrides_are_named(tmp_path: Path, text: str, cause: str) -> None:
    file = _write_overrides(tmp_path, text)
    with pytest.raises(InputError) as caught:
        config.read_overrides(tmp_path)
    assert str(caught.value).startswith(f"error: unreadable overrides in {file}: {cause}")
    assert "\n" not in str(caught.value)
