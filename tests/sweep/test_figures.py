from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hybridnet.drawing import TRAIN, VALID
from hybridnet.sweep.effect import effects
from hybridnet.sweep.figures import _limit, caption, figures, plot_effect
from hybridnet.sweep.study import Study, read_study
from tests.sweep.folders import SweepFolder

NARROW = 4.6 * 200  # pixels: inches at the DPI of figures


def _study(folder: Path, *, monitor: str = "valid_acc", num_seeds: int = 2) -> Study:
    """Two heads times two sizes, and jobs that were pruned, failed or not begun."""
    sweep = SweepFolder(folder / "sweep", monitor=monitor)
    for heads in (2, 4):
        for size in ("lite", "full"):
            for seed in range(num_seeds):
                value = 0.9 + heads / 100 + seed / 1000
                swept = [f"model.heads={heads}", f"model.size={size}", f"seed={seed}"]
                sweep.add(value, *swept, train_seconds=10.0 + heads + seed, num_parameters=heads * 1e6)
    sweep.add(0.3, "model.heads=8", "model.size=lite", "seed=0", status="pruned")
    sweep.add(None, "model.heads=8", "model.size=lite", "seed=1", status="failed", curve=[0.2, float("nan")])
    sweep.add(None, "model.heads=8", "model.size=lite", "seed=2", status="pending")
    return read_study([sweep.folder])


def _drawn(study: Study, folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for figure in figures(study):
        figure.draw(folder / figure.name)
        with Image.open(folder / figure.name) as image:
            found[figure.name] = np.asarray(image.convert("RGB")).astype(int)
    return found


def _has_colour(pixels: np.ndarray, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(pixels - wanted).sum(axis=2) < 12).any())


def test_there_is_a_figure_of_everything(tmp_path: Path) -> None:
    drawn = _drawn(_study(tmp_path), tmp_path)
    names = [
        "effect_0.png",
        "effect_1.png",
        "interaction_0.png",
        "curves.png",
        "train_seconds.png",
        "num_parameters.png",
    ]
    assert list(drawn) == names
    assert all(pixels.shape[1] <= NARROW for pixels in drawn.values()), "legible on a phone"
    for name in ("effect_0.png", "effect_1.png", "curves.png", "train_seconds.png"):
        assert _has_colour(drawn[name], VALID), name


@pytest.mark.parametrize("monitor", ["valid_acc", "valid_loss"])
def test_the_best_mean_of_two_settings_is_the_darkest(tmp_path: Path, monitor: str) -> None:
    pixels = _drawn(_study(tmp_path, monitor=monitor), tmp_path)["interaction_0.png"]
    height, width, _ = pixels.shape
    left, right = (pixels[round(height * 0.15), round(width * part)].sum() for part in (0.25, 0.7))
    assert (left < right) == (monitor == "valid_loss"), "two heads stand left of four"
    assert left != right


def test_captions_say_what_is_to_be_seen(tmp_path: Path) -> None:
    study = _study(tmp_path)
    texts = {figure.name: figure.caption for figure in figures(study)}
    over = ", over the 2 combinations of the other settings that were tried with every value"
    noise = "The difference is within the seeds' noise."
    assert (
        texts["effect_1.png"]
        == f"heads: on average 0.9405 at 4, 0.9205 at 2{over}. This is more than the seeds' noise."
    )
    assert texts["effect_0.png"] == f"size: on average 0.9305 at lite, 0.9305 at full{over}. {noise}"
    assert texts["curves.png"] == "valid_acc after each epoch, of every job; job 5, the best one, is in front."


