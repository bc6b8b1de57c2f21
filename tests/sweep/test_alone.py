from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridnet import config, resume
from hybridnet.errors import Fault, InputError
from hybridnet.files import read_json, write_json, write_text
from hybridnet.sweep.alone import recorded
from hybridnet.sweep.ledger import Ledger, Planned
from hybridnet.sweep.record import Attempt, Job, read_job
from hybridnet.sweep.study import read_study
from tests.conftest import Command, content

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., Command]

TYPED = ["model.heads=2", "seed=1"]


def _settings(*typed: str) -> dict[str, object]:
    return config.flat(config.compose("train", typed))[0]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Complete after one epoch."""
    identity = resume.identity(_settings(*TYPED, "trainer.epochs=1"), swept=["seed"])
    planned = Planned(identity, [*TYPED, "trainer.epochs=1", "sweep.keep_states=true"], ["seed=1"], "seed=1")
    with Ledger(tmp_path) as ledger:
        (job,) = ledger.add([planned])
    with Attempt(job.folder) as attempt:
        _trained(job, 0.5)
        attempt.value = 0.5
    return read_job(job.folder)


def _trained(job: Job, value: float, *, status: str = "complete") -> None:
    write_json(job.folder / "status.json", {"status": status, "value": value})
    write_json(job.folder / "metrics.json", {"valid_acc": value, "valid_loss": 9})


def test_more_epochs_make_another_job_of_it(job: Job) -> None:
    """What the sweep asked for is not there any more: it would train that again."""
    settings = _settings(*TYPED, "trainer.epochs=3")
    with recorded(
        job.folder, settings=settings, typed=[*TYPED, "trainer.epochs=3", "resume=x", "hydra.run.dir=x"]
    ) as begin:
        assert read_job(job.folder) == job
        begin()
        assert read_job(job.folder).status == "running"
        _trained(job, 0.75)
    now = read_job(job.folder)
    assert (now.status, now.value, now.attempt) == ("complete", 0.75, 2)
    assert now.overrides == [*TYPED, "trainer.epochs=3"] and now.swept == ["seed=1"]
    assert now.identity == resume.identity(settings, swept=["seed"]) != job.identity


def test_a_run_that_was_killed_as_it_began_with_others_is_still_another_job(job: Job) -> None:
    """Its folder has the settings of three epochs, its record not yet."""
    (job.folder / ".hydra").mkdir()
    began = config.compose("train", [*TYPED, "trainer.epochs=3"])
    write_text(job.folder / ".hydra" / "config.yaml", config.nested_yaml(config.plain(began)))
    settings = _settings(*TYPED, "trainer.epochs=3")
    with recorded(job.folder, settings=settings, typed=[*TYPED, "trainer.epochs=3"]):
        _trained(job, 0.75)
    assert read_job(job.folder).identity == resume.identity(settings, swept=["seed"]) != job.identity


@pytest.mark.parametrize("swept", [["seed=1"], ["seed=1", "pruner=median"]])
def test_a_job_that_goes_on_as_it_began_stays_what_it_was(job: Job, swept: list[str]) -> None:
    """Without a pruner, which ends it early: a swept one is a part of its identity."""
    write_json(job.folder / "job.json", read_json(job.folder / "job.json") | {"status": "pruned", "swept": swept})
    typed = [*TYPED, "trainer.epochs=1"]
    (job.folder / ".hydra").mkdir()
    began = config.compose("train", [*typed, "pruner=median"])
    write_text(job.folder / ".hydra" / "config.yaml", config.nested_yaml(config.plain(began)))
    with recorded(job.folder, settings=_settings(*typed, "data.num_workers=1"), typed=typed):
        _trained(job, 0.75)
    now = read_job(job.folder)
    assert (now.status, now.value) == ("complete", 0.75)
    assert (now.identity, now.overrides, now.swept) == (job.identity, job.overrides, swept)


@pytest.mark.parametrize("error", [InputError(Fault("a", "b", "c")), SystemExit()], ids=["refusal", "signal"])
def test_what_trains_nothing_leaves_the_record(job: Job, error: BaseException) -> None:
    before = content(job.folder)
    settings = _settings(*TYPED, "trainer.epochs=3")
    with pytest.raises(type(error)), recorded(job.folder, settings=settings, typed=TYPED):
        raise error
    with recorded(job.folder, settings=_settings(*TYPED, "trainer.epochs=1"), typed=TYPED):
        pass  # nothing was left to do
    assert content(job.folder) == before


def test_a_record_that_says_less_than_the_run_is_put_right(job: Job) -> None:
    """An older version did not keep it up to date."""
    write_json(job.folder / "job.json", read_json(job.folder / "job.json") | {"status": "stopped", "value": None})
    with recorded(job.folder, settings=_settings(*TYPED, "trainer.epochs=1"), typed=TYPED):
        pass
    assert (read_job(job.folder).status, read_job(job.folder).value) == ("complete", 0.5)


def test_a_job_that_its_sweep_works_on_is_left_to_it(job: Job) -> None:
    with Attempt(job.folder):
        before = (job.folder / "job.json").read_bytes()
        settings = _settings(*TYPED, "trainer.epochs=1")
        with pytest.raises(InputError, match="error: job in use"), recorded(job.folder, settings=settings, typed=TYPED):
            raise AssertionError
        assert (job.folder / "job.json").read_bytes() == before


def test_a_job_that_is_trained_longer_is_reported_as_such(
    start: Start, run: Run, tiny: list[str], tmp_path: Path
) -> None:
    command = ["-m", *tiny, "trainer.epochs=1", "seed=1,2", "sweep.keep_states=true", "hydra.sweep.dir=s"]
    assert run(*command)[::2] == (0, "")
    first = tmp_path / "s" / "0_seed=1"
    before = content(first)["job.json"]
    assert run("resume=s/0_seed=1", "model.dropout=0.7")[0] == 2
    assert run("resume=s/0_seed=1")[0] == 0
    assert content(first)["job.json"] == before
    longer = start("resume=s/0_seed=1", "trainer.epochs=3", hold=("step", 6)).wait_until_held()
    code, output, error = run("resume=s", "seed=2,3")
    assert (code, error) == (0, "") and output.startswith("2 jobs: 1 done, 1 new")
    assert read_job(first).status == "running"
    longer.send(signal.SIGTERM)
    longer.go_on()
    assert longer.wait() == 143 and read_job(first).status == "stopped"
    assert run("resume=s/0_seed=1")[::2] == (0, "")
    study = read_study([tmp_path / "s"])
    assert [(axis.key, axis.values) for axis in study.axes] == [("trainer.epochs", ("1", "3"))]
    assert [
        (c.values, [o.job.number for o in c.outcomes]) for c in sorted(study.candidates, key=lambda c: c.values)
    ] == [
        (("1",), [1, 2]),
        (("3",), [0]),
    ]
    assert read_job(first).value == read_json(first / "metrics.json")["valid_acc"]
    code, output, error = run(*command)
    assert (code, error) == (0, "") and output.startswith("2 jobs: 1 done, 1 new")
    assert run(*command)[1].startswith("2 jobs: all are done")
