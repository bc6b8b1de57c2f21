from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hybridnet import config
from hybridnet import parts as module
from hybridnet.config import DictConfig
from hybridnet.data.metadata import MetadataImages
from hybridnet.data.progress import silently
from hybridnet.errors import InputError
from hybridnet.files import write_json
from hybridnet.logger.trackers import NO_TRACKERS
from hybridnet.parts import build_parts, build_trackers, read_data, read_same_data, recipe, seen_by_backbone

SETTINGS = [
    *("model=plain", "data=digits", "data.image_size=64", "data.train_limit=20", "data.valid_limit=10"),
    *("data.batch_size=8", "trainer.epochs=2", "trainer.device=cpu", "trainer.precision=float32"),
]


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., DictConfig]:
    folder = tmp_path_factory.mktemp("digits")
    files = [f"data.metadata={folder / 'metadata.csv'}", f"data.label2id={folder / 'label2id.json'}"]
    return lambda *overrides: config.compose("train", [*SETTINGS, *files, *overrides])


def _seen(folder: Path, weights: str | None, *own: str, valid: list[str], is_new: bool) -> frozenset[str]:
    cfg = config.compose("train", [*SETTINGS, f"model.backbone.weights={weights or 'null'}", *own])
    data: Any = SimpleNamespace(digests=lambda: {"train": ["d"], "valid": valid})
    return seen_by_backbone(cfg, data, folder, is_new=is_new)


def test_what_trains_fits_together(compose: Callable[..., DictConfig]) -> None:
    cfg = compose()
    trainer = config.build(cfg.trainer)
    data = read_data(cfg, trainer, track=silently, edition=None)
    parts = build_parts(cfg, trainer, data, is_new=True)
    assert data.steps_per_epoch == 3
    assert parts.described("plain") == (
        f"plain: {sum(p.numel() for p in parts.model.parameters()):,} parameters, 10 classes, "
        "20 training and 10 validation pictures of 64×64, cpu in float32"
    )
    of_optimizer = {parameter for group in parts.optimizer.param_groups for parameter in group["params"]}
    assert of_optimizer == set(parts.model.parameters())
    assert parts.scheduler.optimizer is parts.optimizer
    assert recipe(cfg, data) == {
        "format": 1,
        "model_config": config.plain(cfg.model),
        "num_classes": 10,
        "label2id": {str(digit): digit for digit in range(10)},
        "preprocessing": data.preprocessing(),
    }


def test_the_gpu_is_taken_and_its_memory_given_back_before_the_data_ask_for_it(
    compose: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(module, "make_current", lambda device: calls.append(f"take {device}"))
    monkeypatch.setattr(module, "release_memory", lambda device: calls.append(f"give back what {device} has"))
    monkeypatch.setattr(MetadataImages, "setup", lambda self, *, device, **_: calls.append(f"data on {device}"))
    cfg = compose()
    read_data(cfg, config.build(cfg.trainer), track=silently, edition=None)
    assert calls == ["take cpu", "give back what cpu has", "data on cpu"]


def test_data_are_those_that_the_run_began_with(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    def read(cfg: DictConfig, checkpoint: dict[str, Any] | None) -> dict[str, str]:
        trainer = config.build(cfg.trainer)
        return read_same_data(cfg, trainer, tmp_path, checkpoint=checkpoint, track=silently).fingerprint()

    checkpoint = {"data": read(compose(), None)}
    assert read(compose(), checkpoint) == checkpoint["data"]
    fewer = "data.valid_limit=8"
    with pytest.raises(InputError, match=r"(?s)the validation pictures, .* resume_allow=\[data\]"):
        read(compose(fewer), checkpoint)
    assert read(compose(fewer, "resume_allow=[data]"), checkpoint) != checkpoint["data"]


def test_initial_weights_are_the_seed_s(compose: Callable[..., DictConfig]) -> None:
    states = []
    for seed in (1, 1, 2):
        cfg = compose(f"seed={seed}")
        trainer = config.build(cfg.trainer)
        data = read_data(cfg, trainer, track=silently, edition=None)
        states.append(next(build_parts(cfg, trainer, data, is_new=True).model.parameters()).detach())
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_a_job_s_trackers_are_told_its_sweep_and_a_verification_has_none(tmp_path: Path) -> None:
    own = ["extra_targets=[own_parts.]", "+logger.notes._target_=own_parts.Notes", "+logger.notes.broken=null"]
    cfg = config.compose("train", own)
    (tmp_path / "job").mkdir()
    assert build_trackers(cfg, tmp_path / "job", {"seed": 1}).group is None
    write_json(tmp_path / "job" / "job.json", {})
    of_job = build_trackers(cfg, tmp_path / "job", {"seed": 1})
    assert of_job.group == tmp_path.name and of_job.settings == {"seed": 1}
    cfg.verify_resume = True
    assert build_trackers(cfg, tmp_path / "job", {}) is NO_TRACKERS


def test_what_the_backbone_has_seen_is_found_once(tmp_path: Path) -> None:
    """A run that goes on has noted it: the run of the first weights may be gone."""
    before, run = tmp_path / "before", tmp_path / "run"
    for folder, noted in ((before, "train,a\nvalid,b\nbackbone,c\n"), (run, "train,d\nbackbone,e\n")):
        folder.mkdir()
        (folder / "pictures.csv").write_text(f"split,digest\n{noted}")
    assert _seen(run, str(before), valid=["b"], is_new=True) == {"a", "c"}
    assert _seen(run, None, valid=["b"], is_new=True) == frozenset()
    assert _seen(run, str(tmp_path / "gone"), valid=["a"], is_new=False) == {"e"}
    assert _seen(tmp_path / "gone", None, valid=["a"], is_new=False) == frozenset()
    for own in ([], ["~data.on_leak"]):  # somebody's own data may have no such setting
        with pytest.raises(InputError, match="the backbone was trained with 1 of the 2 validation pictures"):
            _seen(run, str(before), *own, valid=["a", "b"], is_new=True)
