"""The small maps of the page: they lie where they belong, in the colours that their scale tells."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from hybridnet.inference.explanation import Explanation, explain
from hybridnet.inference.maps import Attention, Cam, Gates, Grid
from hybridnet.inference.trained import Prediction, TrainedModel
from hybridnet.web import panels

BOX = (20, 10, 100, 50)  # 80×40 of 120×60 pixels
GRID = Grid(rows=np.array([15.0, 25.0, 35.0]), columns=np.array([30.0, 50.0, 70.0, 90.0]))
SCALE = 4.5  # of a map's picture


def pixels(url: str) -> np.ndarray:
    assert url.startswith("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return np.asarray(image.convert("RGB")).astype(int)


def place(row: int, column: int) -> tuple[int, int]:
    """Of a position of the maps, in a map's picture."""
    return int(SCALE * (GRID.rows[row] - 10)), int(SCALE * (GRID.columns[column] - 20))


def one_at(row: int, column: int) -> np.ndarray:
    values = np.zeros((3, 4), dtype=np.float32)
    values[row, column] = 1
    return values


@pytest.fixture
def explanation() -> Explanation:
    """Evidence at the lower left, gates raised at the upper right, a head that looks from there to the lower right."""
    product = np.full((3, 4), 0.9, dtype=np.float32)
    product[0, 3] = 1.2
    weights = np.stack([one_at(2, 3), np.full((3, 4), 1 / 12, dtype=np.float32)])
    return Explanation(
        picture=np.full((60, 120, 3), 128, np.uint8),
        box=BOX,
        prediction=Prediction("<leaf>", 0.75, {"<leaf>": 0.75, "root": 0.25}),
        true_label=None,
        cams=(Cam("<leaf>", "layer4", one_at(2, 0), GRID),),
        gates=Gates(product.mean(1), product.mean(0), product, 0.034, 1.0, GRID),
        attention=Attention("BoT", None, weights, (0, 3), GRID),
        missing=(),
    )


def test_titles_and_words(explanation: Explanation) -> None:
    found = panels.of_explanation(explanation)
    assert [panel.title for panel in found] == [
        "The picture", "Evidence for “<leaf>”", "Coordinate Attention", "BoT, head 1 of 2", "BoT, head 2 of 2",
    ]  # fmt: skip
    assert "within the frame" in found[0].text and found[0].scale is None
    assert found[1].text == "Grad-CAM at layer4"
    assert found[1].scale.words == ("none", "", "most")
    assert "by 3.4%" in found[2].text
    assert found[2].scale.words == ("×0.80", "×1.00", "×1.20")
    assert "0.00 to 12.00 times the mean weight" in found[3].text
    assert found[3].scale.words == found[4].scale.words == ("×0.00", "×6.00", "×12.00")  # no weight is negative


def test_maps_have_the_shape_of_what_the_model_sees(explanation: Explanation) -> None:
    photo, *maps = (pixels(panel.image) for panel in panels.of_explanation(explanation))
    assert photo.shape == (120, 240, 3)  # twice as large: it is small
    assert all(each.shape == (180, 360, 3) for each in maps)


def test_the_frame_is_around_what_the_model_sees(explanation: Explanation) -> None:
    photo = pixels(panels.of_picture(explanation.picture, BOX).image)
    is_marked = np.abs(photo - 128).max(axis=2) > 60
    rows, columns = np.nonzero(is_marked)
    assert (rows.min(), rows.max()) == pytest.approx((20, 99), abs=4)
    assert (columns.min(), columns.max()) == pytest.approx((40, 199), abs=4)
    assert not is_marked[40:80, 80:160].any()
    whole = panels.of_picture(explanation.picture, (0, 0, 120, 60))
    assert "all of it" in whole.text
    assert np.abs(pixels(whole.image) - 128).max() < 10


def test_evidence_is_bright_where_it_is(explanation: Explanation) -> None:
    image = pixels(panels.of_explanation(explanation)[1].image).sum(axis=2)
    brightest = np.unravel_index(image.argmax(), image.shape)
    row, column = place(2, 0)
    assert brightest[0] > row - 20 and brightest[1] < column + 20
    assert image[row, column] > 1.4 * image[place(0, 3)]


def test_gates_are_red_where_they_strengthen(explanation: Explanation) -> None:
    image = pixels(panels.of_explanation(explanation)[2].image)
    strengthened, weakened = image[place(0, 3)], image[place(2, 0)]
    assert strengthened[0] - strengthened[2] > 30
    assert weakened[2] - weakened[0] > 15


def test_heads_share_one_scale_and_mark_the_position_that_looks(explanation: Explanation) -> None:
    first, second = (pixels(panel.image) for panel in panels.of_explanation(explanation)[3:])
    assert first[place(2, 3)][0] - first[place(2, 3)][2] > 60  # orange
    assert np.ptp(second[place(2, 3)]) < 12  # the mean weight is grey
    row, column = place(0, 3)
    assert second[row - 1 : row + 2, column - 1 : column + 2].max() > 240


def test_a_cross_at_the_border_is_whole(explanation: Explanation) -> None:
    corner = Grid(rows=np.array([10.0, 30, 50]), columns=np.array([20.0, 50, 70, 90]))
    attention = explanation.attention._replace(query=(0, 0), grid=corner)
    image = pixels(panels.of_explanation(dataclasses.replace(explanation, attention=attention))[4].image)
    assert image[9, 3:15].max() > 230 and image[3:15, 9].max() > 230


def test_negative_weights_are_told(explanation: Explanation) -> None:
    weights = explanation.attention.weights.copy()
    weights[0, 0, 0] = -0.25
    attention = Attention("BoTLinear", "inline", weights, (0, 3), GRID)
    head = panels.of_explanation(dataclasses.replace(explanation, attention=attention))[3]
    assert "−3.00 to 12.00" in head.text
    assert head.scale.words[0] == "×−10.00"  # as far below the mean as the largest is above


def test_no_evidence_is_told(explanation: Explanation) -> None:
    cam = explanation.cams[0]._replace(values=np.zeros((3, 4), np.float32))
    panel = panels.of_explanation(dataclasses.replace(explanation, cams=(cam,)))[1]
    assert panel.text == "Grad-CAM at layer4: nothing there speaks for it"


def test_the_caveat_names_what_is_shown_and_missing(explanation: Explanation) -> None:
    text = panels.caveat(explanation)
    assert "speaks for “<leaf>”" in text and "3×4 points" in text
    assert "nor whether it is right" in text and "This model has no" not in text
    without = dataclasses.replace(explanation, missing=("Coordinate Attention",))
    assert panels.caveat(without).endswith("This model has no Coordinate Attention.")


@pytest.mark.parametrize("shape", [(1, 900, 3), (700, 2, 3), (1, 1, 3)])
def test_a_picture_of_any_shape(hybrid: TrainedModel, shape: tuple[int, ...]) -> None:
    found = panels.of_explanation(explain(hybrid, np.full(shape, 90, np.uint8), true_label=None))
    assert len(found) == 6
    assert all(max(pixels(panel.image).shape) <= 640 for panel in found)
