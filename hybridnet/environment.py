"""On what a run was made: versions, device, commit, command."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hybridnet import __version__, processor

# A run that is continued with another one of these may differ from an uninterrupted one in the last digits.
DECISIVE = ("device", "device_name", "precision", "processes", "threads", "platform", "python", "cuda")


def describe(*, device: torch.device, precision: str, seed: int, processes: int) -> dict[str, Any]:
    """What somebody needs to know to repeat a run, in plain types.

    Args:
        device, precision: of the training.
        seed: of all random numbers.
        processes: how many train together.
    """
    return {
        "command": sys.orig_argv,
        "working_directory": str(Path.cwd()),
        "seed": seed,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor.name(),
        "precision": precision,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "hybridnet": __version__,
        "git_commit": _git_commit(),
        "packages": _package_versions(),
        "cuda": torch.version.cuda,
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed of all that decides the last digits of a result: `threads 2, now 4`."""
    both = [(before, now, name) for name in DECISIVE]
    both += [(before.get("packages", {}), now["packages"], name) for name in now["packages"]]
    return [f"{name} {old.get(name)}, now {new[name]}" for old, new, name in both if old.get(name) != new[name]]


@functools.cache
def _git_commit() -> str | None:
    """The commit of the code that runs, with `+changes` where the working tree differs; null outside its checkout."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # installed, it may lie in somebody else's checkout
        commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changes else commit


def _git(*words: str) -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=5)
    return done.stdout.strip()


def _package_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("torch", "torchvision", "hydra-core", "omegaconf", "numpy", "pandas", "pillow", "scikit-learn"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
