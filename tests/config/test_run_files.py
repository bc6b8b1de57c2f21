from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from hybridnet import config
from hybridnet.errors import InputError


def test_where_a_run_was_started_is_known(tmp_path: Path) -> None:
    assert config.working_directory(tmp_path) is None
    (tmp_path / ".hydra").mkdir()
    for text, folder in (
        ("hydra: {runtime: {cwd: /a}}", Path("/a")),
        ("hydra: {runtime: {}}", None),
        ("hydra: 3", None),
    ):
        (tmp_path / ".hydra" / "hydra.yaml").write_text(text)
        assert config.working_directory(tmp_path) == folder


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


def _write(folder: Path, name: str, content: bytes) -> None:
    (folder / ".hydra").mkdir(exist_ok=True)
    (folder / ".hydra" / name).write_bytes(content)


HYDRA = b"""hydra:
  runtime:
    choices: {model/backbone: resnet18}
    config_sources: [{path: hydra.conf, provider: hydra}, {path: /own/conf, provider: command-line}]
"""


def test_what_a_run_began_with_is_read(tmp_path: Path) -> None:
    _write(tmp_path, "config.yaml", b"seed: 3\nmodel: {heads: 4, backbone: {width: 8}}\ndata: {mean: [0.5, null]}\n")
    _write(tmp_path, "hydra.yaml", HYDRA)
    assert config.saved(tmp_path).model.heads == 4
    keys = ["seed", "model.heads", "model/backbone", "data.mean", "nothing"]
    assert config.saved_settings(tmp_path, keys) == {
        "seed": "3",
        "model.heads": "4",
        "model/backbone": "resnet18",
        "data.mean": "[0.5,null]",
    }
    assert config.config_dir(tmp_path) == "/own/conf"


@pytest.mark.parametrize(
    "content",
    [None, b"", b"- 1\n", b"3\n", b"{", b"seed: '\xfc'\n", b"seed: \0\n"],
    ids=["missing", "empty", "a list", "a number", "cut off", "in Latin-1", "a zero byte"],
)
def test_where_a_file_is_damaged_nothing_is_known(tmp_path: Path, content: bytes | None) -> None:
    for name in ("config.yaml", "hydra.yaml"):
        if content is not None:
            _write(tmp_path, name, content)
    assert not config.saved(tmp_path)
    assert config.saved_settings(tmp_path, ["seed", "model"]) == {}
    assert config.config_dir(tmp_path) is None
    _write(tmp_path, "config.yaml", b"seed: 3\n")
    assert config.saved_settings(tmp_path, ["seed", "model"]) == {"seed": "3"}


@pytest.mark.parametrize(
    "content", [b"hydra: 3\n", b"hydra: {}\n", b"hydra:\n  runtime:\n    config_sources:\n    - path: a\n"]
)
def test_where_hydra_s_own_file_is_cut_off_nothing_of_it_is_known(tmp_path: Path, content: bytes) -> None:
    _write(tmp_path, "config.yaml", b"seed: 3\n")
    _write(tmp_path, "hydra.yaml", content)
    assert config.config_dir(tmp_path) is None
    assert "model" not in config.saved_settings(tmp_path, ["seed", "model"])
