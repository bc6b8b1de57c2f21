from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybridnet.config import JobLoader
from hybridnet.config.session import hydra_over

OF_SWEEP = [
    *("hydra.mode=MULTIRUN", "hydra.sweep.dir=a", "+hydra.job.env_set.A=b", "hydra/job_logging=none"),
    "hydra.sweep.subdir='${hydra.job.num}'",  # which only a job has
]


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    with hydra_over([]):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture
def master(loader: ConfigLoader) -> DictConfig:
    """Of a sweep."""
    return loader.load_configuration("train", [*OF_SWEEP, "seed=1,2"], run_mode=RunMode.MULTIRUN)


def _plain(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=False, throw_on_missing=False)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=3", "hydra.sweep.subdir='0_a,b=c'", "resume=auto"],
        ["model=ca", "seed=3"],
        ["model.reduction=16", "model=hybrid", "optimizer=sgd", "optimizer.base_lr=0.1"],
        ["experiment=quick", "trainer.epochs=7", "+model.new=1", "++seed=4"],
        ["experiment=cifar10_cpu", "data.root=photos"],
        ["logger=[tensorboard,mlflow]", "+logger.mlflow.x=1"],
        ["~model.blocks.ca", "+model.blocks.ca={_target_: x, reduction: '${model.reduction}'}"],
        ["~pruner", "seed=1"],
        ["model={reduction: 8}", "model.reduction=4"],
        ["model.reduction=4", "model={reduction: 8}"],
        ["hydra/job_logging=none", "hydra.job.name=x", "model/backbone=resnet34"],
        ["data.image_size=[64,96]", "data.augment=null"],
    ],
    ids=lambda overrides: " ".join(overrides) or "nothing",
)
def test_a_job_is_what_hydra_composes(overrides: list[str], loader: ConfigLoader, master: DictConfig) -> None:
    """Each time, with Hydra's own part, which says what was typed; whatever came before."""
    own = JobLoader(loader)
    for job in (["seed=9", "trainer.epochs=1"], overrides, overrides):
        expected, found = loader.load_sweep_config(master, job), own.load_sweep_config(master, job)
        assert _plain(found) == _plain(expected)
        assert OmegaConf.is_struct(found) == OmegaConf.is_struct(expected)
        assert found.hydra.job.override_dirname == expected.hydra.job.override_dirname


def test_the_time_is_that_of_the_sweep(loader: ConfigLoader) -> None:
    """What was resolved once, for its folder, stays so."""
    name = "hydra.job.name='${now:%H-%M-%S-%f}'"
    master = loader.load_configuration("train", [name], run_mode=RunMode.MULTIRUN)
    began = master.hydra.job.name
    assert JobLoader(loader).load_sweep_config(master, ["seed=1"]).hydra.job.name == began


def test_the_files_are_composed_once_for_each_choice(
    loader: ConfigLoader, master: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[list[str]] = []
    usual = loader.load_configuration
    monkeypatch.setattr(loader, "load_configuration", lambda name, o, **k: composed.append(o) or usual(name, o, **k))
    own = JobLoader(loader)
    for job in (["model=ca", "seed=1"], ["model=ca", "seed=2"], ["model=bot", "seed=1"], ["model=bot", "seed=2"]):
        assert f"seed={own.load_sweep_config(master, job).seed}" in job
    assert [choices[-1] for choices in composed] == ["model=ca", "model=bot"]


@pytest.mark.parametrize("override", ["sed=1", "model=nothing", "+seed=2"])
def test_what_cannot_be_applied_is_refused(override: str, loader: ConfigLoader, master: DictConfig) -> None:
    with pytest.raises(HydraException):
        JobLoader(loader).load_sweep_config(master, ["seed=1", override])


def test_the_rest_is_hydras(loader: ConfigLoader) -> None:
    assert JobLoader(loader).get_search_path() is loader.get_search_path()
