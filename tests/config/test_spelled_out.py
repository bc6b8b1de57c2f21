from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet import config
from hybridnet.config.spelled_out import NOTHING

PRESET = """defaults:
  - override /model: ca
  - override /model/backbone: resnet34
  - override /logger: [tensorboard, wandb]
  - override /pruner: median
hydra: {sweeper: {params: {seed: "0,1"}}}
sweep: {keep_states: true}
trainer: {epochs: 2, clip_norm: .inf, plot: true}
model: {reduction: 7}
optimizer: {head_lr: "${optimizer.base_lr}", eps: 1.0e-09}
data: {metadata: "a, 'b'.csv", fold: null, mean: [0.25, 0.5]}
extra_targets: [a., 'b "c', "null", "1"]
"""


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    return _with_preset(tmp_path, PRESET)


def _with_preset(folder: Path, text: str) -> list[str]:
    """The user's own folders, with `sweep/own.yaml`."""
    (folder / "sweep").mkdir()
    (folder / "sweep" / "own.yaml").write_text(f"# @package _global_\n{text}")
    return [str(folder)]


def _spelled_out(overrides: list[str], own: list[str]) -> list[str]:
    choices = config.group_choices(overrides, config_dirs=own)
    changes = config.preset_changes("train", choices, config_dirs=own)
    return config.spelled_out(overrides, config.compose("train", overrides, config_dirs=own), changes)


def _of_job(cfg: config.DictConfig) -> dict[str, object]:
    return {key: value for key, value in config.as_written(cfg).items() if not key.startswith("sweep.")}


@pytest.mark.parametrize(
    "typed",
    [
        ["+sweep=own"],
        ["seed=1", "+sweep=own", "model.reduction=9"],
        ["model=bot", "logger=mlflow", "+sweep=own", "optimizer.head_lr=1e-3"],
        ["+sweep=own", "trainer={epochs: 5, patience: 1}", "++optimizer.eps=1e-7"],
        ["experiment=quick", "+sweep=own", "trainer.epochs=3"],
    ],
)
def test_a_preset_that_is_spelled_out_composes_to_the_same(typed: list[str], own: list[str]) -> None:
    spelled = _spelled_out(typed, own)
    wanted = config.compose("train", typed, config_dirs=own)
    found = config.compose("train", spelled, config_dirs=own)
    assert _of_job(found) == _of_job(wanted)
    assert not any("sweep" in text or "hydra" in text for text in spelled)
    assert [text for text in spelled if text in typed] == [text for text in typed if text != "+sweep=own"]


def test_several_files_of_a_group_are_one_choice(tmp_path: Path) -> None:
    """So that a job that goes on by itself can be given another one."""
    text = "defaults:\n  - override /logger: [tensorboard, mlflow]\n  - override /hydra/sweeper: optuna\n"
    own = _with_preset(tmp_path, text)
    spelled = _spelled_out(["+sweep=own", "seed=1"], own)
    assert spelled == ["logger=[tensorboard,mlflow]", "seed=1"]
    assert list(config.compose("train", spelled).logger) == ["tensorboard", "mlflow"]
    assert _spelled_out(["+sweep=own", "logger=[wandb]"], own) == ["logger=[wandb]"]


def test_a_group_of_what_the_preset_chooses_is_not_added_twice(tmp_path: Path) -> None:
    """Synthetic pictures are not augmented; where they are replaced, the other data has a place for it."""
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /data: synthetic\n"
    (tmp_path / "experiment" / "noise.yaml").write_text(text)
    text = "defaults:\n  - override /data: metadata\n  - override /data/augment: none\n  - override /logger: wandb\n"
    own = _with_preset(tmp_path, text)
    spelled = _spelled_out(["experiment=noise", "+sweep=own"], own)
    assert sorted(spelled) == ["data/augment=none", "data=metadata", "experiment=noise", "logger=wandb"]


@pytest.mark.parametrize("mark", ["", "++"])
def test_what_is_typed_for_a_key_of_the_preset_alone_is_a_new_key_without_it(mark: str, tmp_path: Path) -> None:
    own = _with_preset(tmp_path, "model: {blocks: {own: {_target_: hybridnet.model.eca.ECA, kernel: 3}}}\n")
    typed = ["+sweep=own", "model=plain", f"{mark}model.blocks.own.kernel=5"]
    spelled = _spelled_out(typed, own)
    assert spelled[1:] == ["model=plain", "+model.blocks.own.kernel=5"]
    assert _of_job(config.compose("train", spelled)) == _of_job(config.compose("train", typed, config_dirs=own))


def test_it_says_what_the_preset_changes_and_no_more(tmp_path: Path) -> None:
    """What is typed wins, and is said once."""
    text = "defaults:\n  - override /model: bot\ntrainer: {epochs: 2}\nmodel: {heads: 2, dropout: 0.1}\n"
    own = _with_preset(tmp_path, text)
    assert _spelled_out(["seed=1", "+sweep=own", "model.size=lite"], own) == [
        *("seed=1", "model=bot", "model.heads=2", "trainer.epochs=2", "model.size=lite")
    ]
    assert _spelled_out(["+sweep=own", "trainer.epochs=7"], own) == ["model=bot", "model.heads=2", "trainer.epochs=7"]
    assert _spelled_out(["+sweep=own", "model=hybrid", "model.heads=8"], own) == [
        *("trainer.epochs=2", "model=hybrid", "model.heads=8")
    ]


def test_without_a_preset_nothing_changes() -> None:
    assert config.preset_changes("train", ["model=ca"], config_dirs=[]) == NOTHING
    assert _spelled_out(["model=ca", "seed=1", "sweep.on_error=stop"], []) == [
        "model=ca",
        "seed=1",
        "sweep.on_error=stop",
    ]
