"""The configurations of a sweep's jobs, with Hydra's own part, which a launcher asks for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybridnet.config.overrides import groups_of, parse


class JobLoader:
    """Stands in for Hydra's loader: what is composed of the same choices of files is composed once.

    Hydra reads and merges all files anew for every job, which takes ten times as long.

    Args:
        loader: Hydra's own.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._known: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """What Hydra's loader returns.

        Args:
            master_config: of the sweep.
            sweep_overrides: of the job.

        Raises:
            HydraException: for an override that cannot be applied.
        """
        of_sweep = OmegaConf.to_container(master_config.hydra.overrides.hydra, resolve=False)  # a reference stays one
        parsed = parse([*of_sweep, *sweep_overrides])
        groups = groups_of(parsed)
        choices = [override for override in parsed if override in groups and not isinstance(override.value(), dict)]
        typed = tuple(override.input_line for override in choices)
        if typed not in self._known:
            name = master_config.hydra.job.config_name
            self._known[typed] = self._loader.load_configuration(name, list(typed), run_mode=RunMode.RUN)
        cfg = copy.deepcopy(self._known[typed])
        ConfigLoaderImpl._apply_overrides_to_config([o for o in parsed if o not in choices], cfg)
        _say_what_was_typed(cfg.hydra, parsed)
        OmegaConf.copy_cache(from_config=master_config, to_config=cfg)
        return cfg


def _say_what_was_typed(hydra: DictConfig, overrides: Sequence[Override]) -> None:
    of_job = [override for override in overrides if not override.is_hydra_override()]
    hydra.overrides.hydra = [override.input_line for override in overrides if override.is_hydra_override()]
    hydra.overrides.task = [override.input_line for override in of_job]
    form = hydra.job.config.override_dirname
    hydra.job.override_dirname = get_overrides_dirname(
        of_job, kv_sep=form.kv_sep, item_sep=form.item_sep, exclude_keys=form.exclude_keys
    )
