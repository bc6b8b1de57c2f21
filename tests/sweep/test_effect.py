from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from hybridnet.sweep.effect import effects, interactions
from hybridnet.sweep.figures import UNFAIR, figures
from hybridnet.sweep.study import Study, read_study
from tests.sweep.folders import SweepFolder


def _study(folder: Path, *rows: tuple[float | None, int, int, int]) -> Study:
    """Of jobs with a value, heads, reduction and seed."""
    sweep = SweepFolder(folder / "sweep")
    for value, heads, reduction, seed in rows:
        status = "failed" if value is None else "complete"
        sweep.add(value, f"model.heads={heads}", f"model.reduction={reduction}", f"seed={seed}", status=status)
    return read_study([sweep.folder])


FULL = [
    (0.80, 2, 16, 0),
    (0.82, 2, 16, 1),
    (0.70, 2, 32, 0),
    (0.72, 2, 32, 1),
    (0.90, 4, 16, 0),
    (0.92, 4, 16, 1),
    (0.71, 4, 32, 0),
    (0.73, 4, 32, 1),
]


def test_an_effect_is_a_mean_over_the_other_settings(tmp_path: Path) -> None:
    """Heads: (0.81 + 0.71) / 2 and (0.91 + 0.72) / 2. Seeds: std 0.0141, 4 degrees, t 2.776; margin 0.0278."""
    heads, reduction = effects(_study(tmp_path, *FULL))
    assert heads.means == pytest.approx({"2": 0.76, "4": 0.815})
    assert reduction.means == pytest.approx({"16": 0.86, "32": 0.715})
    assert heads.spreads == pytest.approx({"2": 0.0588784, "4": 0.1103026}, rel=1e-4)
    assert (heads.num_fair, heads.is_noise, reduction.is_noise) == (2, False, False)
    assert [outcome.value for outcome in heads.jobs["2"]] == [0.80, 0.82, 0.70, 0.72]


def test_the_noise_of_a_mean_shrinks_with_its_jobs(tmp_path: Path) -> None:
    """0.033 apart; by chance 2.776 · 0.01414 · sqrt(1/4 + 1/4) = 0.0278, for each mean is over four jobs."""
    means = {(2, 16): 0.80, (4, 16): 0.833, (2, 32): 0.70, (4, 32): 0.733}
    jobs = [(mean + offset, *place, seed) for place, mean in means.items() for seed, offset in enumerate((-0.01, 0.01))]
    heads, _ = effects(_study(tmp_path, *jobs))
    assert heads.is_noise is False


def test_a_small_effect_is_noise(tmp_path: Path) -> None:
    heads, _ = effects(
        _study(
            tmp_path,
            *(row for row in FULL if row[2] == 32),
            *[(0.1, h, 16, s) for h, _, _, s in ((2, 0, 0, 0), (4, 0, 0, 0))],
        )
    )
    assert heads.means == pytest.approx({"2": 0.405, "4": 0.41}) and heads.is_noise is True


@pytest.mark.parametrize(("best", "is_noise"), [(0.868, True), (0.87, False)])
def test_the_ends_of_several_values_are_further_apart_by_chance(tmp_path: Path, best: float, is_noise: bool) -> None:
    """Three pairs of values, three degrees: 4.8567 · 0.01414 = 0.0687; of two values it would be 0.045."""
    means = {2: 0.80, 4: best, 8: 0.83}
    jobs = [
        (mean + offset, heads, 16, seed) for heads, mean in means.items() for seed, offset in enumerate((-0.01, 0.01))
    ]
    (heads,) = effects(_study(tmp_path, *jobs))
    assert heads.is_noise is is_noise


def test_a_combination_without_all_values_does_not_tilt_the_means(tmp_path: Path) -> None:
    """Heads 4 with the worse reduction failed: only reduction 16 compares like with like."""
    heads, _ = effects(_study(tmp_path, *FULL[:6], (None, 4, 32, 0), (None, 4, 32, 1)))
    assert heads.means == pytest.approx({"2": 0.81, "4": 0.91})
    assert heads.num_fair == 1
    assert len(heads.jobs["2"]) == 4
    assert [outcome.value for outcome in heads.averaged["2"]] == [0.80, 0.82]
    assert heads.spreads == pytest.approx({"2": 0.0141421, "4": 0.0141421}, rel=1e-4), "of the jobs in the mean"


