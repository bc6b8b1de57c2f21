from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hybridnet.comparison import wording
from tests.comparison.folders import compare, write_run, write_study
from tests.sweep.folders import SweepFolder


def test_numbers_for_people() -> None:
    assert wording.signed(0.01234) == "+0.0123" and wording.signed(-0.5) == "-0.5000"
    assert wording.signed(-0.00001) == wording.signed(0.0) == "0.0000"
    assert wording.interval(-0.1, 0.2) == "[-0.1000, +0.2000]"
    assert [wording.probability(p) for p in (1.0, 0.0344, 0.0009, None)] == ["1.000", "0.034", "< 0.001", ""]


def test_nothing_is_concluded_that_the_data_do_not_support(tmp_path: Path) -> None:
    comparison = compare(write_study(tmp_path, {"plain": 0.8, "ca": 0.8}))
    (pair,) = comparison.pairs
    said = [
        wording.verdict(comparison, replace(pair, is_same=same, p_holm=p, difference=difference))
        for same, p, difference in ((True, 1.0, 0.0), (False, 0.05, 0.1), (False, 0.04, 0.1), (False, 0.04, -0.1))
    ]
    assert said == [
        *("no difference: the same predictions (n = 3)", "no difference beyond chance (n = 3)"),
        *("better (n = 3)", "worse (n = 3)"),
    ]
    notes = list(wording.notes(comparison, table="t.csv", has_groups=False))
    assert (
        len(notes) == 2
        and "500 draws with replacement of pictures, the same for all groups, and of what other seeds" in notes[0]
    )
    assert "Beside it stand p of the pictures alone" in notes[1]


def test_one_run_of_each_is_said(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {"plain": 0.5, "ca": 0.9, "hybrid": 0.9}, seeds=1)
    comparison = compare(runs)
    assert wording.verdict(comparison, comparison.pairs[0]) == "better, of these two runs (n = 1)"
    text = "\n".join(wording.notes(comparison, table="t.csv", has_groups=False))
    assert "There is one run of every group" in text and "corrected for 2 comparisons (Holm)" in text
    assert "to several runs" not in text
    assert "McNemar, exact. Below 0.05" in text and "p of the runs alone" not in text
    assert wording.pictures(comparison, None) == "90 validation pictures, the same for all 3 runs"


def test_of_seeds_no_more_seeds_are_asked_for(tmp_path: Path) -> None:
    comparison = compare(write_study(tmp_path, {"plain": 0.5}))
    text = "\n".join(wording.notes(comparison, table="t.csv", has_groups=False))
    assert "The runs differ in their seed alone: " in text and "There is one run" not in text


def test_many_groups_with_one_run_are_counted(tmp_path: Path) -> None:
    runs = write_study(tmp_path, {f"m{number}": 0.5 for number in range(7)}, seeds=2)
    for left_out, said in (
        (5, "one run of m0 and of m1 and of m2 and of m3 and of m4: "),
        (6, "one run of 6 groups: "),
    ):
        comparison = compare([run for run in runs if run.name not in [f"m{number}1" for number in range(left_out)]])
        assert said in "\n".join(wording.notes(comparison, table="t.csv", has_groups=False))


def test_different_numbers_of_runs_are_said(tmp_path: Path) -> None:
    comparison = compare(write_study(tmp_path, {"plain": 0.8, "ca": 0.8})[:4])
    assert wording.numbers(comparison, comparison.pairs[0]) == "n = 1 and 3"
    text = "\n".join(wording.notes(comparison, table=None, has_groups=False))
    assert "There is one run of ca: " in text and "but for differences to several runs, in which it is taken" in text
    assert "Means are over 1 to 3 runs" in text
    assert "table is not here any more" in text
    first, second = comparison.pairs[0].only_first, comparison.pairs[0].only_second
    assert wording.only_one(comparison, comparison.pairs[0]).startswith(f"Only ca is right on {first} pictures, ")
    assert wording.only_one(comparison, comparison.pairs[0]).endswith(f"only plain on {second} (in most of the runs).")


def test_groups_of_pictures_and_folds_are_said(tmp_path: Path) -> None:
    runs = []
    for fold in (0, 1):
        for model in ("plain", "ca"):
            names = [f"{fold}/{number}" for number in range(4)]
            runs.append(write_run(tmp_path / f"{model}{fold}", [0] * 4, [0] * 4, model=model, fold=fold, paths=names))
    comparison = compare(runs, {"0/1": "a", "0/2": "a"})
    assert wording.numbers(comparison, comparison.pairs[0]) == "n = 2 in 2 folds"
    assert wording.pictures(comparison, "test") == "8 test pictures in 2 folds, 4 runs"
    text = "\n".join(wording.notes(comparison, table="t", has_groups=True))
    assert (
        "they are 7 groups" in text
        and "groups of pictures, the same for all groups, and of what other folds would change." in text
    )


@pytest.mark.parametrize("has_groups", [True, False])
def test_groups_of_one_picture_are_not_worth_a_word(tmp_path: Path, has_groups: bool) -> None:
    comparison = compare(write_study(tmp_path, {"plain": 0.8, "ca": 0.8}, seeds=1), {"0.png": "a"})
    notes = list(wording.notes(comparison, table="t", has_groups=has_groups))
    assert notes[0].startswith("Intervals hold")


def test_runs_that_were_pruned_are_said_to_be_the_worse_ones(tmp_path: Path) -> None:
    """A setting of which only the better seeds were trained to their end has too good a mean."""
    sweep = SweepFolder(tmp_path / "sweep")
    for seed, status in enumerate(("failed", "pruned", "pruned")):
        sweep.add(None, f"seed={seed}", status=status)
    failed, *pruned = sweep.jobs()
    assert wording.left_out([failed]) == "1 job of the sweep not complete: left out."
    said = "as others did better: a setting that lacks such a run looks better than it is."
    assert wording.left_out([failed, pruned[0]]) == (
        f"2 jobs of the sweep not complete: left out. 1 was pruned, {said}"
    )
    assert wording.left_out(pruned).endswith(f" 2 were pruned, {said}")
