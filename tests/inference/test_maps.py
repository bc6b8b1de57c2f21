from __future__ import annotations

import numpy as np
import pytest

from hybridnet.inference.maps import Geometry, Grid


def test_a_map_is_linear_between_the_centres_and_constant_beyond_them() -> None:
    grid = Grid(rows=np.array([12.0, 16.0]), columns=np.array([1.0, 3.0, 5.0]))
    values = np.array([[0.0, 2.0, 8.0], [4.0, 6.0, 12.0]])
    spread = grid.spread(values, (0, 10, 6, 20), size=(5, 6))  # rows at 11, 13 … 19, columns at 0.5, 1.5 … 5.5
    first = np.array([0, 0.5, 1.5, 3.5, 6.5, 8])
    np.testing.assert_allclose(spread, [first, first + 1, first + 3, first + 4, first + 4])


def test_a_map_of_one_position_is_the_same_everywhere() -> None:
    grid = Grid(rows=np.array([3.0]), columns=np.array([7.0]))
    np.testing.assert_array_equal(grid.spread(np.array([[2.5]]), (0, 0, 9, 9), size=(3, 4)), np.full((3, 4), 2.5))


@pytest.mark.parametrize(
    ("stride", "rows", "columns"),
    [
        (32, [101, 165], [20.5, 52.5, 84.5]),  # pixel 0, 32 … of the input, whose centres are 0.5, 32.5 …
        (None, [132, 196], [36, 68, 100]),  # tiles of 32 pixels
    ],
)
def test_positions_lie_at_their_strides_or_in_the_middle_of_their_tiles(
    stride: int | None, rows: list[float], columns: list[float]
) -> None:
    geometry = Geometry(lambda stage: stride if stage == 4 else 1, (64, 96), (20, 100, 116, 228))
    grid = geometry.grid(4, (2, 3))  # the box is twice as high as the input, and as wide
    np.testing.assert_allclose(grid.rows, rows)
    np.testing.assert_allclose(grid.columns, columns)
