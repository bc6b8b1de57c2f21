from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import hybridnet
from hybridnet import environment, processor
from hybridnet.environment import describe, differences


def test_what_a_repetition_needs_is_described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "seed=3"])
    monkeypatch.setattr(environment, "_git_commit", lambda: "abc+changes")
    described = describe(device=torch.device("cpu"), precision="bf16", seed=3, processes=2)
    packages = described.pop("packages")
    assert described == {
        "command": ["python", "train.py", "seed=3"],
        "working_directory": str(tmp_path),
        "seed": 3,
        "device": "cpu",
        "device_name": processor.name(),
        "precision": "bf16",
        "processes": 2,
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "hybridnet": hybridnet.__version__,
        "git_commit": "abc+changes",
        "cuda": torch.version.cuda,
    }
    assert packages["torch"] == str(torch.__version__).partition("+")[0]
    assert {"torchvision", "hydra-core", "omegaconf", "numpy", "pandas", "pillow", "scikit-learn"} < set(packages)
    assert json.loads(json.dumps(described)) == described


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    described = describe(device=torch.device("cuda:1"), precision="fp16", seed=0, processes=1)
    assert (described["device"], described["device_name"]) == ("cuda:1", "GPU 1")


def test_a_package_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        from importlib.metadata import PackageNotFoundError

        if name == "pandas":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("importlib.metadata.version", version)
    versions = environment._package_versions()
    assert "pandas" not in versions
    assert versions["numpy"] == "1.0"


@pytest.fixture
def nothing_asked_before() -> Iterator[None]:
    """A process asks once: it goes on with the code that it has read."""
    environment._git_commit.cache_clear()
    yield
    environment._git_commit.cache_clear()


@pytest.mark.usefixtures("nothing_asked_before")
@pytest.mark.parametrize(("changes", "commit"), [("", "0123abc"), (" M train.py\n", "0123abc+changes")])
def test_the_commit_says_whether_the_code_was_changed(
    monkeypatch: pytest.MonkeyPatch, changes: str, commit: str
) -> None:
    """Asked of the checkout that the code is in, wherever the command runs."""

    def git(words: list[str], *, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        assert cwd == Path(hybridnet.__file__).parent
        assert options["check"] and options["timeout"] < 60
        said = {"ls-files": "environment.py\n", "rev-parse": "0123abc\n", "status": changes}
        return subprocess.CompletedProcess(words, 0, said[words[1]])

    monkeypatch.setattr(subprocess, "run", git)
    assert environment._git_commit() == commit
    monkeypatch.setattr(subprocess, "run", None)
    assert environment._git_commit() == commit, "what is changed later is not what runs"


@pytest.mark.usefixtures("nothing_asked_before")
@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git"), subprocess.TimeoutExpired("git", 5)],
    ids=lambda error: type(error).__name__,
)
def test_outside_a_checkout_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert environment._git_commit() is None


@pytest.mark.usefixtures("nothing_asked_before")
@pytest.mark.parametrize("is_tracked", [False, True])
def test_another_checkout_that_the_package_is_installed_in_is_not_the_code_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_tracked: bool
) -> None:
    """Such as the environment in the folder of somebody's own project."""
    module = tmp_path / ".venv" / "hybridnet" / "environment.py"
    module.parent.mkdir(parents=True)
    module.touch()

    def git(*words: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init")
    (tmp_path / ".gitignore").write_text("" if is_tracked else ".venv\n")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(environment, "__file__", str(module))
    assert environment._git_commit() == (git("rev-parse", "HEAD").strip() if is_tracked else None)


NOW = dict.fromkeys(environment.DECISIVE, "a") | {"packages": {"torch": "2.10.0", "numpy": "2.0"}, "seed": 1}


@pytest.mark.parametrize(
    ("before", "lines"),
    [
        ({}, []),
        ({"seed": 2, "command": ["b"], "git_commit": "c"}, []),
        ({"threads": 2}, ["threads 2, now a"]),
        ({"cuda": None, "python": "3.10"}, ["python 3.10, now a", "cuda None, now a"]),
        ({"packages": {"torch": "2.9.0", "numpy": "2.0", "old": "1"}}, ["torch 2.9.0, now 2.10.0"]),
        ({"packages": {"torch": "2.10.0"}}, ["numpy None, now 2.0"]),
    ],
)
def test_what_decides_the_last_digits_is_compared(before: dict[str, Any], lines: list[str]) -> None:
    assert differences(NOW | before, NOW) == lines


@pytest.mark.parametrize("name", ["device", "device_name", "precision", "threads", "platform", "python", "cuda"])
def test_each_of_these_can_change_the_last_digits(name: str) -> None:
    described = describe(device=torch.device("cpu"), precision="float32", seed=0, processes=1)
    assert differences(described | {name: "other"}, described) == [f"{name} other, now {described[name]}"]
    assert differences(described, described) == []


def test_an_environment_of_an_older_version_is_compared() -> None:
    assert differences({}, {"packages": {"torch": "2.10"}} | dict.fromkeys(environment.DECISIVE)) == [
        "torch None, now 2.10"
    ]
