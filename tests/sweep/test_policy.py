from __future__ import annotations

import pytest

from hybridnet.sweep.policy import Policy


def test_what_to_do_on_an_error_is_one_of_two() -> None:
    assert Policy(on_error="stop", try_models=True, keep_states=True, num_threads=None).on_error == "stop"
    with pytest.raises(ValueError, match="on_error: expected continue or stop, got 'ask'"):
        Policy(on_error="ask", try_models=True, keep_states=True, num_threads=1)
