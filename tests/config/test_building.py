from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybridnet import config
from hybridnet.errors import InputError


def test_build_refuses_targets_elsewhere_even_when_nested() -> None:
    with pytest.raises(InputError, match=r"target not allowed in trainer\.monitor\._target_"):
        config.build({"trainer": {"monitor": {"_target_": "os.system", "command": "touch x"}}})


def test_extra_targets_widen_what_is_allowed() -> None:
    cfg = config.compose("train")
    cfg.scheduler = {"_target_": "math.sqrt"}
    assert "scheduler._target_" in config.find_faults(cfg)
    cfg.extra_targets = ["math."]
    assert "scheduler._target_" not in config.find_faults(cfg)


def test_a_knob_that_nothing_uses_any_longer_is_no_fault_unless_it_was_set() -> None:
    """`device=cpu` takes the place of `${trainer.device}`: nobody typed trainer.device."""
    defaults = config.compose("predict")
    for overrides in (["device=cpu"], ["batch_size=8"], ["trainer.device=cpu", "data.batch_size=8"]):
        assert config.find_faults(config.compose("predict", overrides), defaults=defaults) == {}
    both = config.compose("predict", ["device=cpu", "trainer.device=cuda"])
    assert list(config.find_faults(both, defaults=defaults)) == ["trainer.device"]


def test_build_raises_what_the_target_raised() -> None:
    node = {"_target_": "hybridnet.model.bot.SelfAttention", "channels": 30, "heads": 4, "reference_size": [7, 7]}
    with pytest.raises(ValueError, match=r"channels \(30\) must be divisible by heads \(4\)"):
        config.build(node)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"_target_": "os.mkdir", "path": "made"}, r"target not allowed in out_features\._target_: 'os\.mkdir' is not"),
        ("${oc.create:{_target_: os.mkdir, path: made}}", "reference in a file in out_features: "),
    ],
)
def test_arguments_are_judged_as_the_file_is(
    value: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller may have them from the file, too."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        config.build_modules({"_target_": "torch.nn.Linear", "in_features": 2}, out_features=value)
    assert not Path("made").exists()
