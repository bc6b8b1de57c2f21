"""`python -m hybridnet.evaluate`: the figures of the training, and more; other tables, several runs, bad pictures."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hybridnet import config
from hybridnet.errors import InputError
from hybridnet.evaluate import _class_table
from hybridnet.files import read_json, write_json
from hybridnet.inference.runs import RunSettings

OWN = "extra_targets=[own_parts.]"


def evaluate(*overrides: str) -> None:
    cfg = config.compose("evaluate", [OWN, *overrides])
    assert not config.find_faults(cfg)
    config.build(cfg)


@pytest.fixture
def run(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "run"))


@pytest.fixture
def table(run: Path, tmp_path: Path) -> Path:
    """Another table: the run's validation pictures as split test, in a folder of their own."""
    source = Path(RunSettings(run).get("data.metadata")).parent
    photos = Path(shutil.copytree(source, tmp_path / "photos"))
    lines = (photos / "metadata.csv").read_text().replace(",valid", ",test").splitlines()
    (photos / "metadata.csv").write_text("\n".join([lines[0], *lines[25:]]) + "\n")
    return photos / "metadata.csv"


def test_the_figures_are_the_training_s(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(f"run={run}")
    folder = run / "evaluation" / "valid"
    found, trained = read_json(folder / "metrics.json"), read_json(run / "metrics.json")
    for name in ("valid_acc", "valid_loss", "valid_macro_f1", "num_valid", "per_class", "confusion_matrix"):
        assert found[name] == trained[name], name
    assert (folder / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    low, high = found["valid_acc_interval"]
    assert 0 <= low < found["valid_acc"] <= high <= 1
    assert set(found["top_k_acc"]) == {"2"}
    for name in ("confusion_matrix.png", "reliability.png", "mistakes.png"):
        assert (folder / name).is_file() == (name != "mistakes.png" or found["valid_acc"] < 1)
    printed = capsys.readouterr().out
    assert "compared to training   the same figures" in printed
    assert f"accuracy               {found['valid_acc']:.4f}" in printed


def test_other_figures_than_the_training_s_are_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (run / "metrics.json").read_text()
    loss = read_json(run / "metrics.json")["valid_loss"]
    (run / "metrics.json").write_text(text.replace(f'"valid_loss": {loss}', '"valid_loss": 0.25'))
    evaluate(f"run={run}")
    assert "valid_loss 0.25, now" in " ".join(capsys.readouterr().out.split())


def test_a_copied_run_judges_another_table(run: Path, table: Path, tmp_path: Path) -> None:
    evaluate(f"run={run}", "split=test", f"data.metadata={table}")
    found = read_json(run / "evaluation" / "photos_test" / "metrics.json")
    trained = read_json(run / "metrics.json")
    assert found["test_acc"] == trained["valid_acc"]
    assert found["num_test"] == 9
    evaluate(f"run={run / 'best_model.pt'}", "split=test", f"data.metadata={table}", f"out={tmp_path / 'out'}")
    assert read_json(tmp_path / "out" / "metrics.json")["test_loss"] == found["test_loss"]


@pytest.fixture
def own_table(run: Path, tmp_path: Path) -> Path:
    """The run's table, which a test may change."""
    name = RunSettings(run).get("data.metadata")
    photos = Path(shutil.copytree(Path(name).parent, tmp_path / "own"))
    config_file = run / ".hydra" / "config.yaml"
    config_file.write_text(config_file.read_text().replace(name, str(photos / "metadata.csv")))
    return photos / "metadata.csv"


def test_a_table_that_was_divided_anew_is_not_the_training_s(
    run: Path, own_table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its validation pictures may have been trained on, and none of its splits is what the run says it is."""
    evaluate(f"run={run}")
    assert "compared to training   the same figures" in capsys.readouterr().out
    swapped = {"valid": "train", "train": "valid"}
    header, *lines = own_table.read_text().splitlines()
    rows = [line.rpartition(",") for line in lines]
    lines = [f"{row},{swapped[split] if number in (2, 30) else split}" for number, (row, _, split) in enumerate(rows)]
    own_table.write_text("\n".join([header, *lines]) + "\n")
    with pytest.raises(InputError, match=r"1 of 9 are copies of training pictures\n  line 4 '2\.png' = '2\.png'\n"):
        evaluate(f"run={run}")
    for split, num_leaked in (("valid", 1), ("train", 23)):
        evaluate(f"run={run}", f"split={split}", "data.on_leak=keep")
        printed = " ".join(capsys.readouterr().out.split())
        assert (
            f"copies in training {num_leaked} validated on {24 - num_leaked - 15 * (split == 'valid')} picture"
            in printed
        )
        assert "not the training's the run's table has changed: these are other pictures" in printed
        assert "compared to training" not in printed
        found = read_json(run / "evaluation" / split / "metrics.json")
        assert not found["is_of_training"] and found["num_compared"] == 24
    (run / "pictures.csv").unlink()  # as former versions did not write it
    own_table.write_text(own_table.read_text().replace(",valid", ",test"))
    evaluate(f"run={run}", "split=test")
    printed = " ".join(capsys.readouterr().out.split())
    assert "copies in training not looked for: the table has other training pictures now" in printed
    assert "not the training's the run's table has changed: these are other pictures" in printed
    assert read_json(run / "evaluation" / "test" / "metrics.json")["num_leaked"] is None


def test_a_run_that_has_not_noted_its_pictures_is_believed_about_its_own_table(
    run: Path, own_table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "environment.json").unlink()
    evaluate(f"run={run}")
    assert "compared to training   the same figures" in capsys.readouterr().out
    evaluate(f"run={run}", f"data.metadata={own_table}")
    assert "compared to training" not in capsys.readouterr().out


def test_what_every_training_had_is_the_trainings(run: Path, own_table: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    environment = read_json(other / "environment.json")
    write_json(other / "environment.json", environment | {"data": environment["data"] | {"valid": "another"}})
    for runs, expected in (((run, run), True), ((run, other), False), ((other, run), False)):
        evaluate(f"run=[{runs[0]},{runs[1]}]", f"out={tmp_path / 'both'}")
        assert read_json(tmp_path / "both" / "metrics.json")["is_of_training"] is expected


def test_other_pictures_that_were_asked_for_are_no_surprise(
    run: Path, own_table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *lines = own_table.read_text().replace(",valid", ",test", 1).splitlines()
    folds = [f"{line}," if line.endswith(",test") else f"{line},{number % 2}" for number, line in enumerate(lines)]
    own_table.write_text("\n".join([f"{header},fold", *folds]) + "\n")
    for asked, name in (("split=test", "test"), ("data.fold=0", "valid_fold0")):
        evaluate(f"run={run}", asked, "data.on_leak=keep")
        assert "not the training's" not in capsys.readouterr().out
        assert read_json(run / "evaluation" / name / "metrics.json")["is_of_training"] is False


def test_pictures_that_have_moved_are_still_the_training_s(
    run: Path, own_table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = own_table.parent.rename(own_table.parents[1] / "moved") / "metadata.csv"
    evaluate(f"run={run}", f"data.metadata={moved}")
    assert "compared to training the same figures" in " ".join(capsys.readouterr().out.split())
    evaluate(f"run={run}", f"data.metadata={moved}", "split=train")
    assert "they are the training's own pictures" in capsys.readouterr().out


def test_the_training_pictures_of_another_table_are_judged_and_not_taken_for_the_training_s(
    run: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = table.read_text().replace(",test", ",train").splitlines()
    table.write_text("\n".join([*lines, "3.png,horizontal,train"]) + "\n")
    evaluate(f"run={run}", f"data.metadata={table}", "split=train")
    printed = " ".join(capsys.readouterr().out.split())
    assert "copies in training 1 " in printed and "not the training's" not in printed


def test_tables_in_folders_of_one_name_do_not_replace_each_other(
    run: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(table.parent, tmp_path / "b" / table.parent.name)) / table.name
    monkeypatch.chdir(tmp_path / "b")
    for one in (other.relative_to(tmp_path / "b"), table, other, table):
        evaluate(f"run={run}", "split=test", f"data.metadata={one}")
    found = [read_json(folder / "metrics.json")["metadata"] for folder in (run / "evaluation").iterdir()]
    assert sorted(found) == sorted([str(table), str(other)])


def test_groups_of_pictures_widen_the_interval(run: Path, table: Path) -> None:
    evaluate(f"run={run}", "split=test", f"data.metadata={table}")
    alone = read_json(run / "evaluation" / "photos_test" / "metrics.json")
    header, *lines = table.read_text().splitlines()
    grouped = [f"{line},{number // 3}" for number, line in enumerate(lines)]
    table.write_text("\n".join([f"{header},group", *grouped]) + "\n")
    evaluate(f"run={run}", "split=test", f"data.metadata={table}")
    found = read_json(run / "evaluation" / "photos_test" / "metrics.json")
    assert (alone["num_groups"], found["num_groups"]) == (9, 3)
    assert found["test_acc"] == alone["test_acc"]


def test_bad_pictures_stop_it_or_are_left_out(run: Path, table: Path) -> None:
    (table.parent / "24.png").write_text("no picture")
    arguments = [f"run={run}", "split=test", f"data.metadata={table}"]
    with pytest.raises(InputError, match=r"unusable images in .*: 1 of them\n  line 2 '24\.png': is none of JPEG"):
        evaluate(*arguments)
    renamed = table.read_text().replace("\n", "\nnowhere/", 8)
    (table.parent / "other.csv").write_text(renamed)
    with pytest.raises(
        InputError, match=r"8 of them\n(.*\n)+hint: relative paths are relative to the table's folder, /"
    ):
        evaluate(*arguments[:2], f"data.metadata={table.parent / 'other.csv'}")
    assert not (run / "evaluation" / "photos_test" / "metrics.json").exists()
    evaluate(*arguments, "data.on_bad_image=skip")
    found = read_json(run / "evaluation" / "photos_test" / "metrics.json")
    assert found["num_test"] == 8
    assert [(row["line"], row["path"]) for row in found["left_out"]] == [(2, "24.png")]
    for file in table.parent.glob("*.png"):
        file.write_text("no picture")
    with pytest.raises(InputError, match="too few pictures in .*: none of them can be used"):
        evaluate(*arguments, "data.on_bad_image=skip")


def test_training_pictures_are_refused_or_counted(run: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with table.open("a") as stream:
        stream.write("3.png,horizontal,test\n")
    arguments = [f"run={run}", "split=test", f"data.metadata={table}"]
    with pytest.raises(InputError) as caught:
        evaluate(*arguments)
    assert str(caught.value) == (
        f"error: training pictures in the evaluation in data.metadata={table}: 1 of 10 are copies of training "
        "pictures\n  line 11 '3.png' = '3.png'\nhint: remove their rows, or count them all the same with "
        "data.on_leak=keep"
    )
    evaluate(*arguments, "data.on_leak=keep")
    found = read_json(run / "evaluation" / "photos_test" / "metrics.json")
    assert (found["num_leaked"], found["num_compared"]) == (1, 24)
    assert "copies in training 1 " in " ".join(capsys.readouterr().out.split())
    evaluate(f"run={run}", "split=train")
    assert "the training's own pictures" in capsys.readouterr().out
    (run / ".hydra" / "config.yaml").unlink()
    (run / "pictures.csv").unlink()
    evaluate(*arguments)
    assert "not looked for: the training pictures are not there" in " ".join(capsys.readouterr().out.split())


def test_what_one_run_of_several_could_not_compare_is_told(
    run: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    (other / ".hydra" / "config.yaml").unlink()
    (other / "pictures.csv").unlink()
    evaluate(f"run=[{other},{run}]", "split=test", f"data.metadata={table}", f"out={tmp_path / 'both'}")
    found, obstacle = read_json(tmp_path / "both" / "metrics.json"), "the training pictures are not there"
    assert (found["num_leaked"], found["num_compared"], found["not_compared"]) == (0, 24, obstacle)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"copies in training 0, as far as could be seen: {obstacle} " in printed


def test_an_ensemble_of_a_run_with_itself_is_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"missing value in out: several runs have no folder in common"):
        evaluate(f"run=[{run},{run}]")
    evaluate(f"run=[{run},{run}]", f"out={tmp_path / 'both'}")
    assert "validated on" not in capsys.readouterr().out, "they are its validation pictures"
    found, trained = read_json(tmp_path / "both" / "metrics.json"), read_json(run / "metrics.json")
    assert found["valid_acc"] == trained["valid_acc"]
    assert found["valid_loss"] == pytest.approx(trained["valid_loss"], abs=1e-5)
    assert found["runs"] == [str(run), str(run)]


def test_another_fold_does_not_replace_the_run_s_own(run: Path, table: Path) -> None:
    header, *lines = table.read_text().replace(",test", ",valid").splitlines()
    folds = [f"{line},{number % 2}" for number, line in enumerate(lines)]
    table.write_text("\n".join([f"{header},fold", *folds]) + "\n")
    for fold, num in ((0, 5), (1, 4)):
        evaluate(f"run={run}", f"data.metadata={table}", f"data.fold={fold}")
        assert read_json(run / "evaluation" / f"photos_valid_fold{fold}" / "metrics.json")["num_valid"] == num


def test_augmentation_has_a_folder_of_its_own(run: Path) -> None:
    evaluate(f"run={run}", "tta=flips")
    with (run / "evaluation" / "valid_flips" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 9
    assert all(sum(float(row[f"probability_{name}"]) for name in ("horizontal", "none", "vertical")) == pytest.approx(
        1, abs=1e-5) for row in rows)  # fmt: skip


def test_a_place_that_cannot_be_used(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"unusable folder in .*file: File exists\nhint: .*out=<folder>"):
        evaluate(f"run={run}", f"out={tmp_path / 'file'}")


def test_a_picture_of_the_mistakes_is_drawn_and_removed(run: Path, table: Path) -> None:
    folder = run / "evaluation" / "photos_test"
    right = table.read_text()
    wrong = right.replace(",none,", ",_,").replace(",horizontal,", ",none,").replace(",_,", ",horizontal,")
    table.write_text(wrong)
    evaluate(f"run={run}", "split=test", f"data.metadata={table}")
    assert read_json(folder / "metrics.json")["test_acc"] < 1
    with Image.open(folder / "mistakes.png") as picture:
        assert picture.width > 600
    with (folder / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    table.write_text("\n".join(["path,label,split", *(f"{r['path']},{r['prediction']},test" for r in rows)]) + "\n")
    evaluate(f"run={run}", "split=test", f"data.metadata={table}")
    assert read_json(folder / "metrics.json")["test_acc"] == 1
    assert not (folder / "mistakes.png").exists()


def test_the_command_line(command: object, run: Path) -> None:
    ended = command("-m", "hybridnet.evaluate", f"run={run}", OWN, "splits=test")
    assert ended.returncode == 2
    assert "did you mean split?" in ended.stderr
    ended = command("-m", "hybridnet.evaluate", f"run={run}", OWN)
    assert ended.returncode == 0, ended.stderr
    assert "the same figures" in ended.stdout


def test_a_class_without_pictures_has_no_recall() -> None:
    of_class = {"precision": 0.5, "recall": None, "f1": 0.0, "support": 0.0}
    table = _class_table({"leaf": of_class, "root": dict.fromkeys(of_class) | {"support": 0.0}}, ["leaf", "root"])
    columns = [list(column.cells) for column in table.columns[1:]]
    assert columns == [["0.5000", "–"], ["–", "–"], ["0.0000", "–"], ["0", "0"]]