def test_captions_are_honest_where_nothing_can_be_told(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.add(0.8, "model.heads=2", "model.size=lite")
    sweep.add(0.9, "model.heads=4", "model.size=full")
    study = read_study([sweep.folder])
    text = caption(study, effects(study)[0])
    assert text.endswith("tried with all of its values, so these means differ in more than size.")


def test_jobs_that_are_not_in_the_mean_are_told_from_those_that_are(tmp_path: Path) -> None:
    """Heads 4 with the worse size failed: the mean at 2 is 0.8, and not amid the points."""
    sweep = SweepFolder(tmp_path / "sweep")
    for value, heads, size in ((0.8, 2, "lite"), (0.2, 2, "full"), (0.9, 4, "lite"), (None, 4, "full")):
        status = "failed" if value is None else "complete"
        sweep.add(value, f"model.heads={heads}", f"model.size={size}", status=status)
    study = read_study([sweep.folder])
    _, heads = effects(study)
    over = ", over the one combination of the other settings that was tried with every value"
    assert caption(study, heads) == f"heads: on average 0.9000 at 4, 0.8000 at 2{over}."
    wanted = np.array([int(TRAIN[i : i + 2], 16) for i in (1, 3, 5)]) * 0.5 + 255 * 0.5
    filled = []
    for effect in (heads, heads._replace(averaged=heads.jobs)):
        plot_effect(tmp_path / "effect.png", study, effect)
        above_legend = np.asarray(Image.open(tmp_path / "effect.png").convert("RGB"), float)[:550]
        filled.append((np.abs(above_legend - wanted).sum(axis=2) < 12).sum())
    assert filled[0] < 0.85 * filled[1], "one of three is hollow"


def test_a_range_of_numbers_is_drawn_by_its_logarithm(tmp_path: Path) -> None:
    """The logarithm's places are even: so are the points'."""
    sweep = SweepFolder(tmp_path / "sweep")
    for number in range(9):
        sweep.add(0.8 + number / 100, f"optimizer.head_lr={1e-6 * 10 ** (number / 2):.12g}")
    sweep.add(0.8)  # with a value that is not known
    study = read_study([sweep.folder])
    pixels = _drawn(study, tmp_path)["effect_0.png"]
    wanted = np.array([int(TRAIN[i : i + 2], 16) for i in (1, 3, 5)]) * 0.55 + 255 * 0.45
    columns = np.flatnonzero((np.abs(pixels - wanted).sum(axis=2) < 12).sum(axis=0) > 3)
    starts = columns[np.diff(columns, prepend=-9) > 5]
    assert len(starts) == 8, "and the best one, a star"
    assert np.ptp(np.diff(starts)) <= 4
    assert figures(study)[0].caption == "head_lr: every job by its value, from 1e-06 to 0.01."


def test_of_very_many_values_the_best_are_drawn(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for number in range(20):
        sweep.add(0.8 + number / 100, f"data.root={number}a")
    (effect,) = effects(read_study([sweep.folder]))
    assert "(shown are the best 16 of 20 values)" in caption(read_study([sweep.folder]), effect)


def test_long_names_and_strange_characters_are_drawn(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for number in range(12):
        sweep.add(0.8, f"data.root=/a/very/long/path/with/$money_and^more/{number}", "+data.x=y" * (number % 2))
    assert all(pixels.shape[1] <= NARROW for pixels in _drawn(read_study([sweep.folder]), tmp_path).values())


@pytest.mark.parametrize("status", ["failed", "pending", "complete"])
def test_little_is_enough(tmp_path: Path, status: str) -> None:
    """One job, no axis; perhaps with a single epoch, a loss that exploded, or none at all."""
    sweep = SweepFolder(tmp_path / "sweep", monitor="valid_loss")
    assert figures(read_study([sweep.folder])) == []
    sweep.add(0.5 if status == "complete" else None, status=status, curve=None if status == "pending" else [1e9])
    assert list(_drawn(read_study([sweep.folder]), tmp_path)) == ([] if status == "pending" else ["curves.png"])


@pytest.mark.parametrize(
    ("digest", "said"),
    [
        ("x", ". This is more than the folds' noise."),
        ("y", ". They were measured on other pictures, and are not to be compared."),
    ],
)
def test_captions_of_folds(tmp_path: Path, digest: str, said: str) -> None:
    sweep = SweepFolder(tmp_path / "sweep")
    for heads in (2, 4):
        for fold in (0, 1, 2):
            own = f"{digest if heads == 4 else 'x'}{fold}"
            value = 0.3 + fold / 5 + heads / 100 + heads * fold / 10000
            sweep.add(value, f"model.heads={heads}", f"data.fold={fold}", pictures=own)
    study = read_study([sweep.folder])
    (effect,) = effects(study)
    assert caption(study, effect) == f"heads: on average 0.5404 at 4, 0.5202 at 2{said}"
    assert [figure.name for figure in figures(study)] == ["effect_0.png", "curves.png"]


def test_a_loss_that_exploded_leaves_the_others_all_the_room(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep", monitor="valid_loss")
    for number, curve in enumerate(([0.8, 0.5, 0.2], [0.9, 0.5, 0.3], [1e6, 0.6, 0.4])):
        sweep.add(curve[-1], f"seed={number}", curve=curve)
    axes = Figure().add_subplot()
    axes.plot([1, 2, 3], [1e6, 0.6, 0.4])
    _limit(axes, read_study([sweep.folder]))
    assert axes.get_ylim() == pytest.approx((0.11, 2.0))
