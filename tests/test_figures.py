from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageFont

from hybridnet import drawing, figures, fonts


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def _has_colour(pixels: np.ndarray, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(pixels - wanted).sum(axis=2) < 12).any())


def _history(num_epochs: int) -> list[dict[str, float]]:
    names = ("train_loss", "train_acc", "valid_loss", "valid_acc", "lr", "head_lr")
    return [{"epoch": n} | dict.fromkeys(names, 0.1 * n / num_epochs) for n in range(1, num_epochs + 1)]


@pytest.mark.parametrize("num_epochs", [1, 3, 40])
def test_the_curves_show_training_and_validation(tmp_path: Path, num_epochs: int) -> None:
    path = tmp_path / "training_plot.png"
    drawing.write(figures.plot_history(_history(num_epochs), best_epoch=1, title="hybrid"), path)
    pixels = _pixels(path)
    assert pixels.shape[1] > pixels.shape[0]
    assert _has_colour(pixels, figures.TRAIN) and _has_colour(pixels, figures.VALID)


@pytest.mark.parametrize("accuracies", [(0.02, 0.98), (0.5, 0.3), (0.97, 0.99)])
def test_nothing_hides_the_only_epoch(accuracies: tuple[float, float]) -> None:
    train, valid = accuracies
    row = {"epoch": 1, "train_acc": train, "valid_acc": valid, "train_loss": 2.3, "valid_loss": 0.1}
    picture = figures.plot_history([row | {"lr": 1e-4, "head_lr": 1e-3}], best_epoch=1, title="hybrid")
    pixels = np.asarray(picture).astype(int)[picture.height // 10 :]  # below the legend
    loss, accuracy, rate = np.array_split(pixels, 3, axis=1)
    for panel, colours in ((loss, "TRAIN VALID"), (accuracy, "TRAIN VALID"), (rate, "RATE")):
        for name in colours.split():
            assert _has_colour(panel, getattr(figures, name)), name


@pytest.mark.parametrize("size", [0.004, 1.0, 60.0])
def test_no_label_stands_on_the_numbers_of_its_axis(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small losses and accuracies close to 1 have long numbers."""
    monkeypatch.setattr(figures, "drawn", lambda figure: figure)
    history = [row | {"train_loss": size * row["epoch"], "valid_loss": size} for row in _history(10)]
    history = [row | {"train_acc": 0.993 + 1e-4 * row["epoch"], "valid_acc": 0.994} for row in history]
    figure = figures.plot_history(history, best_epoch=1, title="hybrid")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            label = axis.label.get_window_extent(renderer)
            numbers = [number.get_window_extent(renderer) for number in axis.get_ticklabels() if number.get_text()]
            assert numbers and not any(label.overlaps(number) for number in numbers)
            assert all(figure.bbox.contains(*corner) for corner in label.corners())


@pytest.mark.parametrize("num_epochs", [10, 999, 2000, 20_000])
def test_the_numbers_of_epochs_keep_apart(num_epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "drawn", lambda figure: figure)
    figure = figures.plot_history(_history(num_epochs), best_epoch=1, title="hybrid")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    for axes in figure.axes:
        boxes = [number.get_window_extent(renderer) for number in axes.get_xticklabels() if number.get_text()]
        assert len(boxes) > 3 and all(box.x1 + 10 < after.x0 for box, after in pairwise(boxes))


def test_a_long_title_keeps_clear_of_the_legend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "drawn", lambda figure: figure)
    figure = figures.plot_history(_history(10), best_epoch=1, title="my_own_network_" * 5)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (title,), (legend,) = figure.texts, figure.legends
    assert not title.get_window_extent(renderer).overlaps(legend.get_window_extent(renderer))


@pytest.mark.parametrize("num_classes", [2, 12, 45, 100])
def test_a_confusion_matrix_of_any_size_is_drawn(tmp_path: Path, num_classes: int) -> None:
    path = tmp_path / "confusion_matrix.png"
    counts = np.eye(num_classes, dtype=int) * 9
    counts[0] = 0  # a class without pictures must not divide by zero
    names = [f"a class with a long name {i}" for i in range(num_classes)]
    drawing.write(figures.plot_confusion(counts, classes=names, title="hybrid: 90.00% of 99"), path)
    assert min(_pixels(path).shape[:2]) > 300


def _texts_of_confusion(classes: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found = []
    drawn = figures.drawn
    monkeypatch.setattr(figures, "drawn", lambda figure: found.append(figure) or drawn(figure))
    figures.plot_confusion(np.eye(len(classes), dtype=int), classes=classes, title="hybrid")
    return [text.get_text() for text in found[0].texts]


@pytest.mark.parametrize(("count", "is_smaller"), [(9, False), (12_345, False), (1_234_567, True)])
def test_counts_of_neighbours_keep_apart(count: int, is_smaller: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    font = ImageFont.truetype
    monkeypatch.setattr(figures.ImageFont, "truetype", lambda file, size: sizes.append(size) or font(file, size))
    classes = [str(number) for number in range(12)]
    figures.plot_confusion(np.full((12, 12), count), classes=classes, title="hybrid")
    cell = (1.6 + 0.4 * 12) / 12  # inches
    size = sizes[-1] * 72 / drawing.DPI
    assert fonts.width(str(count), size) < cell and (size < 10) is is_smaller


def test_long_names_that_begin_alike_stay_different(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = [f"photographs of leaves of rice that have {name}" for name in ("blast", "brown spot")]
    texts = _texts_of_confusion([*classes, "x" * 40], monkeypatch)
    for name in ("photographs of leave…ice that have blast", "photographs of leave…hat have brown spot", "x" * 40):
        assert texts.count(name) == 2, "on either axis"


@pytest.mark.parametrize(("num_classes", "every"), [(61, 10), (100, 10), (600, 20)])
def test_of_many_classes_some_indices_are_shown(num_classes: int, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = _texts_of_confusion([f"class {number}" for number in range(num_classes)], monkeypatch)
    assert [text for text in texts if text.isdigit()] == [
        str(number) for number in range(0, num_classes, every) for _ in ("label", "prediction")
    ]
    assert "Label (index of the class)" in texts and "Prediction (index of the class)" in texts


def test_few_classes_are_shown_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = _texts_of_confusion([f"class {number}" for number in range(60)], monkeypatch)
    assert texts.count("class 59") == 2 and "Label" in texts and "Prediction" in texts


@pytest.mark.parametrize(("num_images", "shape"), [(1, (40, 60)), (3, (60, 40)), (40, (64, 64))])
def test_samples_are_shown_in_their_colours(tmp_path: Path, num_images: int, shape: tuple[int, int]) -> None:
    path = tmp_path / "samples.png"
    images = np.zeros((num_images, *shape, 3), dtype=np.uint8)
    images[..., 0] = 200
    drawing.write(figures.plot_samples(images, labels=["x"] * num_images, title="batch"), path)
    assert _has_colour(_pixels(path), "#c80000")


def test_samples_are_shown_whole_in_their_order(tmp_path: Path) -> None:
    """Each in a place of its own, row by row, at least as large as it is, and the later ones left out."""
    path = tmp_path / "samples.png"
    images = np.zeros((40, 48, 48, 3), dtype=np.uint8)
    images[:, 4:, :, 1], images[:, :4, :, 1] = np.arange(40, 80)[:, None, None], 240 - np.arange(40)[:, None, None]
    drawing.write(figures.plot_samples(images, labels=["x"] * 40, title="batch", limit=11), path)
    pixels = _pixels(path)
    found = []
    for number in range(40):
        is_body = (pixels == (0, 40 + number, 0)).all(axis=2)
        is_top = (pixels == (0, 240 - number, 0)).all(axis=2)
        if is_body.any() and is_top.any():
            rows, columns = np.flatnonzero(is_body.any(axis=1)), np.flatnonzero(is_body.any(axis=0))
            assert np.flatnonzero(is_top.any(axis=1)).max() < rows.min()
            assert min(np.ptp(rows), np.ptp(columns)) > 150
            found.append((int(rows.min()), int(columns.min())))
    assert len(found) == 11
    assert found == sorted(found)
    assert len({top for top, _ in found}) == 2
    assert len({left for _, left in found}) == 8


WIDE, NARROW = "W" * 40, "illicit trillium lilli " * 3


@pytest.mark.parametrize("side", [48, 64, 224])
@pytest.mark.parametrize("name", [WIDE, NARROW, "Tungro virus disease, transmitted", "a" * 200])
def test_captions_of_neighbours_keep_apart(side: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(figures, "drawn", lambda figure: found.append(figure) or Image.new("RGB", (9, 9)))
    images = np.zeros((9, side, side, 3), dtype=np.uint8)
    figures.plot_samples(images, labels=[f"{name}\n✗ 97% {name}"] * 9, title="batch", lines=2)
    (figure,) = found
    figure.set_dpi(figures.DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    places = [text.get_window_extent(renderer) for text in figure.texts if "…" in text.get_text()]
    assert len(places) == 9
    assert not any(a.overlaps(b) for a, b in pairwise(places))
    assert all(figure.bbox.contains(*corner) for place in places for corner in place.corners())
    assert min(place.width for place in places) > 150, "the room is used"


def test_captions_that_begin_alike_stay_different(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(figures, "drawn", lambda figure: found.append(figure) or Image.new("RGB", (9, 9)))
    labels = [f"Rice leaf___Bacterial_leaf_{name}" for name in ("blight", "streak")]
    figures.plot_samples(np.zeros((2, 64, 64, 3), np.uint8), labels=labels, title="batch")
    first, second, _ = (text.get_text() for text in found[0].texts)
    assert first.startswith("Rice leaf") and first.endswith("blight") and second.endswith("streak")


@pytest.mark.parametrize("num_images", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "title", ["The most confident mistakes of valid: label, and below it the prediction", "x" * 200]
)
def test_the_title_of_few_pictures_is_whole(num_images: int, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(figures, "drawn", lambda figure: drawn.append(figure) or drawing.drawn(figure))
    images = np.zeros((num_images, 268, 268, 3), np.uint8)
    figures.plot_samples(images, labels=["a\nb"] * num_images, title=title, lines=2)
    *labels, heading = drawn[0].texts
    box = heading.get_window_extent()
    assert box.x0 > 0 and box.x1 < drawn[0].bbox.x1 and box.y1 < drawn[0].bbox.y1
    assert box.y0 > max(label.get_window_extent().y1 for label in labels)
    assert " " not in title or heading.get_text().split() == title.split()


@pytest.mark.parametrize("accuracies", [(0.55, 0.75), (0.0, 0.3), (1.0, 1.0), (0.9, 0.9)])
def test_no_accuracy_lies_on_the_axis_below(accuracies: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "drawn", lambda figure: figure)
    row = _history(1)[0] | dict(zip(("train_acc", "valid_acc"), accuracies, strict=True))
    bottom, top = figures.plot_history([row], best_epoch=1, title="x").axes[1].get_ylim()
    assert top == 1 and min(accuracies) - bottom >= 0.045 * (top - bottom)


def test_each_class_has_a_row_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "samples.png"
    red, blue = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    drawing.write(figures.plot_classes({"red": [red] * 9, "blue": [blue] * 2}, title="photos", columns=4), path)
    pixels = _pixels(path)
    is_red, is_blue = (np.abs(pixels - colour).sum(axis=2) < 12 for colour in ((200, 0, 0), (0, 0, 200)))
    assert np.flatnonzero(is_red.any(axis=1)).max() < np.flatnonzero(is_blue.any(axis=1)).min()
    assert is_red.sum() == pytest.approx(2 * is_blue.sum(), rel=0.1), "at most four of them are shown"


@pytest.mark.parametrize("name", ["$5 or $10", "$x^$", "葉", "a_b^c", "x" * 200, ""])
def test_any_name_can_be_written(name: str, tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    drawing.write(figures.plot_classes({name: [picture]}, title=name, columns=8), tmp_path / "a.png")
    drawing.write(figures.plot_samples(picture[None], labels=[name], title=name), tmp_path / "b.png")
    drawing.write(figures.plot_confusion(np.eye(2, dtype=int), classes=[name, "b"], title="hybrid"), tmp_path / "c.png")
    assert all(_pixels(path).size for path in tmp_path.iterdir())


def test_panels_show_points_and_bars_and_leave_out_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.png"
    speed = {"training": [(1.0, 1.0, 1.0), None], "inference": [(1.0, 1.0, 1.0), (0.9, 0.8, 1.1)]}
    panels = [
        figures.Panel("Speed", speed, is_bar=False),
        figures.Panel("Parameters", {"": [(11.2, 11.2, 11.2), None]}, is_bar=True),
    ]
    drawing.write(figures.plot_panels(["plain", "hybrid"], panels, title="cpu"), path)
    pixels = _pixels(path)
    assert pixels.shape[1] > pixels.shape[0]
    assert _has_colour(pixels, figures.TRAIN) and _has_colour(pixels, figures.VALID) and _has_colour(pixels, "#9FB8C8")


def test_reliability_is_drawn_with_empty_bins() -> None:
    diagram = figures.plot_reliability(
        counts=np.array([0, 3, 0, 9]),
        confidences=np.array([0, 0.4, 0, 0.9]),
        accuracies=np.array([0, 0.33, 0, 1.0]),
        title="valid: 83.33% of 12",
    )
    assert diagram.size == (1080, 1160)


@pytest.mark.parametrize("gain", [-0.5, 0.0, 0.5])
def test_the_legend_of_a_reliability_diagram_hides_nothing(gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "drawn", lambda figure: figure)
    confidences = (np.arange(10) + 0.5) / 10
    accuracies = (confidences + gain).clip(0, 1)
    figure = figures.plot_reliability(
        counts=np.full(10, 7), confidences=confidences, accuracies=accuracies, title="valid: 83.33% of 12"
    )
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    above = figure.axes[0]
    legend = above.get_legend().get_window_extent(renderer)
    (title,) = figure.texts
    assert not legend.overlaps(above.bbox) and not legend.overlaps(title.get_window_extent(renderer))
    assert all(figure.bbox.contains(*corner) for corner in legend.corners())