def test_without_any_common_combination_the_means_say_so(tmp_path: Path) -> None:
    heads, _ = effects(_study(tmp_path, (0.8, 2, 16, 0), (0.9, 2, 32, 0), (0.7, 4, 64, 0)))
    assert heads.means == pytest.approx({"2": 0.85, "4": 0.7})
    assert (heads.num_fair, heads.is_noise) == (0, None)


def test_an_axis_with_one_value_left_has_no_effect(tmp_path: Path) -> None:
    study = _study(tmp_path, (0.8, 2, 16, 0), (None, 4, 16, 0))
    assert len(study.axes) == 1 and effects(study) == [] and interactions(study) == []


def test_two_axes_have_a_mean_at_each_pair(tmp_path: Path) -> None:
    (pair,) = interactions(_study(tmp_path, *FULL[:7]))
    assert (pair.first.name, pair.second.name) == ("heads", "reduction")
    expected = {("2", "16"): 0.81, ("2", "32"): 0.71, ("4", "16"): 0.91, ("4", "32"): 0.71}
    assert pair.means == pytest.approx(expected)
    assert pair.is_fair


def test_three_axes_make_three_pairs_whose_other_settings_weigh_the_same(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for value, dropout, seeds in ((0.9, 0.1, (0, 1, 2)), (0.6, 0.2, (0,))):
        for heads in (2, 4):
            for size in ("lite", "full"):
                for seed in seeds:
                    sweep.add(
                        value, f"model.heads={heads}", f"model.size={size}", f"model.dropout={dropout}", f"seed={seed}"
                    )
    pairs = interactions(read_study([sweep.folder]))
    assert [(pair.first.name, pair.second.name) for pair in pairs] == [
        ("size", "heads"),
        ("size", "dropout"),
        ("heads", "dropout"),
    ]
    assert pairs[0].means == pytest.approx(dict.fromkeys(pairs[0].means, 0.75))
    assert all(pair.is_fair for pair in pairs)


def test_pairs_that_were_tried_with_different_other_settings_say_so(tmp_path: Path) -> None:
    """Heads 4 with size full looks better than it is: it was tried with the better dropout alone."""
    sweep = SweepFolder(tmp_path / "sweep")
    for heads, size, dropout in itertools.product((2, 4), ("lite", "full"), (0.1, 0.2)):
        status = "failed" if (heads, size, dropout) == (4, "full", 0.2) else "complete"
        value = None if status == "failed" else 1 - dropout
        sweep.add(value, f"model.heads={heads}", f"model.size={size}", f"model.dropout={dropout}", status=status)
    study = read_study([sweep.folder])
    fair = {(pair.first.name, pair.second.name): pair.is_fair for pair in interactions(study)}
    assert fair == {("size", "heads"): False, ("size", "dropout"): False, ("heads", "dropout"): False}
    captions = [figure.caption for figure in figures(study) if figure.section == "interactions"]
    assert len(captions) == 3 and all(text.endswith(UNFAIR) for text in captions)


def test_an_effect_is_found_within_the_folds(tmp_path: Path) -> None:
    """0.03 apart in each of folds that are 0.6 apart. Judged on other pictures, they have no verdict."""
    for name, pictures, has_same, is_noise in (("a", "x", True, False), ("b", "y", False, None)):
        sweep = SweepFolder(tmp_path / name)
        for heads, more in ((2, 0.0), (4, 0.03)):
            for fold, easy in enumerate((0.9, 0.6, 0.3)):
                digest = f"{'x' if heads == 2 else pictures}{fold}"
                value = easy + more + (heads == 4) * fold / 1000
                sweep.add(value, f"model.heads={heads}", f"data.fold={fold}", pictures=digest)
        study = read_study([sweep.folder])
        (effect,) = effects(study)
        assert (effect.has_same_pictures, effect.is_noise) == (has_same, is_noise)
        assert interactions(study) == []


def test_the_same_settings_on_other_pictures_are_other_combinations(tmp_path: Path) -> None:
    folders = []
    for number, value in enumerate((0.5, 0.9)):
        sweep = SweepFolder(tmp_path / f"{number}")
        for heads in (2, 4):
            sweep.add(value + heads / 100, f"model.heads={heads}", pictures=str(number))
        folders.append(sweep.folder)
    (effect,) = effects(read_study(folders))
    assert effect.num_fair == 2 and effect.means == pytest.approx({"2": 0.72, "4": 0.74})
    assert (effect.has_same_pictures, effect.is_noise) == (False, None)
