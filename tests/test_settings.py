from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from hybridnet.settings import (
    Count,
    Natural,
    Positive,
    Probability,
    Range,
    Rate,
    Seed,
    checked,
    fault,
    faults,
    parameters,
)

FITTING = [
    (int, 3),
    (int, np.int64(3)),
    (float, 3),
    (float, 1e-4),
    (float, float("inf")),
    (bool, True),
    (str, "a"),
    (int | None, None),
    (int | Literal["auto"], "auto"),
    (Count, 1),
    (Natural, 0),
    (Seed, 2**63 - 1),
    (Positive, 1e-9),
    (Positive, float("inf")),
    (Probability, 1),
    (Rate, 0),
    (tuple[int, int], [1, 2]),
    (tuple[float, ...], (1.0, 2.0, 3.0)),
    (list[int], []),
    (Count | tuple[Count, Count], [4, 5]),
    (Callable[[int], int], 3),
    (Any, object()),
]
NOT_FITTING = [
    (int, "ten", "expected an integer, got 'ten'"),
    (int, True, "expected an integer, got True"),
    (int, 2.0, "expected an integer, got 2.0"),
    (Seed, 2**63, "must be >= 0 and <= 9223372036854775807, got 9223372036854775808"),
    (float, "abc", "expected a number, got 'abc'"),
    (float, None, "expected a number, got null"),
    (float, float("nan"), "expected a number, got nan"),
    (float, False, "expected a number, got False"),
    (bool, 1, "expected true or false, got 1"),
    (str, 5, "expected text, got 5"),
    (int | None, "x", "expected an integer or null, got 'x'"),
    (int | Literal["auto"], "fast", "expected an integer or auto, got 'fast'"),
    (Literal["lite", "full"], "big", "expected lite or full, got 'big'"),
    (Literal[1], True, "expected 1, got True"),
    (Count, 0, "must be >= 1, got 0"),
    (Positive, 0, "must be > 0, got 0"),
    (Rate, 1.0, "must be >= 0 and < 1, got 1.0"),
    (Rate, -0.1, "must be >= 0 and < 1, got -0.1"),
    (Probability, 1.01, "must be >= 0 and <= 1, got 1.01"),
    (tuple[int, int], [1], "expected [an integer, an integer], got 1 values"),
    (tuple[int, int], 7, "expected [an integer, an integer], got 7"),
    (list[int], "ab", "expected a list of an integer, got 'ab'"),
    (list[Count], [3, 0], "must be >= 1, got 0"),
    (Count | None, 0, "expected an integer >= 1 or null, got 0"),
]


@pytest.mark.parametrize(("annotation", "value"), FITTING)
def test_a_fitting_value_has_no_fault(annotation: Any, value: Any) -> None:
    assert fault(annotation, value) == ""


@pytest.mark.parametrize(("annotation", "value", "expected"), NOT_FITTING)
def test_a_wrong_value_is_explained(annotation: Any, value: Any, expected: str) -> None:
    assert fault(annotation, value) == expected


class _Layer:
    @checked
    def __init__(self, channels: Count, *, rate: Rate, name: str = "x") -> None:
        self.channels = channels


def test_checked_passes_good_arguments_on() -> None:
    assert _Layer(3, rate=0.5).channels == 3


def test_checked_names_every_wrong_argument() -> None:
    with pytest.raises(ValueError, match=r"channels: must be >= 1, got 0; rate: expected a number, got 'a'"):
        _Layer(0, rate="a")


def test_parameters_are_those_of_the_constructor_with_their_annotations() -> None:
    found = parameters(_Layer)
    assert list(found) == ["channels", "rate", "name"]
    assert found["channels"].annotation == Annotated[int, Range(minimum=1)]
    assert found["rate"].kind is found["rate"].KEYWORD_ONLY


def test_faults_ignores_names_that_are_no_parameters() -> None:
    assert faults(_Layer, {"channels": -1, "other": "?"}) == {"channels": "must be >= 1, got -1"}
