"""Continuing a run: as functions, and as a user types it."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from hybridnet import config
from hybridnet.checkpoint import load_checkpoint, save_checkpoint
from hybridnet.errors import InputError
from hybridnet.files import read_json
from hybridnet.resume import ADDED, ENTRIES, identity, load_run, require_same_data, require_same_settings
from tests.conftest import Command, content, outcome, wait_until_saved

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., Command]

SETTINGS = {
    "seed": 42,
    "data.seed": 42,
    "data.num_workers": "auto",
    "data.batch_size": 32,
    "data.source": None,
    "model.heads": 4,
    "model.blocks[0].heads": 4,
    "model.blocks[0].position": "absolute",
    "optimizer.base_lr": 1e-4,
    "optimizer.head_lr": 1e-3,
    "trainer.epochs": 10,
    "trainer.plot": False,
    "trainer.channels_last": True,
}
REFERENCES = {"data.seed": "seed", "model.blocks[0].heads": "model.heads"}


def _changed(now: dict, *, allow: list[str] | None = None, references: dict | None = None) -> list[str]:
    references = REFERENCES if references is None else references
    return require_same_settings(SETTINGS, now, references, folder=Path("outputs/a"), allow=allow or [])


def test_the_same_settings_are_fine() -> None:
    assert _changed(dict(SETTINGS)) == []


def test_every_difference_is_shown_with_both_values() -> None:
    now = SETTINGS | {"optimizer.base_lr": 3e-4, "trainer.channels_last": False, "data.source": "digits", "data.x": 1}
    del now["model.blocks[0].position"]
    with pytest.raises(InputError) as caught:
        _changed(now)
    assert str(caught.value) == (
        "error: changed settings in outputs/a: the run began with others\n"
        "  data.source: null in the run, digits now\n"
        "  data.x: not there in the run, 1 now\n"
        "  model.blocks[0].position: absolute in the run, not there now\n"
        "  optimizer.base_lr: 0.0001 in the run, 0.0003 now\n"
        "  trainer.channels_last: true in the run, false now\n"
        "hint: leave them out to continue the run as it began, or let them through: resume_allow="
        "[data.source,data.x,model.blocks[0].position,optimizer.base_lr,trainer.channels_last]"
    )


@pytest.mark.parametrize("key", ADDED)
def test_a_run_of_a_version_without_a_setting_did_what_its_neutral_value_does(key: str) -> None:
    now = SETTINGS | ADDED
    assert _changed(now) == []
    with pytest.raises(InputError, match=rf"{key}: {re.escape(str(ADDED[key]))} in the run, other now"):
        _changed(now | {key: "other"})


@pytest.mark.parametrize("key", ADDED)
def test_a_job_of_a_version_without_a_setting_is_the_job_with_its_neutral_value(key: str) -> None:
    now = SETTINGS | ADDED
    for swept in ([], [key]):
        before = identity(SETTINGS, swept=swept)
        assert identity(now, swept=swept) == before
        assert identity(now | {key: "other"}, swept=swept) != before


def test_neutral_values_are_the_defaults() -> None:
    settings, _ = config.flat(config.compose("train", ["data=metadata"]))
    assert {key: settings[key] for key in ADDED} == ADDED


def test_a_key_without_a_value_is_not_a_missing_key() -> None:
    with pytest.raises(InputError, match=r"  data\.fold: not there in the run, null now\n"):
        _changed(SETTINGS | {"data.fold": None})


def test_what_only_refers_to_a_changed_setting_is_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        _changed(SETTINGS | {"model.heads": 8, "model.blocks[0].heads": 8})
    assert "\n  model.heads: 4 in the run, 8 now\nhint" in str(caught.value)
    assert "blocks" not in str(caught.value)


def test_what_refers_to_a_setting_but_changed_by_itself_is_shown() -> None:
    with pytest.raises(InputError, match=r"\n  data\.seed: 42 in the run, 7 now\nhint"):
        _changed(SETTINGS | {"data.seed": 7}, references={})
    with pytest.raises(InputError, match=r"\n  data\.seed: 42 in the run, 7 now\nhint"):
        _changed(SETTINGS | {"data.seed": 7})


@pytest.mark.parametrize(
    "key",
    [
        *("resume", "resume_allow", "verify_resume", "logger.folder", "data.metadata", "data.label2id"),
        *("data.num_workers", "data.pin_memory", "data.cache", "data.cache_dir"),
        *("trainer.device", "trainer.log_every", "trainer.checkpoint_minutes", "trainer.plot"),
    ],
)
def test_what_does_not_change_the_result_is_free(key: str) -> None:
    assert _changed(SETTINGS | {key: "another"}) == []


@pytest.mark.parametrize("key", ["data.cached", "data.metadata_", "trainer.devices", "loggers", "data", "trainer"])
def test_what_only_begins_like_a_free_setting_is_not(key: str) -> None:
    with pytest.raises(InputError, match=f"  {key}: not there in the run, 1 now"):
        _changed(SETTINGS | {key: 1})


def test_more_epochs_are_told_and_fewer_are_refused() -> None:
    assert _changed(SETTINGS | {"trainer.epochs": 11}) == ["trainer.epochs: 10 in the run, 11 now"]
    with pytest.raises(InputError, match=r"  trainer\.epochs: 10 in the run, 9 now"):
        _changed(SETTINGS | {"trainer.epochs": 9})
    assert _changed(SETTINGS | {"trainer.epochs": 9}, allow=["trainer.epochs"]) == [
        "trainer.epochs: 10 in the run, 9 now"
    ]


def test_a_setting_or_a_group_is_let_through_and_told() -> None:
    now = SETTINGS | {"optimizer.base_lr": 1.0, "optimizer.head_lr": 2.0}
    lines = ["optimizer.base_lr: 0.0001 in the run, 1.0 now", "optimizer.head_lr: 0.001 in the run, 2.0 now"]
    assert _changed(now, allow=["optimizer"]) == lines
    assert _changed(now, allow=["optimizer.base_lr", "optimizer.head_lr"]) == lines
    with pytest.raises(InputError) as caught:
        _changed(now, allow=["optimizer.head_lr"])
    assert "base_lr: 0.0001" in str(caught.value) and "head_lr" not in str(caught.value)
    assert _changed(SETTINGS | {"model.blocks[0].position": "relative"}, allow=["model.blocks"])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("optimizer.base_lrr", "did you mean optimizer.base_lr?"),
        ("optimiser", "python train.py --cfg job shows all keys"),
        ("optim", "python train.py --cfg job shows all keys"),
    ],
)
def test_a_misspelt_permission_is_named(name: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        _changed(dict(SETTINGS), allow=["model", name])
    assert str(caught.value) == (
        f"error: unknown key in resume_allow=[{name}]: the configuration has no such key\nhint: {hint}"
    )


@pytest.mark.parametrize(
    ("now", "which"),
    [
        ({"train": "1", "valid": "x"}, "validation"),
        ({"train": "x", "valid": "2"}, "training"),
        ({"train": "x", "valid": "x"}, "training and validation"),
        ({}, "training and validation"),
    ],
)
def test_other_data_are_refused_unless_they_are_let_through(now: dict[str, str], which: str) -> None:
    saved, folder = {"train": "1", "valid": "2"}, Path("outputs/a")
    with pytest.raises(InputError) as caught:
        require_same_data(saved, now, folder=folder, allow=["data.batch_size"])
    assert str(caught.value) == (
        f"error: changed data in outputs/a: the {which} pictures, their labels or their order are not those that the "
        "run began with\nhint: restore them, or continue with resume_allow=[data]"
    )
    require_same_data(saved, now, folder=folder, allow=["data"])
    require_same_data(saved, dict(saved), folder=folder, allow=[])


def test_a_checkpoint_of_another_version_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", {name: {} for name in ENTRIES - {"totals", "average"}})
    with pytest.raises(InputError) as caught:
        load_run(tmp_path, {}, {}, allow=[])
    assert str(caught.value) == (
        f"error: unusable checkpoint in {tmp_path / 'last.pt'}: it has no entry average, totals: another version of "
        "hybridnet wrote it\nhint: continue with that version, or start anew in another folder"
    )


def test_where_nothing_was_saved_there_is_nothing_to_continue(tmp_path: Path) -> None:
    assert load_run(tmp_path, {}, {}, allow=[]) is None


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(run: Run, parted: Path, reference: Path) -> None:
    overrides = (parted / ".hydra" / "overrides.yaml").read_bytes()
    code, output, error = run("resume=run")
    assert (code, error) == (0, "")
    assert "continuing after epoch 1, batch 2 of the next one (step 6)" in output
    assert outcome(parted) == outcome(reference)
    assert (parted / ".hydra" / "overrides.yaml").read_bytes() == overrides
    environment = read_json(parted / "environment.json")
    assert len(environment["earlier"]) == 1 and "earlier" not in environment["earlier"][0]
    assert environment["earlier"][0]["command"] != environment["command"]


def test_auto_begins_and_then_continues(run: Run, tiny: list[str], tmp_path: Path, reference: Path) -> None:
    """As a scheduler restarts a job: always with the same command."""
    command, folder = [*tiny, "hydra.run.dir=some/run", "resume=auto"], tmp_path / "some" / "run"
    code, output, error = run(*command)
    assert (code, error) == (0, "")
    assert "continuing" not in output
    assert outcome(folder) == outcome(reference)
    assert not any("resume" in text for text in yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text()))

    before = content(folder)
    for arguments in (command, [f"resume={folder}"]):
        code, output, error = run(*arguments)
        assert (code, error) == (0, "")
        assert output == "some/run holds a complete run: nothing is left to do\n"
        assert content(folder) == before, "not even the time of a change is another"

    code, output, error = run(*command, "trainer.epochs=4")
    assert (code, error) == (0, "")
    assert "changed: trainer.epochs: 3 in the run, 4 now" in output
    assert "continuing after epoch 3, batch 0 of the next one (step 12)" in output
    history = read_json(folder / "history.json")
    assert history[:3] == read_json(reference / "history.json") and len(history) == 4
    assert (read_json(folder / "metrics.json")["epochs"], read_json(folder / "metrics.json")["steps"]) == (4, 16)
    assert "trainer.epochs=4" in yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())


def test_a_run_that_stopped_early_says_how_it_goes_on(run: Run, tiny: list[str], tmp_path: Path) -> None:
    still = ["model/backbone=still", "optimizer.base_lr=1e-12", "optimizer.head_lr=1e-12"]  # no epoch is better
    assert run(*tiny, *still, "trainer.patience=1", "hydra.run.dir=run")[0] == 0
    told = "run holds a complete run: nothing is left to do; it stopped early, after epoch 2 of 3 (trainer.patience=1)"
    how = ["trainer.patience=0", "resume_allow=[trainer.patience]"]
    assert run("resume=run") == (0, f"{told}: {' '.join(how)} goes on\n", "")
    code, _, error = run("resume=run", *how)
    assert (code, error) == (0, "")
    assert read_json(tmp_path / "run" / "metrics.json")["epochs"] == 3


def test_the_folder_of_a_sweeps_job_is_continued(run: Run, parted: Path, reference: Path, tmp_path: Path) -> None:
    folder = parted.rename(tmp_path / "0_dropout=0.1,heads=2")
    code, output, error = run("resume=0_dropout=0.1,heads=2")
    assert (code, error) == (0, "")
    assert "continuing after epoch 1" in output
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("name", ["a=b, c'", 'it\'s "x"', "{a: [1]} ~é#\\"])
def test_a_folder_may_have_any_name(run: Run, reference: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(reference, tmp_path / name)
    for key in ("resume", "++resume"):
        assert run(f"{key}={name}") == (0, f"{name} holds a complete run: nothing is left to do\n", "")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_quotes_around_a_folder_are_those_of_hydra(run: Run, reference: Path, tmp_path: Path) -> None:
    shutil.copytree(reference, tmp_path / "a, b")
    assert run("resume='a, b'") == (0, "a, b holds a complete run: nothing is left to do\n", "")
    assert run("resume=~/a, b", HOME=str(tmp_path))[0] == 0


USED = (
    "error: used run folder in {folder}: it holds another run, which would be overwritten\n"
    "hint: continue it with resume=run, or choose another folder with hydra.run.dir=<folder>\n"
)
LEAVE = "hint: leave them out to continue the run as it began, or let them through: resume_allow="


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (
            "resume=nowhere",
            "error: no run to continue in resume=nowhere: there is no nowhere/.hydra/overrides.yaml\n"
            "hint: resume=<run folder>; hydra.run.dir=<folder> resume=auto starts a run where there is none\n",
        ),
        (
            "resume=run/.hydra",
            "error: no run to continue in resume=run/.hydra: there is no run/.hydra/.hydra/overrides.yaml\n"
            "hint: resume=<run folder>; hydra.run.dir=<folder> resume=auto starts a run where there is none\n",
        ),
        (
            "resume=auto",
            "error: missing value in hydra.run.dir: resume=auto continues what is there\n"
            "hint: add hydra.run.dir=<folder>, the same at every start; or resume=<run folder>\n",
        ),
        (
            "-m hydra.run.dir=run resume=auto",
            "error: missing value in hydra.sweep.dir: resume=auto continues what is there\n"
            "hint: add hydra.sweep.dir=<folder>, the same at every start; or resume=<run folder>\n",
        ),
        (
            "-m resume=run seed=1,2",
            "error: no sweep in run: there is no sweep.json\n"
            "hint: a sweep's folder is the one that python train.py -m … writes, outputs/sweeps/<time>\n",
        ),
        (
            "resume=run hydra.run.dir=other",
            "error: wrong option in hydra.run.dir with resume=run: what is continued is continued in its own folder\n"
            "hint: leave out hydra.run.dir\n",
        ),
        (
            "resume=run trainer.epoch=5",
            "error: unknown key in trainer.epoch: trainer has no 'epoch'\nhint: did you mean trainer.epochs?\n",
        ),
        (
            "resume=run optimizer.base_lr=0.002 model.dropout=0.3 optimizer.head_lr=0.5 resume_allow=[model.dropout]",
            "error: changed settings in {folder}: the run began with others\n"
            "  optimizer.base_lr: 0.001 in the run, 0.002 now\n"
            "  optimizer.head_lr: 0.001 in the run, 0.5 now\n"
            f"{LEAVE}[optimizer.base_lr,optimizer.head_lr]\n",
        ),
        (
            "resume=run seed=7 monitor=valid_loss",
            "error: changed settings in {folder}: the run began with others\n"
            "  monitor: valid_acc in the run, valid_loss now\n"
            "  seed: 42 in the run, 7 now\n"
            f"{LEAVE}[monitor,seed]\n",
        ),
        (
            "resume=run trainer.epochs=2",
            "error: changed settings in {folder}: the run began with others\n"
            "  trainer.epochs: 3 in the run, 2 now\n"
            f"{LEAVE}[trainer.epochs]\n",
        ),
        (
            "resume=run resume_allow=[optimizer.base_lrr]",
            "error: unknown key in resume_allow=[optimizer.base_lrr]: the configuration has no such key\n"
            "hint: did you mean optimizer.base_lr?\n",
        ),
        (
            "resume=run verify_resume=true",
            "error: wrong value in resume=run: a verification begins two runs of its own\n"
            "hint: leave it out with verify_resume=true\n",
        ),
    ],
)
def test_a_refusal_has_one_line_and_leaves_the_run_as_it_was(
    run: Run, parted: Path, tmp_path: Path, command: str, error: str
) -> None:
    before = content(tmp_path)
    assert run(*command.split()) == (2, "", error.format(folder=parted))
    assert content(tmp_path) == before


def test_a_run_is_never_begun_in_the_folder_of_another(
    run: Run, tiny: list[str], parted: Path, reference: Path, tmp_path: Path
) -> None:
    before = content(tmp_path)
    assert run(*tiny, "hydra.run.dir=run") == (2, "", USED.format(folder=parted))
    assert content(tmp_path) == before


def test_a_checkpoint_of_another_model_is_refused_with_the_difference(run: Run, parted: Path) -> None:
    """Where the settings of the model may differ, its weights still have to fit."""
    before = content(parted)
    code, _, error = run("resume=run", "model=ca", "resume_allow=[model]")
    assert code == 2
    assert error == (
        f"error: wrong checkpoint in {parted / 'last.pt'}: it was saved by another model\n"
        "  missing in the file: blocks.ca.bn1.bias, blocks.ca.bn1.num_batches_tracked, blocks.ca.bn1.running_mean "
        "and 7 more\n"
        "  not in this model:   none\n"
        "  of another shape:    none\n"
        "hint: use the model settings that it was trained with\n"
    )
    assert _without_log(content(parted)) == _without_log(before)


def test_damaged_overrides_are_named(run: Run, parted: Path, tmp_path: Path) -> None:
    file = parted / ".hydra" / "overrides.yaml"
    file.write_text("- a=[\n- b")
    before = content(tmp_path)
    code, output, error = run("resume=run")
    assert (code, output) == (2, "")
    assert error.startswith("error: unreadable overrides in run/.hydra/overrides.yaml: ")
    assert content(tmp_path) == before


def test_speed_and_place_may_change(run: Run, tiny: list[str], parted: Path, reference: Path, tmp_path: Path) -> None:
    """Also where the pictures are: what counts is what is in them."""
    metadata = next(Path(text.partition("=")[2]) for text in tiny if text.startswith("data.metadata="))
    shutil.copytree(metadata.parent, tmp_path / "moved")
    code, output, error = run(
        *("resume=run", "data.metadata=moved/metadata.csv", "data.label2id=moved/label2id.json"),
        *("data.num_workers=0", "data.cache=none", "trainer.device=cpu", "trainer.log_every=3"),
        "trainer.checkpoint_minutes=1e-9",
    )
    assert (code, error) == (0, "")
    assert "changed" not in output
    assert outcome(parted) == outcome(reference)
    overrides = yaml.safe_load((parted / ".hydra" / "overrides.yaml").read_text())
    assert len([text for text in overrides if text.startswith("data.metadata=")]) == 1
    assert "data.metadata=moved/metadata.csv" in overrides and "trainer.epochs=3" in overrides


def test_progressive_sizes_are_resumed_and_stretched(run: Run, tiny: list[str], tmp_path: Path) -> None:
    """With more epochs the sizes are cut anew, as the schedule of the learning rate is."""
    sizes = ["data.image_size=48", "data.progressive=[32]", "trainer.epochs=2", "hydra.run.dir=run"]
    code, output, error = run(*tiny, *sizes)
    assert (code, error) == (0, "") and "training pictures of 32×32 in epoch 1, 48×48 in epoch 2" in output
    code, _, error = run("resume=run", "data.progressive=[40]", "trainer.epochs=4")
    assert code == 2 and error.startswith("error: changed settings in ")
    assert "\n  data.progressive: [32] in the run, [40] now\nhint" in error and "num_epochs" not in error
    code, output, error = run("resume=run", "trainer.epochs=4")
    assert (code, error) == (0, "")
    assert "changed: trainer.epochs: 2 in the run, 4 now\n" in output and "num_epochs" not in output
    assert "training pictures of 32×32 in epochs 1-2, 48×48 in epochs 3-4" in output
    assert len(read_json(tmp_path / "run" / "history.json")) == 4


def test_an_interrupted_progressive_run_ends_the_same(run: Run, tiny: list[str], tmp_path: Path) -> None:
    code, _, error = run(
        *tiny, "data.image_size=48", "data.progressive=[32]", "verify_resume=true", "hydra.run.dir=run"
    )
    assert (code, error) == (0, "")
    assert read_json(tmp_path / "run" / "verify_resume.json")["verdict"] == "bit for bit the same"


def test_a_setting_that_is_let_through_counts(run: Run, parted: Path, reference: Path) -> None:
    """And is the run's from then on."""
    code, output, error = run(
        "resume=run", "optimizer.base_lr=0.002", "model.dropout=0.4", "resume_allow=[optimizer,model.dropout]"
    )
    assert (code, error) == (0, "")
    assert "changed: model.dropout: 0.1 in the run, 0.4 now\n" in output
    assert "changed: optimizer.base_lr: 0.001 in the run, 0.002 now\n" in output
    history, other = read_json(parted / "history.json"), read_json(reference / "history.json")
    assert history[0] == other[0]
    assert [row["lr"] for row in history[1:]] == pytest.approx([2 * row["lr"] for row in other[1:]])
    assert [row["head_lr"] for row in history] == [row["head_lr"] for row in other]
    assert history[2]["train_loss"] != other[2]["train_loss"]

    code, output, error = run("resume=run", "trainer.epochs=4")
    assert (code, error) == (0, "")
    assert "optimizer" not in output
    code, output, error = run("resume=run", "optimizer.base_lr=0.001")
    assert "optimizer.base_lr: 0.002 in the run, 0.001 now" in error


