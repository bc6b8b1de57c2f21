from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet import config
from hybridnet.errors import InputError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epoch=3", "unknown key in trainer.epoch: trainer has no 'epoch'\nhint: did you mean trainer.epochs?"),
        ("+trainer.epoch=3", "did you mean trainer.epochs?"),
        ("epochs=3", "did you mean trainer.epochs?"),
        ("model=hybird", "unknown option in model=hybird: no such file in conf\nhint: did you mean model=hybrid?"),
        ("model/backbone=resnet81", "did you mean model/backbone=resnet18?"),
        ("experiment=quik", "did you mean experiment=quick?"),
        ("experiments=quick", "did you mean experiment?"),
        ("+experiments=quick", "did you mean experiment?"),
        ("zzz=1", "verify_resume, sweep, logger, extra_targets, experiment"),
        ("modle=plain", "did you mean model?"),
        ("model.backbone=resnet50", "did you mean model/backbone=resnet50?"),
        ("data.augment=gentle", "did you mean data/augment=gentle?"),
        ("data.batch_size=[1", "unreadable override in data.batch_size=[1"),
        ("optimizer.base_lr", "unreadable override in optimizer.base_lr"),
        ("=3", "unreadable override in =3: it has no key\nhint: overrides are written key=value"),
        ("+=3", "unreadable override in +=3: it has no key"),
        ("resume=a#b", "unreadable override in resume=a#b: Hydra cannot read one of its characters\nhint: over"),
        ("resume=a'b", "unreadable override in resume=a'b: Hydra cannot read one of its characters"),
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
            "wrong value in logger=null: it names no file of conf\nhint: logger=[] for none of them, or choose",
        ),
        (
            "experiment=null",
            "wrong value in experiment=null: it names no file of conf\nhint: experiment=[] for none of them, or choose",
        ),
        (
            "experiment=quick,null",
            "wrong value in experiment=quick,null: it names no file of conf\nhint: experiment=[] for none of them, or",
        ),
        (
            "model=",
            "wrong value in model=: it names no file of conf\nhint: leave it out, or choose from bot, botlinear, ",
        ),
        ("model=null", "wrong value in model=null: it names no file of conf\nhint: leave it out, or choose from bot"),
        ("+sweep=", "wrong value in sweep=: it names no file of conf\nhint: leave it out, or choose from heads_"),
        (
            "logger.mlflow.uri=a",
            "unknown key in logger.mlflow.uri: logger.mlflow has no 'uri'\nhint: choose logger=mlflow",
        ),
        (
            "hydra.searchpath=[file:///own]",
            "wrong value in hydra.searchpath: own yamls are looked for in one folder, which is no setting\n"
            "hint: --config-dir <folder>",
        ),
        (
            "optimizer._target_=torch.optim.AdamW",
            "wrong value in optimizer._target_: a class comes with its settings, in a yaml\n"
            "hint: choose another file with optimizer=adamw or sgd, or name the class in a yaml of your own, ",
        ),
        ("model.blocks.ca._target_=x", "hint: choose another file with model=bot or botlinear or ca or eca or hybrid"),
        ("++model.backbone._target_=x", "hint: choose another file with model/backbone=resnet18 or "),
        (
            "hydra.run.dir=",
            "wrong value in hydra.run.dir=: must name a folder\nhint: for instance hydra.run.dir=outputs/runs/<name>",
        ),
        ("hydra.run.dir=null", "wrong value in hydra.run.dir=null: must name a folder\nhint: for instance"),
        ("hydra.sweep.dir=' '", "wrong value in hydra.sweep.dir=' ': must name a folder\nhint: for instance"),
        ("hydra.run.dirr=x", "hydra.run has no 'dirr'\nhint: did you mean hydra.run.dir?"),
        ("hydra.foo=3", "unknown key in hydra.foo: hydra has no 'foo'\nhint: choose from "),
    ],
)
def test_a_misspelt_override_names_the_nearest(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        config.compose("train", [override])
    assert message in str(caught.value)


def test_a_group_that_a_command_does_not_have_is_not_recommended() -> None:
    with pytest.raises(InputError) as caught:
        config.compose("export", ["data.metadata=a.csv"])
    (fault,) = caught.value.faults
    assert (fault.where, fault.cause, fault.hint) == ("data.metadata", "data has no 'metadata'", "")


@pytest.mark.parametrize(
    "override",
    ["hydra.run.dir=x", "hydra.sweeper.max_batch_size=2", "++hydra.job.env_set.A=1", "+hydra.job.env_set.A=1"],
)
def test_what_hydra_has_is_no_unknown_key(override: str) -> None:
    assert config.compose("train", [override]).seed == 42


def test_all_misspelt_overrides_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        config.compose("train", ["trainer.epoch=3", "optimizer.bas_lr=1", "scheduler=cosin"])
    assert [fault.where for fault in caught.value.faults] == ["scheduler=cosin", "trainer.epoch", "optimizer.bas_lr"]


def test_a_choice_that_is_none_by_default_may_be_none() -> None:
    """As an empty list: Hydra takes no null."""
    cfg = config.compose("train", ["experiment=[]"])
    assert config.identity(cfg) == config.identity(config.compose("train"))
    assert config.expand("train", ["experiment=[],quick"]) == [["experiment=[]"], ["experiment=quick"]]


@pytest.mark.parametrize(
    ("group", "key"), [("data", "data.image_size"), ("model/backbone", "model.backbone.freeze_batch_norm")]
)
def test_a_key_of_a_group_that_is_left_out_says_so(group: str, key: str) -> None:
    with pytest.raises(InputError) as caught:
        config.compose("train", [f"~{group}", f"{key}=64"])
    assert str(caught.value) == f"error: unknown key in {key}: ~{group} leaves out all of it\nhint: leave out ~{group}"
    with pytest.raises(InputError, match="in dataset.x: dataset has no 'x'"):
        config.compose("train", ["~data", "dataset.x=1"])


@pytest.mark.parametrize(
    ("choice", "faults"), [("~pruner", []), ("logger=[mlflow,wanb]", ["logger=wanb"]), ("logger=null", ["logger=null"])]
)
def test_a_choice_of_no_file_does_not_hide_a_misspelt_key(choice: str, faults: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        config.compose("train", [choice, "trainer.epoch=3"])
    assert [fault.where for fault in caught.value.faults] == [*faults, "trainer.epoch"]


def test_a_part_may_be_added_with_its_class() -> None:
    assert config.compose("train", ["+logger.own._target_=my.Tracker"]).logger.own == {"_target_": "my.Tracker"}


def test_what_is_hydras_own_is_no_setting_of_a_job() -> None:
    typed = ["seed=0,1", "hydra/launcher=basic", "hydra.sweep.dir=a"]
    assert config.multirun("train", typed).overrides == ["seed=0,1"]


def test_choices_of_a_sweep_may_be_quoted_or_none() -> None:
    assert config.expand("train", ["model='ca',bot"]) == [["model='ca'"], ["model=bot"]]
    assert config.expand("train", ["logger=[],tensorboard"]) == [["logger=[]"], ["logger=tensorboard"]]
    with pytest.raises(InputError, match="wrong value in model='',bot: it names no file of conf"):
        config.expand("train", ["model='',bot"])


def test_a_choice_from_an_interval_is_no_grid() -> None:
    with pytest.raises(InputError, match="BasicSweeper does not support sweep type : INTERVAL_SWEEP"):
        config.expand("train", ["model=interval(0,1)"])


def test_a_new_key_may_have_the_name_of_one_elsewhere() -> None:
    assert config.compose("train", ["+scheduler.seed=3"]).scheduler.seed == 3


def test_of_several_overrides_the_one_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InputError, match=r"unreadable override in data\.batch_size=\[1: "):
        config.compose("train", ["seed=1", "data.batch_size=[1"])


def test_a_key_of_another_model_is_unknown() -> None:
    with pytest.raises(InputError, match=r"model\.heads: model has no 'heads'"):
        config.compose("train", ["model=plain", "model.heads=4"])


def test_a_key_is_looked_up_in_the_groups_of_its_own_job() -> None:
    known: config.Known = {}
    config.compose("train", ["model=bot", "model.heads=4"], known=known)
    with pytest.raises(InputError, match=r"error: unknown key in model\.heads: model has no 'heads'"):
        config.compose("train", ["model=ca", "model.heads=4"], known=known)


def test_only_choices_of_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    assert config.group_choices(["+extra=a", "extra.x=2"], config_dirs=[str(tmp_path)]) == ["+extra=a"]
    assert config.group_choices(["model=ca", "model.reduction=8", "model/backbone=resnet34"]) == [
        "model=ca",
        "model/backbone=resnet34",
    ]


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("model.heads=2,model.dropout=0.1", "heads=2,dropout=0.1"),
        ("model/backbone=resnet34,seed=1", "backbone=resnet34,seed=1"),
        ("optimizer@other=sgd,seed=1", "other=sgd,seed=1"),
        ("data.metadata=/a b/c.csv", "metadata=-a-b-c.csv"),
        ("x" * 300, "x" * 100),
    ],
)
def test_the_slug_of_a_job_is_a_safe_folder_name(text: str, slug: str) -> None:
    assert config.slug(text) == slug


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


