from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from hybridnet import config, experiment
from hybridnet.config import composition
from hybridnet.config.session import hydra_over
from hybridnet.errors import Fault, InputError

CONF = Path(__file__).parents[2] / "conf"
PARTS = ("model", "data", "optimizer", "scheduler", "trainer", "pruner", "logger")
GROUPS = (*PARTS, "experiment", "model/backbone", "data/augment")


def _choices() -> Iterator[str]:
    for group in GROUPS:
        for file in sorted((CONF / group).glob("*.yaml")):
            yield f"{group}={file.stem}"


CHOICES = list(_choices())
NEEDED = {
    "data=cifar10": ["model.stem=small"],
    "data=folder": ["data.root=photos"],
    "model/backbone=timm": ["model.backbone.name=resnet18", "data.image_size=64"],
}


def test_every_yaml_is_a_choice() -> None:
    of_sweeps = ("sweep", "hydra")  # each of which is composed below
    files = [f for f in CONF.rglob("*.yaml") if f.parent != CONF and f.relative_to(CONF).parts[0] not in of_sweeps]
    assert len(CHOICES) == len(files) >= 20


@pytest.mark.parametrize("choice", CHOICES)
def test_every_yaml_composes_binds_and_builds(choice: str) -> None:
    """Every key is taken by its target, every value fits, and every part can be built."""
    if choice.startswith("logger=") or choice == "model/backbone=timm":
        pytest.importorskip(choice.partition("=")[2])
    experiment.check(config.compose("train", [choice, *NEEDED.get(choice, [])]))


def test_commands_bind() -> None:
    assert config.find_faults(config.compose("prepare", ["root=a", "out=b"])) == {}
    assert config.find_faults(config.compose("doctor", ["data.fold=1"])) == {}


def test_the_guides_options_have_its_defaults() -> None:
    cfg = config.compose("train", ["data=metadata"])
    expected = {
        "model.heads": 4,
        "model.reduction": 32,
        "model.dropout": 0.1,
        "model.pretrained": False,
        "trainer.epochs": 10,
        "data.batch_size": 32,
        "trainer.patience": 5,
        "optimizer.base_lr": 1e-4,
        "optimizer.head_lr": 1e-3,
        "optimizer.weight_decay": 1e-2,
        "data.metadata": "data/metadata.csv",
        "data.label2id": "data/label2id.json",
        "data.image_size": 224,
        "data.num_workers": "auto",
        "data.pin_memory": "auto",
        "data.train_limit": None,
        "data.valid_limit": None,
        "trainer.device": "auto",
        "trainer.plot": False,
        "seed": 42,
    }
    assert {key: config.select(cfg, key) for key in expected} == expected


def test_a_group_may_have_several_choices() -> None:
    cfg = config.compose("train", ["logger=[tensorboard,'mlflow']", "logger.mlflow.uri=a"])
    assert list(cfg.logger) == ["tensorboard", "mlflow"] and cfg.logger.mlflow.uri == "a"
    assert config.compose("train", ["logger=[]"]).logger == config.compose("train").logger == {}
    jobs = config.expand("train", ["logger=[mlflow,wandb],[],tensorboard", "logger.mlflow.uri=a"])
    assert [job[0] for job in jobs] == ["logger=[mlflow,wandb]", "logger=[]", "logger=tensorboard"]
    with pytest.raises(InputError, match="unknown option in logger=wanb: no such file"):
        config.expand("train", ["logger=mlflow,[mlflow,wanb]"])


def test_what_groups_alone_compose_to_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    hydra_compose = composition.hydra_compose
    monkeypatch.setattr(
        composition, "hydra_compose", lambda *a, **k: composed.append(k["overrides"]) or hydra_compose(*a, **k)
    )
    known: config.Known = {}
    for heads in (2, 8):
        cfg = config.compose("train", ["model=bot", f"model.heads={heads}", "hydra.run.dir=x"], known=known)
        defaults = config.compose("train", ["model=bot"], known=known)
        assert (cfg.model.heads, defaults.model.heads) == (heads, 4)
    assert composed == [["model=bot"]]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=bot", "model.heads=2", "++trainer.epochs=3", "seed=7"],
        ["+model.extra={a: [1, 2]}", "data.image_size=[32,48]", "optimizer.head_lr=${optimizer.base_lr}"],
        ["~model.size", "experiment=quick", "data.batch_size=3"],
        ["logger=[tensorboard,mlflow]", "logger.mlflow.uri=x"],
        ["~pruner"],
    ],
)
def test_values_on_top_of_choices_are_what_hydra_composes(overrides: list[str]) -> None:
    known: config.Known = {}
    for _ in range(2):
        cfg = config.compose("train", overrides, known=known)
        with hydra_over([]):
            expected = composition.hydra_compose("train", overrides=overrides)
        assert config.identity(cfg) == config.identity(expected)
        assert OmegaConf.is_struct(cfg) == OmegaConf.is_struct(expected) is True
    with pytest.raises(InputError, match=r"wrong configuration .* Could not append to config"):
        config.compose("train", ["+seed=3"], known=known)


@pytest.mark.parametrize("override", ["seed=0,1", "model=plain,ca", "seed=choice(0,1)"])
def test_many_values_without_m_are_answered_with_it(override: str) -> None:
    with pytest.raises(InputError) as caught:
        config.compose("train", [override])
    [fault] = caught.value.faults
    assert (fault.what, fault.where) == ("many values", override)
    assert fault.hint.startswith("python train.py -m … starts a run for each value")


@pytest.mark.parametrize(
    ("override", "cause", "hint"),
    [
        ("+model=ca", "Multiple values for model", "model=ca"),
        ("+model/backbone=resnet34", "Multiple values for model/backbone", "model/backbone=resnet34"),
        ("++model=ca", "force-add of config groups is not supported: '++model=ca'", "model=ca"),
        ("sweep=models", "Could not override 'sweep'. No match in the defaults list", "+sweep=models"),
        ("~logger", "Could not delete 'logger'. No match in the defaults list", "leave out ~logger"),
    ],
)
def test_what_hydra_refuses_is_answered_with_what_to_type(override: str, cause: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        config.compose("train", [override])
    assert caught.value.faults == (Fault("wrong configuration", "the command line", cause, hint),)


def test_a_group_of_training_is_not_recommended_to_another_command() -> None:
    with pytest.raises(InputError) as caught:
        config.compose("predict", ["model=ca"])
    assert caught.value.faults[0].hint == "leave out model=ca"


def test_knobs_stand_once_and_are_read_in_one_hop() -> None:
    """No logic in yaml: an interpolation names a plain value, never another interpolation or a resolver.

    Some name a folder by the time, and Hydra's plugins have a place in the sweep's folder.
    """
    files = [f for f in CONF.rglob("*.yaml") if f.name not in ("train.yaml", "benchmark.yaml", "compare.yaml")]
    files = [f for f in files if f.relative_to(CONF).parts[0] != "hydra"]
    for file in files:
        for value in _values(yaml.safe_load(file.read_text(encoding="utf-8"))):
            if isinstance(value, str) and "${" in value:
                assert value.startswith("${") and value.endswith("}") and ":" not in value, f"{file}: {value}"


def _values(node: object) -> Iterator[object]:
    if isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _values(value)
    else:
        yield node