def _label(folder: Path, *, line: int) -> None:
    lines = (folder / "metadata.csv").read_text().splitlines()
    lines[line] = re.sub("horizontal|vertical", "none", lines[line])
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def _picture(folder: Path, *, number: int) -> None:
    picture = Image.open(folder / f"{number}.png")
    picture.putpixel((3, 4), (1, 2, 3))
    picture.save(folder / f"{number}.png")


def _order(folder: Path) -> None:
    lines = (folder / "metadata.csv").read_text().splitlines()
    lines[1], lines[2] = lines[2], lines[1]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("change", "which"),
    [
        (_order, "training"),
        (lambda folder: _picture(folder, number=30), "validation"),
        (lambda folder: (_picture(folder, number=0), _label(folder, line=31)), "training and validation"),
    ],
    ids=["order", "picture", "both splits"],
)
def test_changed_data_are_refused(
    run: Run, tiny: list[str], parted: Path, tmp_path: Path, change: Callable[[Path], None], which: str
) -> None:
    metadata = next(Path(text.partition("=")[2]) for text in tiny if text.startswith("data.metadata="))
    change(shutil.copytree(metadata.parent, tmp_path / "moved"))
    command = ("resume=run", "data.metadata=moved/metadata.csv", "data.label2id=moved/label2id.json")
    before = content(parted)
    code, _, error = run(*command)
    assert code == 2
    assert error == (
        f"error: changed data in {parted}: the {which} pictures, their labels or their order are not those that the "
        "run began with\nhint: restore them, or continue with resume_allow=[data]\n"
    )
    assert _without_log(content(parted)) == _without_log(before)
    if which == "training and validation":
        code, _, error = run(*command, "resume_allow=[data]")
        assert (code, error) == (0, "")
        assert read_json(parted / "status.json")["status"] == "complete"


