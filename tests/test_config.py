from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from hybridnet import config, experiment, resume
from hybridnet.errors import InputError

CONF = Path(__file__).parents[1] / "conf"
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
        (
            "logger=tensorbord",
            "unknown option in logger=tensorbord: no such file in conf\nhint: did you mean logger=tens",
        ),
        (
            "logger=[mlflow, 'wanb']",
            "unknown option in logger=wanb: no such file in conf\nhint: did you mean logger=wandb?",
        ),
        (
            "logger=null",
            "wrong value in logger=null: it names no file of conf\nhint: leave it out, or choose from mlflow",
        ),
        (
            "logger.mlflow.uri=a",
            "unknown key in logger.mlflow.uri: logger.mlflow has no 'uri'\nhint: choose logger=mlflow",
        ),
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


def test_a_group_may_have_several_choices() -> None:
    cfg = config.compose("train", ["logger=[tensorboard,'mlflow']", "logger.mlflow.uri=a"])
    assert list(cfg.logger) == ["tensorboard", "mlflow"] and cfg.logger.mlflow.uri == "a"
    assert config.compose("train", ["logger=[]"]).logger == config.compose("train").logger == {}
    jobs = config.expand("train", ["logger=[mlflow,wandb],[],tensorboard", "logger.mlflow.uri=a"])
    assert [job[0] for job in jobs] == ["logger=[mlflow,wandb]", "logger=[]", "logger=tensorboard"]
    with pytest.raises(InputError, match="unknown option in logger=wanb: no such file"):
        config.expand("train", ["logger=mlflow,[mlflow,wanb]"])


def test_a_key_of_another_model_is_unknown() -> None:
    with pytest.raises(InputError, match=r"model\.heads: model has no 'heads'"):
        config.compose("train", ["model=plain", "model.heads=4"])


def test_what_groups_alone_compose_to_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    hydra_compose = config.hydra_compose
    monkeypatch.setattr(
        config, "hydra_compose", lambda *a, **k: composed.append(k["overrides"]) or hydra_compose(*a, **k)
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
        with config._hydra([]):
            expected = config.hydra_compose("train", overrides=overrides)
        assert config.identity(cfg) == config.identity(expected)
        assert OmegaConf.is_struct(cfg) == OmegaConf.is_struct(expected) is True
    with pytest.raises(InputError, match=r"wrong configuration .* Could not append to config"):
        config.compose("train", ["+seed=3"], known=known)


def test_a_key_is_looked_up_in_the_groups_of_its_own_job() -> None:
    known: config.Known = {}
    config.compose("train", ["model=bot", "model.heads=4"], known=known)
    with pytest.raises(InputError, match=r"error: unknown key in model\.heads: model has no 'heads'"):
        config.compose("train", ["model=ca", "model.heads=4"], known=known)


def test_two_configurations_are_identical_if_all_their_values_are() -> None:
    texts = [["seed=1"], ["seed=1"], ["seed=2"], ["seed=1", "+extra=1"], ["seed=1", "model.dropout=0"]]
    one, same, *others = [config.identity(config.compose("train", overrides)) for overrides in texts]
    assert one == same
    assert len({one, *others}) == 4


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
        ["model.heads=2", *constant, "model=bot"],
    ]


def test_a_configuration_is_composed_within_another_application() -> None:
    with config._hydra([]):
        outer = GlobalHydra.instance().hydra
        assert config.compose("train", ["seed=3"]).seed == 3
        assert GlobalHydra.instance().hydra is outer is not None


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
    assert config.slug(text) == slug


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


def test_every_setting_has_its_value_and_knows_which_it_repeats() -> None:
    cfg = OmegaConf.create(
        {
            "seed": 3,
            "monitor": "valid_acc",
            "model": {"heads": 4, "attention": {"_target_": "x", "heads": "${model.heads}", "sizes": [7, 14]}},
            "trainer": {"monitor": "${monitor}", "clip_norm": float("inf"), "plot": False, "empty": None},
            "parts": [{"heads": "${model.heads}"}, 5],
            "text": "${seed} of ${monitor}",
            "copy": "${model.attention}",
            "copies": "${parts}",
        }
    )
    values, references = config.flat(cfg)
    assert values == {
        "seed": 3,
        "monitor": "valid_acc",
        "model.heads": 4,
        "model.attention._target_": "x",
        "model.attention.heads": 4,
        "model.attention.sizes": [7, 14],
        "trainer.monitor": "valid_acc",
        "trainer.clip_norm": float("inf"),
        "trainer.plot": False,
        "trainer.empty": None,
        "parts[0].heads": 4,
        "parts[1]": 5,
        "text": "3 of valid_acc",
        "copy._target_": "x",
        "copy.heads": 4,
        "copy.sizes": [7, 14],
        "copies[0].heads": 4,
        "copies[1]": 5,
    }
    assert references == {
        "model.attention.heads": "model.heads",
        "trainer.monitor": "monitor",
        "parts[0].heads": "model.heads",
        "copy._target_": "model.attention._target_",
        "copy.heads": "model.attention.heads",
        "copy.sizes": "model.attention.sizes",
        "copies[0].heads": "parts[0].heads",
        "copies[1]": "parts[1]",
    }
    assert type(values["model.attention.sizes"]) is list


