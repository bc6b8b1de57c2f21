from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hybridnet import config, experiment
from hybridnet.errors import InputError

CONF = Path(__file__).parents[1] / "conf"
GROUPS = ("model", "data", "optimizer", "scheduler", "trainer", "experiment", "model/backbone", "data/augment")


def _choices() -> Iterator[str]:
    for group in GROUPS:
        for file in sorted((CONF / group).glob("*.yaml")):
            yield f"{group}={file.stem}"


CHOICES = list(_choices())
NEEDED = {"data=cifar10": ["model.stem=small"], "data=folder": ["data.root=photos"]}


def test_every_yaml_is_a_choice() -> None:
    files = [f for f in CONF.rglob("*.yaml") if f.parent != CONF]
    assert len(CHOICES) == len(files) >= 20


@pytest.mark.parametrize("choice", CHOICES)
def test_every_yaml_composes_binds_and_builds(choice: str) -> None:
    """Every key is taken by its target, every value fits, and every part can be built."""
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epoch=3", "unknown key in trainer.epoch: trainer has no 'epoch'\nhint: did you mean trainer.epochs?"),
        ("+trainer.epoch=3", "did you mean trainer.epochs?"),
        ("epochs=3", "did you mean trainer.epochs?"),
        ("model=hybird", "unknown option in model=hybird: no such file in conf\nhint: did you mean model=hybrid?"),
        ("model/backbone=resnet81", "did you mean model/backbone=resnet18?"),
        ("experiment=quik", "did you mean experiment=quick?"),
        ("modle=plain", "did you mean model?"),
        ("model.backbone=resnet50", "did you mean model/backbone=resnet50?"),
        ("data.augment=gentle", "did you mean data/augment=gentle?"),
        ("data.batch_size=[1", "unreadable override in data.batch_size=[1"),
        ("optimizer.base_lr", "unreadable override in optimizer.base_lr"),
    ],
)
def test_a_misspelt_override_names_the_nearest(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        config.compose("train", [override])
    assert message in str(caught.value)


def test_all_misspelt_overrides_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        config.compose("train", ["trainer.epoch=3", "optimizer.bas_lr=1", "scheduler=cosin"])
    assert [fault.where for fault in caught.value.faults] == ["scheduler=cosin", "trainer.epoch", "optimizer.bas_lr"]


def test_a_key_of_another_model_is_unknown() -> None:
    with pytest.raises(InputError, match=r"model\.heads: model has no 'heads'"):
        config.compose("train", ["model=plain", "model.heads=4"])


def test_a_multirun_is_expanded_in_order() -> None:
    jobs = config.expand("train", ["model.heads=2,4", "model.dropout=0.1,0.2", "trainer.epochs=1"])
    assert jobs == [
        ["model.heads=2", "model.dropout=0.1", "trainer.epochs=1"],
        ["model.heads=2", "model.dropout=0.2", "trainer.epochs=1"],
        ["model.heads=4", "model.dropout=0.1", "trainer.epochs=1"],
        ["model.heads=4", "model.dropout=0.2", "trainer.epochs=1"],
    ]


def test_constant_keys_are_told_from_swept_ones() -> None:
    overrides = ["model.heads=2,4", "data=digits", "seed=range(3)", "++trainer.epochs=1", "model/backbone=resnet34"]
    assert config.constant_keys(overrides) == ["data", "trainer.epochs", "model/backbone"]


def test_only_choices_of_files_are_kept() -> None:
    assert config.group_choices(["model=ca", "model.reduction=8", "model/backbone=resnet34"]) == [
        "model=ca",
        "model/backbone=resnet34",
    ]


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("model.heads=2,model.dropout=0.1", "heads=2,dropout=0.1"),
        ("model/backbone=resnet34,seed=1", "backbone=resnet34,seed=1"),
        ("data.metadata=/a b/c.csv", "metadata=-a-b-c.csv"),
        ("x" * 300, "x" * 100),
    ],
)
def test_the_slug_of_a_job_is_a_safe_folder_name(text: str, slug: str) -> None:
    assert config._slug(text) == slug


def test_build_refuses_targets_elsewhere_even_when_nested() -> None:
    with pytest.raises(InputError, match=r"target not allowed in trainer\.monitor\._target_"):
        config.build({"trainer": {"monitor": {"_target_": "os.system", "command": "touch x"}}})


def test_extra_targets_widen_what_is_allowed() -> None:
    cfg = config.compose("train")
    cfg.scheduler = {"_target_": "math.sqrt"}
    assert "scheduler._target_" in config.find_faults(cfg)
    cfg.extra_targets = ["math."]
    assert "scheduler._target_" not in config.find_faults(cfg)


def test_build_raises_what_the_target_raised() -> None:
    node = {"_target_": "hybridnet.model.bot.SelfAttention", "channels": 30, "heads": 4, "reference_size": [7, 7]}
    with pytest.raises(ValueError, match=r"channels \(30\) must be divisible by heads \(4\)"):
        config.build(node)


def test_a_users_config_folder_is_searched(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert config.compose("train", ["experiment=mine"], config_dirs=[str(tmp_path)]).seed == 7


def test_knobs_stand_once_and_are_read_in_one_hop() -> None:
    """No logic in yaml: an interpolation names a plain value, never another interpolation or a resolver."""
    files = [f for f in CONF.rglob("*.yaml") if f.name != "train.yaml"]
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
