from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from hybridnet.__main__ import main
from tests.conftest import ROOT


def test_every_command_is_listed_in_a_line_and_none_is_imported(
    process: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    result = process("-X", "importtime", "-m", "hybridnet")
    assert result.returncode == 0
    names = sorted(file.stem for file in (ROOT / "conf").glob("*.yaml") if file.stem != "train")
    train, *commands = result.stdout.partition("\n\n")[0].splitlines()
    assert train.startswith("python train.py: ")
    assert [line.split(" ")[2].rstrip(":") for line in commands] == [f"hybridnet.{name}" for name in names]
    assert "python -m hybridnet.report sweep=<folder>: what a sweep, or several together, has found" in commands
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert not {"torch", "hydra", "hybridnet.report"} & imported


@pytest.mark.parametrize(
    ("word", "hint"),
    [("predict", "python -m hybridnet.predict"), ("fly", "python -m hybridnet lists the commands")],
)
def test_a_command_is_a_module_of_its_own(capsys: pytest.CaptureFixture[str], word: str, hint: str) -> None:
    assert main([word, "run=x"]) == 2
    assert capsys.readouterr().err == f"error: unknown option in {word}: each command is a module\nhint: {hint}\n"
    assert main(["--help"]) == 0