def test_the_settings_of_an_experiment_are_flat() -> None:
    cfg = config.compose("train", ["optimizer.base_lr=1e-3"])
    values, references = config.flat(cfg)
    assert values["optimizer.base_lr"] == 1e-3
    assert references["trainer.monitor"] == "monitor"
    assert all(values[key] == values[owner] for key, owner in references.items())


def test_blocks_in_another_order_are_another_job() -> None:
    ca = "{_target_: hybridnet.model.ca.CoordinateAttention, _partial_: true, reduction: 32, identity_init: true}"
    usual = config.compose("train", ["model=hybrid"])
    turned = config.compose("train", ["model=hybrid", "~model.blocks.ca", f"+model.blocks.ca={ca}"])
    settings = [config.flat(cfg)[0] for cfg in (usual, turned)]
    assert [found["model.blocks"] for found in settings] == [["ca", "botlinear"], ["botlinear", "ca"]]
    identities = {resume.identity(found, swept=()) for found in settings}
    assert len(identities) == 2


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


@pytest.mark.parametrize(
    ("older", "newer", "both"),
    [
        ([], [], []),
        (["a=1", "b.c=2"], ["d=3"], ["a=1", "b.c=2", "d=3"]),
        (["a=1", "b.c=2", "d=4"], ["b.c=3", "a=0"], ["d=4", "b.c=3", "a=0"]),
        (["+a=1", "~b", "++c=1"], ["a=2", "b=2", "c=2"], ["a=2", "b=2", "c=2"]),
        (["a=1"], ["~a"], ["~a"]),
        (["model=ca", "model.reduction=8"], ["model=bot"], ["model.reduction=8", "model=bot"]),
        (["a.b=1", "a='x, y=z'"], ["a.bc=2"], ["a.b=1", "a='x, y=z'", "a.bc=2"]),
    ],
)
def test_newer_overrides_replace_older_ones(older: list[str], newer: list[str], both: list[str]) -> None:
    assert config.merged(older, newer) == both


def test_an_unreadable_override_is_named_where_two_commands_are_merged() -> None:
    with pytest.raises(InputError, match=r"unreadable override in data\.root=\[1: "):
        config.merged(["seed=1"], ["data.root=[1"])


def test_a_quoted_value_is_what_it_was() -> None:
    texts = [
        "a",
        "a b",
        "a=b, c",
        "",
        "'",
        "\\",
        "\\'",
        "it's",
        "a\\",
        "a\\\\'b\\",
        "\\\n",
        '"',
        "[1,2]",
        "{a: 1}",
        "null",
        "1.5",
    ]
    texts += ["/run/ü (1)/x#y", "C:\\runs\\new", " a ", "~+@%:", "\ttab"]
    cfg = config.compose("train", [f"resume_allow=[{','.join(map(config.quoted, texts))}]"])
    assert list(cfg.resume_allow) == texts
    for text in texts[::7]:
        assert config.compose("train", [f"resume={config.quoted(text)}"]).resume == text


def test_other_values_are_set_in_a_copy() -> None:
    cfg = OmegaConf.create({"a": {"b": 1, "c": "${a.b}"}, "d": 2})
    OmegaConf.set_struct(cfg, True)
    changed = config.with_values(cfg, {"a.b": 5, "a.new": [1], "d": None})
    assert config.plain(changed) == {"a": {"b": 5, "c": 5, "new": [1]}, "d": None}
    assert config.plain(cfg) == {"a": {"b": 1, "c": 1}, "d": 2}


def test_values_are_replaced_by_those_of_another_configuration() -> None:
    cfg, other = OmegaConf.create({"a": {"b": 1, "c": 1}, "d": 1}), OmegaConf.create({"a": {"b": 2, "c": 2}, "d": 2})
    assert config.plain(config.replaced(cfg, ["a.b", "d"], by=other)) == {"a": {"b": 2, "c": 1}, "d": 2}


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
