"""The views of test-time augmentation; tests/inference/test_predictor.py averages them."""

from __future__ import annotations

from typing import get_args

import torch

from hybridnet.inference.tta import VIEWS, Tta


def test_every_choice_has_distinct_views_of_one_size_and_begins_with_the_picture() -> None:
    inputs = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    assert set(VIEWS) == set(get_args(Tta))
    for views in VIEWS.values():
        seen = [view(inputs) for view in views]
        assert torch.equal(seen[0], inputs)
        assert len({tuple(view.flatten().tolist()) for view in seen}) == len(views)
        assert all(view.shape == inputs.shape for view in seen)