@pytest.mark.parametrize(
    "value",
    ["s/0_model=plain,seed=0", "photos (1)", "photos [1]", "it's", "my photos", "水稻", "s/*model=plain*", "s/[0-9]_*"],
)
def test_a_path_is_taken_as_it_stands(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("s/0_model=plain,seed=0", "photos (1)", "photos [1]", "it's", "my photos", "水稻"):
        Path(name).mkdir(parents=True)
    assert config.compose("evaluate", [config.readable(f"run={value}")]).run == value


def test_a_link_that_leads_nowhere_is_a_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a [b]").symlink_to("gone")  # which no pattern finds
    assert config.readable("run=a [b]") == "run='a [b]'"


def test_words_that_are_not_ascii_are_taken_as_they_stand() -> None:
    for value in ("ausgabe/Blätter 2", "結果", "../é:ü"):
        assert config.compose("evaluate", [config.readable(f"out={value}")]).out == value


def test_the_home_folder_is_written_as_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/my name")
    monkeypatch.setenv("USERPROFILE", "/home/my name")
    assert config.compose("evaluate", [config.readable("run=~/runs/a=1")]).run == "/home/my name/runs/a=1"
    assert config.compose("evaluate", [config.readable("run=~")]).run == "/home/my name"
    assert config.compose("evaluate", [config.readable("run=[~/a, b,~/c=1]")]).run == [
        "/home/my name/a",
        "b",
        "/home/my name/c=1",
    ]
    assert config.readable("data.root=~/a,~/b") == "data.root='/home/my name/a','/home/my name/b'"
    assert config.readable("data.root=~/a,b") == "data.root='/home/my name/a,b'", "one path with a comma"
    for text in ("run=[a~,b]", "run=a~b", "run='~/a'", "~model.blocks.ca", "run=~nobody-is-called-so/a"):
        assert config.readable(text) == text


def test_all_else_is_left_to_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a file has the name of a value that Hydra reads as it is, or of what a list would match."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "null", "3"):
        Path(name).touch()
    lists = ["run=[a,b]", "run='[a]'", "logger=[a, ü]", "data.image_size=[64,3]"]
    sweeps = ["seed=1,2", "seed=range(0,3)", "model.heads=choice(2,4)", "run=ü,a"]
    others = ["run=null", "seed=3", "run=a", "run=", 'run="ü"', "run=nowhere=1", "~model", "a"]
    texts = [*lists, *sweeps, *others]
    assert [config.readable(text) for text in texts] == texts
