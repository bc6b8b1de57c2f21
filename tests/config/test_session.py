from __future__ import annotations

from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

from hybridnet import config
from hybridnet.config.session import hydra_over


def test_a_configuration_is_composed_within_another_application() -> None:
    with hydra_over([]):
        outer = GlobalHydra.instance().hydra
        assert config.compose("train", ["seed=3"]).seed == 3
        assert GlobalHydra.instance().hydra is outer is not None


def test_a_users_config_folder_is_searched(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert config.compose("train", ["experiment=mine"], config_dirs=[str(tmp_path)]).seed == 7


def test_of_two_files_of_one_name_the_projects_is_taken_as_hydra_does(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "quick.yaml").write_text("# @package _global_\nseed: 7\n")
    found = config.compose("train", ["experiment=quick"], config_dirs=[str(tmp_path)])
    assert config.identity(found) == config.identity(config.compose("train", ["experiment=quick"]))
