from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from hybridnet import packages
from hybridnet.errors import InputError
from tests.conftest import ROOT, Run


def test_the_needed_packages_are_the_declared_dependencies() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert declared is not None
    assert sorted(re.findall(r'"([\w-]+)', declared[1])) == sorted(packages.NEEDED.values())


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    packages.require("matplotlib")
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "PIL" else importlib.util.find_spec(name))
    with pytest.raises(InputError) as caught:
        packages.require("matplotlib", "PIL")
    assert str(caught.value) == "error: missing package in pillow: there is no module PIL\nhint: pip install -e ."


def test_a_folder_of_its_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wandb` makes one in the working directory."""
    (tmp_path / "only_a_folder").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert packages.missing("only_a_folder", "json", "not_there") == ["only_a_folder", "not_there"]


def test_an_error_that_a_missing_package_has_led_to_is_explained() -> None:
    error = RuntimeError("failed")
    error.__cause__ = ModuleNotFoundError(name="sklearn")
    assert "missing package in scikit-learn: there is no module sklearn" in str(packages.explained(error))


@pytest.mark.parametrize(
    "error",
    [
        None,
        RuntimeError("failed"),
        ModuleNotFoundError(name="own"),
        ModuleNotFoundError(name="torch.nn.own"),
        ImportError("torch"),
    ],
)
def test_every_other_error_stays_as_it_is(error: Exception | None) -> None:
    """A misspelt `_target_` below a package that is there too."""
    assert packages.explained(error) is error


def test_an_error_that_was_raised_again_from_what_it_led_to_stays_as_it_is() -> None:
    error, outer = ValueError("failed"), RuntimeError("failed")
    error.__cause__, outer.__cause__ = outer, error
    assert packages.explained(error) is error


@pytest.mark.parametrize("module", ["hydra", "omegaconf", "torch", "matplotlib", "sklearn", "PIL", "rich"])
def test_a_missing_package_is_wrong_input_before_the_first_step(process: Run, module: str) -> None:
    hidden = (
        "import runpy, sys\n"
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        f"hide = lambda name, *rest: None if name.split('.')[0] == {module!r} else find(name, *rest)\n"
        "PathFinder.find_spec = hide\n"
        "sys.argv = ['train.py', 'model=plain', 'model.backbone.layers=[1,1,1,1]']\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
    )
    result = process("-c", hidden, PYTHONPATH=str(ROOT))
    assert result.returncode == 2
    name = packages.NEEDED[module]
    assert result.stderr.endswith(
        f"error: missing package in {name}: there is no module {module}\nhint: pip install -e .\n"
    )
