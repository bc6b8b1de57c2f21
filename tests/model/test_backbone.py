"""The interface of a backbone: what one of the user's own is told that lacks a part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hybridnet.model.backbone import Backbone


class Lacking(Backbone):
    channels = (4, 8)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("forward", lambda backbone: backbone(torch.zeros(1, 3, 8, 8))),
        ("insert_attention", lambda backbone: backbone.insert_attention(torch.nn.Identity)),
        ("first_stages", lambda backbone: backbone.first_stages(1)),
        ("pretrained_parameter_names", lambda backbone: backbone.pretrained_parameter_names()),
        ("load_initial_weights", lambda backbone: backbone.load_initial_weights()),
    ],
)
def test_a_method_that_is_missing_is_named(name: str, call: Callable[[Backbone], Any]) -> None:
    with pytest.raises(NotImplementedError, match=rf"^Lacking has no {name}\(\)$"):
        call(Lacking())


def test_a_stage_that_is_not_there_is_refused_with_those_that_are() -> None:
    Lacking().require_stage(2)
    for stage in (0, 3):
        with pytest.raises(ValueError, match=rf"stage \({stage}\) must lie between 1 and 2; set model\.stage=2"):
            Lacking().require_stage(stage)


def test_what_one_does_not_say_is_taken_for_the_usual() -> None:
    assert Lacking().stride(1) is None and Lacking().is_rectified(1)
