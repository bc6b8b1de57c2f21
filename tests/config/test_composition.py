from __future__ import annotations

import re
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


def test_a_multirun_is_expanded_in_order() -> None:
    jobs = config.expand("train", ["model.heads=2,4", "model.dropout=0.1,0.2", "trainer.epochs=1"])
    assert jobs == [
        ["model.heads=2", "model.dropout=0.1", "trainer.epochs=1"],
        ["model.heads=2", "model.dropout=0.2", "trainer.epochs=1"],
        ["model.heads=4", "model.dropout=0.1", "trainer.epochs=1"],
        ["model.heads=4", "model.dropout=0.2", "trainer.epochs=1"],
    ]


def test_a_multirun_is_read_as_a_whole() -> None:
    overrides = ["model.heads=2,4", "data=digits", "seed=range(3)", "++trainer.epochs=1", "model/backbone=resnet34"]
    read = config.multirun("train", [*overrides, "hydra.sweep.dir=s", "resume=auto"])
    assert read.typed == overrides
    assert read.overrides == [*overrides, "resume=auto"]
    assert read.swept == {"model.heads", "seed"}
    assert read.folder == Path("s")
    assert read.sweeper["_target_"].endswith(".BasicSweeper") and read.launcher["_target_"].endswith(".BasicLauncher")
    assert re.fullmatch(r"outputs/sweeps/[\d_-]+", str(config.multirun("train", overrides).folder))


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("model=ca,hybrid model.heads=2,4", "not there with model=ca, only with model=hybrid"),
        ("model=hybrid,ca,bot model.heads=4", "not there with model=ca, only with model=hybrid, model=bot"),
        ("model=choice(hybrid,ca) model.heads=choice(2,4)", "not there with model=ca, only with model=hybrid"),
        (
            "model=ca,hybrid optimizer=adamw,sgd optimizer.momentum=0.9",
            "not there with optimizer=adamw, only with optimizer=sgd",
        ),
        (
            "+sweep=models model.reduction=8",
            "not there with model=plain, model=eca, model=bot, model=botlinear, only with model=ca, model=hybrid",
        ),
        ("model=ca,eca model.heads=2,4", "model has no 'heads'"),
    ],
)
def test_a_key_that_only_some_of_the_swept_files_have_is_told_with_them(arguments: str, cause: str) -> None:
    with pytest.raises(InputError) as caught:
        config.multirun("train", arguments.split())
    assert [(fault.what, fault.cause) for fault in caught.value.faults] == [("unknown key", cause)]
    assert ("by a command each" in caught.value.faults[0].hint) is ("only with" in cause)


def test_a_key_that_all_of_the_swept_files_have_is_taken() -> None:
    """Also where the file that is chosen without a sweep lacks it: Hydra composes what is not swept by itself."""
    asked = config.multirun("train", ["pruner=median,halving", "pruner.min_epochs=3", "model=ca"])
    assert asked.overrides == ["pruner=median,halving", "pruner.min_epochs=choice(3)", "model=ca"]
    assert (asked.typed[1], asked.swept) == ("pruner.min_epochs=3", {"pruner"})
    first = config.expand("train", asked.overrides)[0]
    assert first == ["pruner=median", "pruner.min_epochs=3", "model=ca"]


def test_what_was_composed_for_a_sweep_is_not_composed_again_for_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    known: config.Known = {}
    config.multirun("train", ["model=ca,eca", "seed=1"], known=known)
    monkeypatch.setattr(composition, "hydra_compose", None)
    for model in ("ca", "eca"):
        assert config.compose("train", [f"model={model}", "seed=1"], known=known).seed == 1


def test_axes_of_a_preset_are_overridden_by_typed_ones() -> None:
    read = config.multirun("train", ["+sweep=heads_reduction_dropout", "model.heads=16", "seed=0,1"])
    assert read.overrides == [
        *("+sweep=heads_reduction_dropout", "model.heads=16", "seed=0,1"),
        *("model.reduction=8,16,32", "model.dropout=0.1,0.2"),
    ]
    assert read.swept == {"model.reduction", "model.dropout", "seed"}


PRESETS = sorted(path.stem for path in (config.CONF_DIR / "sweep").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_job_of_a_preset_can_be_composed(preset: str) -> None:
    assert len(PRESETS) >= 4
    read = config.multirun("train", [f"+sweep={preset}"])
    assert read.sweeper["params"] and read.swept == set(read.sweeper["params"])
    for job in config.sample_values(read.overrides):
        assert config.find_faults(config.compose("train", job)) == {}, job


LAUNCHERS = sorted(path.stem for path in (config.CONF_DIR / "hydra" / "launcher").glob("*.yaml"))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_can_be_chosen_without_a_warning(launcher: str) -> None:
    assert LAUNCHERS == ["joblib", "ray", "slurm", "submitit_local"]
    read = config.multirun("train", [f"hydra/launcher={launcher}", "seed=1,2"])
    assert read.launcher["_target_"].startswith("hydra_plugins.hydra_")
    if "timeout_min" in read.launcher:
        assert read.launcher["timeout_min"] == 24 * 60


def test_of_a_search_every_choice_is_sampled() -> None:
    overrides = ["model.heads=choice(2,4,8)", "model.dropout=interval(0.1,0.5)", "seed=1", "model=ca,bot"]
    constant = ["model.dropout=0.1", "seed=1"]
    assert config.sample_values(overrides) == [
        ["model.heads=2", *constant, "model=ca"],
        ["model.heads=4", *constant, "model=ca"],
        ["model.heads=8", *constant, "model=ca"],
        ["model.heads=2", "model.dropout=0.5", "seed=1", "model=ca"],
        ["model.heads=2", *constant, "model=bot"],
    ]


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


def test_jobs_that_were_composed_are_not_composed_again_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # Hydra loads its plugins anew at times

    monkeypatch.setattr(BasicSweeper, "validate_batch_is_legal", BasicSweeper.validate_batch_is_legal)  # to come back
    config.trust_jobs()
    assert BasicSweeper.validate_batch_is_legal(None, [["model=nowhere"]]) is None
