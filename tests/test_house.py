"""The rules that hold the project together: who may import whom, and conf/ ↔ hybridnet/ ↔ tests/."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hybridnet"

# What each part may import besides the standard library and itself. The longest matching name decides.
SHARED = {
    *("hybridnet.errors", "hybridnet.settings", "hybridnet.files", "hybridnet.memory"),
    *("hybridnet.monitor", "hybridnet.processor", "hybridnet.wording"),
}
MAY_IMPORT = {
    "hybridnet": {"hybridnet.api"},
    "hybridnet.advice": set(),
    "hybridnet.errors": set(),
    "hybridnet.settings": set(),
    "hybridnet.direct": set(),
    "hybridnet.memory": set(),
    "hybridnet.monitor": set(),
    "hybridnet.processor": {"torch"},
    "hybridnet.wording": set(),
    "hybridnet.transfer": {"torch"},
    "hybridnet.files": {"hybridnet.direct", "hybridnet.errors"},
    "hybridnet.packages": {"hybridnet.errors"},
    "hybridnet.binding": SHARED | {"torch", "hybridnet.packages"},
    "hybridnet.checkpoint": SHARED | {"torch", "hybridnet.transfer"},
    "hybridnet.console": {"rich"},
    "hybridnet.drawing": SHARED | {"matplotlib", "numpy", "PIL", "hybridnet.fonts"},
    "hybridnet.figures": SHARED | {"matplotlib", "numpy", "PIL", "hybridnet.drawing", "hybridnet.fonts"},
    "hybridnet.fonts": {"matplotlib", "PIL"},
    "hybridnet.model": SHARED | {"torch", "hybridnet.model", "hybridnet.checkpoint"},
    "hybridnet.model.backbone.timm": SHARED | {"torch", "timm", "safetensors", "hybridnet.model.backbone"},
    "hybridnet.model.backbone.timm_networks": SHARED | {"torch", "timm"},
    "hybridnet.optimizer": SHARED | {"torch", "hybridnet.optimizer"},
    "hybridnet.scheduler": SHARED | {"torch", "hybridnet.scheduler"},
    "hybridnet.trainer": SHARED | {"torch", "numpy", "hybridnet.trainer", "hybridnet.transfer"},
    "hybridnet.signals": {"hybridnet.errors"},
    "hybridnet.environment": {"torch", "hybridnet.__version__", "hybridnet.processor"},
    "hybridnet.data": SHARED | {"torch", "torchvision", "numpy", "pandas", "PIL", "sklearn", "hybridnet.data"},
    "hybridnet.config": SHARED
    | {"hydra", "hydra_plugins", "omegaconf", "yaml", "hybridnet.binding", "hybridnet.config"},
    "hybridnet.experiment": SHARED | {"torch", "hybridnet.config", "hybridnet.trainer.protocols.Data"},
    "hybridnet.__main__": set(),
    "hybridnet.api": SHARED
    | {"torch", "hybridnet.config", "hybridnet.experiment"}
    | {"hybridnet.inference.trained.TrainedModel", "hybridnet.inference.trained.load_trained"},
    "hybridnet.inference": SHARED
    | {"torch", "numpy", "PIL", "hybridnet.checkpoint", "hybridnet.config", "hybridnet.data", "hybridnet.inference"}
    | {"hybridnet.trainer"},
    "hybridnet.inference.calibration": {"torch", "scipy"},
    "hybridnet.inference.judgement": SHARED
    | {"numpy", "hybridnet.data", "hybridnet.drawing", "hybridnet.figures", "hybridnet.inference"}
    | {"hybridnet.results", "hybridnet.trainer"},
    "hybridnet.inference.explanation": SHARED
    | {"torch", "numpy", "PIL", "hybridnet.data", "hybridnet.inference", "hybridnet.model"},
    "hybridnet.inference.explanation_figure": SHARED
    | {"matplotlib", "numpy", "PIL", "hybridnet.drawing", "hybridnet.inference"},
    "hybridnet.inference.sheet": {"matplotlib"},
    "hybridnet.web": SHARED,
    "hybridnet.web.answer": SHARED | {"numpy", "hybridnet.data", "hybridnet.inference", "hybridnet.web"},
    "hybridnet.web.app": SHARED | {"starlette"},
    "hybridnet.web.panels": {"matplotlib", "numpy", "PIL", "hybridnet.inference"},
    "hybridnet.web.server": SHARED | {"starlette", "uvicorn"},
    "hybridnet.inference.formats": SHARED
    | {"torch", "numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "hybridnet.__version__"}
    | {"hybridnet.config", "hybridnet.data", "hybridnet.inference", "hybridnet.measure.rounds", "hybridnet.packages"},
    "hybridnet.pruner": SHARED | {"hybridnet.pruner"},
    "hybridnet.logger": SHARED
    | {"mlflow", "tensorboard", "torch.utils.tensorboard", "wandb", "hybridnet.logger", "hybridnet.packages"},
    "hybridnet.sweep": SHARED | {"hybridnet.sweep"},
    "hybridnet.sweep.alone": SHARED | {"hybridnet.config", "hybridnet.resume", "hybridnet.sweep"},
    "hybridnet.sweep.job": SHARED | {"torch", "hybridnet.console", "hybridnet.sweep"},
    "hybridnet.sweep.launcher": SHARED | {"hydra", "hybridnet.config", "hybridnet.sweep"},
    "hybridnet.sweep.rivals": SHARED | {"hybridnet.pruner.Pruner", "hybridnet.sweep"},
    "hybridnet.sweep.search": SHARED | {"optuna", "hybridnet.config"},
    "hybridnet.sweep.trial": SHARED | {"torch", "hybridnet.config", "hybridnet.experiment", "hybridnet.trainer"},
    "hybridnet.sweep.statistics": {"scipy"},
    "hybridnet.sweep.study": SHARED | {"hybridnet.config", "hybridnet.sweep"},
    "hybridnet.sweep.plan": SHARED
    | {"hybridnet.checkpoint", "hybridnet.config", "hybridnet.resume", "hybridnet.sweep"},
    "hybridnet.sweep.preset": SHARED | {"hybridnet.config", "hybridnet.sweep"},
    "hybridnet.sweep.tables": SHARED | {"rich", "hybridnet.markdown", "hybridnet.sweep"},
    "hybridnet.sweep.figures": SHARED | {"matplotlib", "numpy", "hybridnet.drawing", "hybridnet.sweep"},
    "hybridnet.markdown": set(),
    "hybridnet.comparison": SHARED
    | {"numpy", "hybridnet.binding", "hybridnet.comparison", "hybridnet.config", "hybridnet.data.rows"}
    | {"hybridnet.inference.calibration", "hybridnet.inference.runs", "hybridnet.resume", "hybridnet.sweep"},
    "hybridnet.comparison.figures": SHARED | {"matplotlib", "numpy", "hybridnet.comparison", "hybridnet.drawing"},
    "hybridnet.comparison.significance": {"numpy", "scipy"},
    "hybridnet.comparison.tables": SHARED | {"numpy", "rich", "hybridnet.comparison", "hybridnet.markdown"},
    "hybridnet.origin": SHARED
    | {"hybridnet.checkpoint", "hybridnet.config", "hybridnet.resume", "hybridnet.sweep.record"},
    "hybridnet.resume": SHARED | {"hybridnet.binding", "hybridnet.checkpoint"},
    "hybridnet.measure": SHARED
    | {"torch", "numpy", "rich", "hybridnet.config", "hybridnet.experiment"}
    | {"hybridnet.drawing", "hybridnet.figures"}
    | {"hybridnet.measure", "hybridnet.recorder", "hybridnet.trainer"},
    "hybridnet.measure.textbook": SHARED | {"torch", "torchvision", "PIL", "hybridnet.model.backbone"},
    "hybridnet.measure.first_step": {"hybridnet.console"},
    "hybridnet.parts": SHARED
    | {"torch", "hybridnet.config", "hybridnet.data.progress", "hybridnet.experiment", "hybridnet.inference"}
    | {"hybridnet.logger", "hybridnet.resume", "hybridnet.signals", "hybridnet.sweep.record", "hybridnet.trainer"},
    "hybridnet.recorder": SHARED
    | {"torch", "hybridnet.checkpoint", "hybridnet.console", "hybridnet.logger", "hybridnet.trainer"},
    "hybridnet.run": SHARED
    | {"torch", "hybridnet.checkpoint", "hybridnet.environment", "hybridnet.logger", "hybridnet.run_faults"}
    | {"hybridnet.trainer"},
    "hybridnet.run_faults": SHARED,
    "hybridnet.results": SHARED
    | {"torch", "hybridnet.console", "hybridnet.drawing", "hybridnet.figures", "hybridnet.trainer"},
}
ENTRY_POINTS = {
    "hybridnet.benchmark",
    "hybridnet.command_line",
    "hybridnet.compare",
    "hybridnet.demo",
    "hybridnet.doctor",
    "hybridnet.evaluate",
    "hybridnet.explain",
    "hybridnet.export",
    "hybridnet.launch",
    "hybridnet.predict",
    "hybridnet.prepare",
    "hybridnet.promote",
    "hybridnet.report",
    "hybridnet.sweep.multirun",
    "hybridnet.verification",
}


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write absolute imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _allowed(module: str) -> set[str] | None:
    matches = [name for name in MAY_IMPORT if module == name or (module.startswith(f"{name}.") and name != "hybridnet")]
    return MAY_IMPORT[max(matches, key=len)] if matches else None


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", SOURCES, ids=_module)
def test_imports_follow_the_directions(file: Path) -> None:
    module = _module(file)
    if module in ENTRY_POINTS:
        return
    allowed = _allowed(module)
    assert allowed is not None, f"say in MAY_IMPORT what {module} may import"
    for name in _imports(file):
        is_standard = name.partition(".")[0] in {*sys.stdlib_module_names, "__future__"}
        fits = any(name == other or name.startswith(f"{other}.") for other in allowed)
        assert is_standard or fits, f"{module} must not import {name}"


def test_only_config_and_entry_points_import_hydra() -> None:
    users = {_module(f) for f in SOURCES if any(n.split(".")[0] in ("hydra", "omegaconf") for n in _imports(f))}
    others = {module for module in users if not module.startswith("hybridnet.config")}
    entry_points = {"hybridnet.command_line", "hybridnet.launch"}
    assert others == entry_points | {"hybridnet.sweep.launcher", "hybridnet.sweep.multirun"}


def test_checkpoints_are_read_in_one_place_and_nothing_runs_code() -> None:
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "yaml.load", "pickle.load", "pickle.loads"), file
                assert called != "torch.load" or file.name == "checkpoint.py", file
                weights_only = [ast.unparse(k.value) for k in node.keywords if k.arg == "weights_only"]
                if called in ("torch.load", "torch.hub.load_state_dict_from_url"):
                    assert weights_only == ["True"], file


def test_durations_are_measured_with_a_clock_that_never_steps() -> None:
    """The system's clock is set back and forth; it names moments: of a run's status, of an event, of a file."""
    for file in SOURCES:
        calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, ast.Call)}
        uses = calls & {"time.time", "datetime.now", "datetime.datetime.now", "datetime.utcnow"}
        assert not uses or file.name in ("run.py", "digests.py", "tensorboard.py"), f"{file}: {uses}"


GROUPS = sorted(f for f in (ROOT / "conf").rglob("*.yaml") if f.parent != ROOT / "conf")


def _targets(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "_target_")
        for value in node.values():
            yield from _targets(value)


def test_there_are_groups() -> None:
    assert {f.parent.name for f in GROUPS} >= {"model", "backbone", "data", "optimizer", "scheduler", "trainer"}


@pytest.mark.parametrize("file", GROUPS, ids=lambda f: str(f.relative_to(ROOT / "conf")))
def test_a_yaml_has_its_code_and_its_test_in_the_same_place(file: Path) -> None:
    """conf/X/Y.yaml ↔ hybridnet/X/Y.py ↔ tests/X/test_Y.py.

    Presets of one class share a file that is named by what they have in common (resnet18, resnet34 -> resnet) or by
    their folder (data/augment/photo -> data/augment).
    """
    path = file.relative_to(ROOT / "conf").with_suffix("")
    if path.parts[0] in ("experiment", "sweep", "hydra"):  # presets, of which tests/config/ composes each
        return
    homes = [path, path.with_name(path.name.rstrip("0123456789")), path.parent]
    home = next((h for h in homes if (PACKAGE / h).with_suffix(".py").is_file()), None)
    assert home is not None, f"{file} has no code in hybridnet/{path.parent}"
    assert (ROOT / "tests" / home.parent / f"test_{home.name}.py").is_file(), f"{file} has no test"
    targets = list(_targets(yaml.safe_load(file.read_text(encoding="utf-8"))))
    assert all(t.startswith((f"hybridnet.{path.parts[0]}.", "torch.", "torchvision.")) for t in targets)


@pytest.mark.parametrize("file", [f for f in SOURCES if f.name != "__init__.py"], ids=_module)
def test_every_module_has_its_test(file: Path) -> None:
    path = file.relative_to(PACKAGE)
    assert (ROOT / "tests" / path.parent / f"test_{path.name}").is_file()
