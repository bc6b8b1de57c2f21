"""What of its configuration a run keeps in its folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from hybridnet import binding
from hybridnet.errors import Fault, InputError


def hydra_files(cfg: DictConfig, hydra_cfg: DictConfig, *, without: Sequence[str]) -> dict[str, str]:
    """What Hydra keeps in `.hydra` of an output folder: name and text of each file.

    Hydra itself would write them before the folder is known to be free, and not whole or not at all.

    Args:
        cfg: of the job.
        hydra_cfg: Hydra's own.
        without: keys, and groups of keys, whose overrides were meant for one start only.
    """
    typed = OmegaConf.to_container(hydra_cfg.overrides.task, resolve=False)  # a reference stays one
    overrides = [text for text in typed if re.split(r"[=.]", text.lstrip("+~"), maxsplit=1)[0] not in without]
    return {
        "config.yaml": OmegaConf.to_yaml(cfg),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra_cfg})),
        "overrides.yaml": OmegaConf.to_yaml(overrides),
    }


def read_overrides(folder: Path) -> list[str]:
    """The overrides that the run in `folder` began with.

    Raises:
        InputError: if there is no run, or its file is damaged.
    """
    file = folder / ".hydra" / "overrides.yaml"
    if not file.is_file():
        hint = "resume=<run folder>; hydra.run.dir=<folder> resume=auto starts a run where there is none"
        raise InputError(Fault("no run to continue", f"resume={folder}", f"there is no {file}", hint))
    try:
        overrides = OmegaConf.to_container(OmegaConf.load(file))
        if not isinstance(overrides, list):
            raise ValueError("it holds no list")
        OverridesParser.create().parse_overrides(overrides)
    except Exception as error:  # whatever the parsers make of a damaged file
        cause = str(error).strip().partition("\n")[0]
        raise InputError(Fault("unreadable overrides", str(file), cause)) from error
    return overrides


def saved(folder: Path) -> DictConfig | None:
    """The configuration of the run in `folder`; None where it is missing or damaged."""
    return _load(folder / ".hydra" / "config.yaml")


def saved_settings(folder: Path, keys: Sequence[str]) -> dict[str, str]:
    """What the run in `folder` had at these keys, as text: a value, or the choice of a group; without unknown ones."""
    cfg = saved(folder)
    if cfg is None:
        return {}
    try:
        values = {key: OmegaConf.select(cfg, key.replace("/", "."), default=binding.MISSING) for key in keys}
        found = {key: _text(v) for key, v in values.items() if v != binding.MISSING and not isinstance(v, DictConfig)}
        if len(found) < len(keys) and (hydra_cfg := _hydra_of(folder)) is not None:
            choices = hydra_cfg.runtime.choices
            found |= {key: _text(choices[key]) for key in keys if key not in found and key in choices}
    except OmegaConfBaseException:  # a reference to what is not there, or a file that was cut off
        return {}
    return found


def config_dir(folder: Path) -> str | None:
    """The `--config-dir` that the run in `folder` began with, which is no override."""
    try:
        hydra_cfg = _hydra_of(folder)
        sources = hydra_cfg.runtime.config_sources if hydra_cfg is not None else ()
        return next((source.path for source in sources if source.provider == "command-line"), None)
    except OmegaConfBaseException:  # a file that was cut off
        return None


def working_directory(folder: Path) -> Path | None:
    """The current directory when the run in `folder` was last started; None where that is not known."""
    try:
        hydra_cfg = _hydra_of(folder)
        return Path(hydra_cfg.runtime.cwd) if hydra_cfg is not None else None
    except (OmegaConfBaseException, TypeError):  # a file that was cut off
        return None


def _hydra_of(folder: Path) -> DictConfig | None:
    """Hydra's own configuration of the run in `folder`; None where it is missing or damaged."""
    cfg = _load(folder / ".hydra" / "hydra.yaml")
    hydra_cfg = None if cfg is None else OmegaConf.select(cfg, "hydra")
    return hydra_cfg if isinstance(hydra_cfg, DictConfig) else None


def _load(file: Path) -> DictConfig | None:
    """The keys and values of a yaml; None where it is missing or damaged: of a job that did not come so far."""
    try:
        cfg = OmegaConf.load(file)
    except (OSError, OmegaConfBaseException, YAMLError, ValueError):  # ValueError: not UTF-8
        return None
    return cfg if isinstance(cfg, DictConfig) else None


def _text(value: Any) -> str:
    """As it would be typed."""
    if isinstance(value, ListConfig):
        return f"[{','.join(map(_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
