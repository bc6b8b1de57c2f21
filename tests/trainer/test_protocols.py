from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import outcome
from tests.own_parts import promised


def test_somebody_s_own_data_need_nothing_but_the_contract(
    run: Callable[..., tuple[int, str, str]], tiny: list[str], reference: Path, tmp_path: Path
) -> None:
    assert {"setup", "fingerprint", "steps_per_epoch", "train_batches", "left_out"} < promised()
    own = ["data=promised" if word == "data=metadata" else word for word in tiny]
    code, _, error = run(*own, "hydra.run.dir=run")
    assert code == 0, error
    assert outcome(tmp_path / "run") == outcome(reference)
