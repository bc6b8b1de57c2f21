from __future__ import annotations

from hybridnet.monitor import direction


def test_a_loss_is_better_when_it_is_lower() -> None:
    assert (direction("valid_loss"), direction("valid_acc"), direction("valid_macro_f1")) == (-1, 1, 1)
