"""The jobs that a command line asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hybridnet import config
from hybridnet.config import composition
from hybridnet.errors import InputError


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


def test_a_misspelt_choice_is_told_before_any_key() -> None:
    with pytest.raises(InputError) as caught:
        config.multirun("train", ["model=ca,hybird", "model.heads=2,4"])
    [fault] = caught.value.faults
    assert (fault.what, fault.where) == ("unknown option", "model=hybird")


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


def test_jobs_that_were_composed_are_not_composed_again_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # Hydra loads its plugins anew at times

    monkeypatch.setattr(BasicSweeper, "validate_batch_is_legal", BasicSweeper.validate_batch_is_legal)  # to come back
    config.trust_jobs()
    assert BasicSweeper.validate_batch_is_legal(None, [["model=nowhere"]]) is None
