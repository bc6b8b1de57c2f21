"""The scenarios of the guide: conf/experiment/."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridnet import config

Run = Callable[..., "subprocess.CompletedProcess[str]"]
FOLDER = Path(__file__).parents[2] / "conf" / "experiment"
SCENARIOS = ["fine_tune", "custom", "quick", "scratch", "optimal", "cpu"]

EXPECTED = {
    "fine_tune": {"model.pretrained": True, "trainer.epochs": 10, "data.batch_size": 32},
    "custom": {
        "trainer.epochs": 20,
        "data.batch_size": 16,
        "data.image_size": 224,
        "optimizer.base_lr": 5e-5,
        "optimizer.head_lr": 5e-4,
        "optimizer.weight_decay": 1e-2,
        "model.heads": 4,
        "model.reduction": 32,
        "model.dropout": 0.2,
        "trainer.patience": 7,
        "data.num_workers": 8,
        "data.pin_memory": True,
        "trainer.plot": True,
    },
    "quick": {"trainer.epochs": 3, "data.batch_size": 16, "data.train_limit": 500, "data.valid_limit": 200},
    "scratch": {"trainer.epochs": 30, "optimizer.base_lr": 1e-3, "optimizer.head_lr": 1e-3},
    "optimal": {
        "model.pretrained": True,
        "trainer.epochs": 15,
        "optimizer.base_lr": 5e-5,
        "optimizer.head_lr": 5e-4,
        "model.heads": 4,
        "model.reduction": 32,
        "model.dropout": 0.15,
        "trainer.patience": 7,
    },
    "cpu": {"trainer.device": "cpu", "data.batch_size": 8, "trainer.epochs": 5},
}


def test_every_file_is_tested() -> None:
    """But for those that somebody has promoted from a sweep."""
    ours = [path.stem for path in FOLDER.glob("*.yaml") if "Scenario" in path.read_text(encoding="utf-8")]
    assert sorted(ours) == sorted(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_settings_are_the_guides(scenario: str) -> None:
    cfg = config.compose("train", [f"experiment={scenario}", "data=metadata"])
    assert {key: config.select(cfg, key) for key in EXPECTED[scenario]} == EXPECTED[scenario]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_header_has_command_hardware_time_and_result(scenario: str) -> None:
    header = (FOLDER / f"{scenario}.yaml").read_text(encoding="utf-8")
    assert re.search(rf"^# Command:  python train\.py experiment={scenario} data=metadata", header, re.MULTILINE)
    for name in ("Hardware", "Time", "Result"):
        assert re.search(rf"^# {name}: +\w", header, re.MULTILINE), name


@pytest.mark.parametrize("scenario", ["fine_tune", "custom", "quick", "scratch", "optimal", "cpu"])
def test_the_guides_scenarios_run(command: Run, stripes: Path, scenario: str) -> None:
    """With limits and, where they need ImageNet weights, without them: there is no network in a test."""
    pair = [f"data.metadata={stripes / 'metadata.csv'}", f"data.label2id={stripes / 'label2id.json'}"]
    limits = [
        "trainer.epochs=1",
        "data.train_limit=6",
        "data.valid_limit=3",
        "data.image_size=64",
        "trainer.plot=false",
    ]
    workers = ["data.num_workers=1"] if scenario == "custom" else []
    result = command(
        "train.py",
        f"experiment={scenario}",
        "data=metadata",
        *pair,
        *limits,
        *workers,
        "trainer.plot=false",
        "model.pretrained=false",
        "trainer.device=cpu",
    )
    assert result.returncode == 0, result.stderr
    assert "validation accuracy" in result.stdout