def _without_log(files: dict[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
    """What was read before the refusal may have been logged."""
    return {name: file for name, file in files.items() if name != "train.log"}


def _flip(file: Path) -> None:
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


DAMAGE = {
    _flip: r"error: damaged checkpoint in {file}: the checksum of its part \S+ is wrong",
    _truncate: r"error: unusable checkpoint in {file}: .+",
    _empty: r"error: unusable checkpoint in {file}: .+",
    Path.unlink: r"error: missing checkpoint in {file}: no such file",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_continued(
    run: Run, parted: Path, reference: Path, damage: Callable[[Path], None]
) -> None:
    damage(parted / "last.pt")
    code, output, error = run("resume=run")
    assert (code, error) == (0, "")
    line, where, *_ = output.splitlines()
    expected = DAMAGE[damage].format(file=parted / "last.pt").removeprefix("error: ")
    assert re.search(f"{expected}; continuing from {parted / 'previous.pt'}, which was saved before it", line)
    assert "continuing after epoch 1, batch 0 of the next one (step 4)" in output, where
    assert outcome(parted) == outcome(reference)


@pytest.mark.parametrize(("first", "second"), [(_flip, _empty), (_truncate, _flip), (Path.unlink, _truncate)])
def test_where_both_checkpoints_are_damaged_both_are_named(
    run: Run, parted: Path, first: Callable[[Path], None], second: Callable[[Path], None]
) -> None:
    first(parted / "last.pt")
    second(parted / "previous.pt")
    before = content(parted)
    code, output, error = run("resume=run")
    assert (code, output) == (2, "")
    one, other, hint = error.splitlines()
    assert re.fullmatch(DAMAGE[first].format(file=parted / "last.pt"), one)
    assert re.fullmatch(DAMAGE[second].format(file=parted / "previous.pt"), other)
    assert hint == "hint: the run cannot be continued; start it anew in another folder"
    assert content(parted) == before


def test_a_refusal_does_not_cost_the_state_before_a_damaged_one(run: Run, parted: Path, reference: Path) -> None:
    _flip(parted / "last.pt")
    before = _without_log(content(parted))
    code, _, error = run("resume=run", "seed=7")
    assert code == 2 and "seed: 42 in the run, 7 now" in error
    assert _without_log(content(parted)) == before
    assert run("resume=run")[0] == 0
    assert outcome(parted) == outcome(reference)


def test_results_without_a_checkpoint_are_not_overwritten(run: Run, parted: Path) -> None:
    (parted / "last.pt").unlink()
    (parted / "previous.pt").unlink()
    before = content(parted)
    assert run("resume=run") == (2, "", USED.format(folder=parted))
    assert content(parted) == before


def test_results_are_written_anew_from_the_checkpoint(run: Run, tiny: list[str], parted: Path, reference: Path) -> None:
    for name in (
        "history.json",
        "history.csv",
        "best_model.pt",
        "environment.json",
        "status.json",
        ".hydra/hydra.yaml",
    ):
        (parted / name).unlink()
    (parted / ".history.json.123.tmp").write_text("[{")
    (parted / ".hydra" / ".config.yaml.123.tmp").write_text("seed")
    code, _, error = run(*tiny[:2], "resume=run")  # with the --config-dir that only hydra.yaml knew
    assert (code, error) == (0, "")
    assert outcome(parted) == outcome(reference)
    assert not [*parted.rglob(".*.tmp")]


def test_a_second_process_is_refused_and_the_first_goes_on(
    start: Start, run: Run, tiny: list[str], tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    first = start(*tiny, "hydra.run.dir=run", hold=("step", 6)).wait_until_held()
    wait_until_saved(folder)
    started = read_json(folder / "status.json")["started"]
    before = content(folder)
    for command in ([*tiny, "hydra.run.dir=run", "resume=auto"], ["resume=run"]):
        assert run(*command) == (
            2,
            "",
            f"error: run folder in use in {folder}: process {first.process} has been working in it since {started}\n"
            "hint: choose another folder with hydra.run.dir=<folder>\n",
        )
        assert content(folder) == before
    first.go_on()
    assert first.wait() == 0, first.stderr
    assert outcome(folder) == outcome(reference)


@pytest.mark.parametrize("again", ["the same command", pytest.param("resume", marks=pytest.mark.slow)])
def test_a_sweep_given_again_finishes_what_is_missing(
    start: Start, run: Run, tiny: list[str], tmp_path: Path, reference: Path, again: str
) -> None:
    command = ["-m", *tiny, "seed=42,7", "hydra.sweep.dir=s"]
    first, second = tmp_path / "s" / "0_seed=42", tmp_path / "s" / "1_seed=7"
    stopped = start(*command, hold=("step", 6)).wait_until_held().send(signal.SIGTERM)
    stopped.go_on()
    assert stopped.wait() == 143, stopped.stderr
    assert stopped.stdout.endswith("the sweep goes on with python train.py resume=s\n")
    assert [read_json(folder / "job.json")["status"] for folder in (first, second)] == ["stopped", "pending"]
    if again == "resume":
        command = ["resume=s"]

    killed = start(*command, hold=("step", 6 + 6)).wait_until_held()
    wait_until_saved(second)
    assert killed.send(signal.SIGKILL).wait() == -9
    assert killed.stdout.startswith("2 jobs: 1 to be continued, 1 new; ")
    assert "continuing after epoch 1, batch 2 of the next one (step 6)" in killed.stdout
    assert [read_json(folder / "job.json")["status"] for folder in (first, second)] == ["complete", "running"]
    assert outcome(first) == outcome(reference) | {"files": outcome(first)["files"]}

    before = content(first)
    code, output, error = run(*command)
    assert (code, error) == (0, "")
    assert output.startswith("2 jobs: 1 done, 1 to be continued; ")
    assert "job 1 (seed=7), attempt 2" in output and "job 0" not in output
    assert "continuing after epoch 1, batch 0 of the next one (step 4)" in output
    assert content(first) == before
    assert [read_json(folder / "job.json")["attempt"] for folder in (first, second)] == [2, 2]
    assert read_json(second / "job.json")["status"] == "complete"
    assert read_json(second / "history.json") != read_json(first / "history.json")

    before = content(second)
    assert run("resume=s/1_seed=7") == (0, "s/1_seed=7 holds a complete run: nothing is left to do\n", "")
    code, output, error = run(*command)
    assert (code, error) == (0, "")
    assert output.startswith("2 jobs: all are done, nothing is left to do\n")
    assert content(second) == before


def test_the_checkpoint_holds_plain_types_only(stopped: Path) -> None:
    def require_plain(value: object, where: str) -> None:
        if isinstance(value, dict):
            assert type(value) is dict or type(value).__name__ == "OrderedDict", where
            for key, item in value.items():
                assert isinstance(key, str | int), where
                require_plain(item, f"{where}.{key}")
        elif isinstance(value, list | tuple):
            for item in value:
                require_plain(item, where)
        else:
            assert type(value).__name__ in ("Tensor", "int", "float", "str", "bool", "NoneType"), (where, type(value))

    saved = load_checkpoint(stopped / "last.pt")
    assert set(saved) > ENTRIES
    require_plain(saved, "last.pt")


def test_a_new_run_may_not_allow_what_it_does_not_have(tmp_path: Path) -> None:
    assert load_run(tmp_path, SETTINGS, {}, allow=["optimizer"]) is None
    with pytest.raises(InputError, match=r"unknown key in resume_allow=\[foo\]: the configuration has no such key"):
        load_run(tmp_path, SETTINGS, {}, allow=["foo"])
