"""Composes the configuration, finds every fault in it before any data are read, and builds what it describes.

The only package besides the entry points that imports hydra or omegaconf. Neither torch nor the data packages are
imported here: a misspelt override is answered before they are.
"""

from __future__ import annotations

from omegaconf import DictConfig

from hybridnet.binding import nearest
from hybridnet.config.building import ALLOWED_TARGETS, build, build_modules, find_faults, module_faults, with_examples
from hybridnet.config.composition import Known, compose, taken_apart
from hybridnet.config.content import (
    as_written,
    flat,
    identity,
    keys,
    nested_yaml,
    own_keys,
    plain,
    references,
    replaced,
    resolved,
    select,
    shown,
    top_level,
    with_values,
)
from hybridnet.config.job_loader import JobLoader
from hybridnet.config.jobs import Multirun, distributions, expand, multirun, sample_values, trust_jobs
from hybridnet.config.overrides import group_choices, keys_of, merged, quoted, readable, slug
from hybridnet.config.run_files import config_dir, hydra_files, read_overrides, saved, saved_settings, working_directory
from hybridnet.config.session import CONF_DIR, hidden, train_script
from hybridnet.config.spelled_out import Changes, as_typed, preset_changes, spelled_out

__all__ = [
    "ALLOWED_TARGETS",
    "CONF_DIR",
    "Changes",
    "DictConfig",
    "JobLoader",
    "Known",
    "Multirun",
    "as_typed",
    "as_written",
    "build",
    "build_modules",
    "compose",
    "config_dir",
    "distributions",
    "expand",
    "find_faults",
    "flat",
    "group_choices",
    "hidden",
    "hydra_files",
    "identity",
    "keys",
    "keys_of",
    "merged",
    "module_faults",
    "multirun",
    "nearest",
    "nested_yaml",
    "own_keys",
    "plain",
    "preset_changes",
    "quoted",
    "read_overrides",
    "readable",
    "references",
    "replaced",
    "resolved",
    "sample_values",
    "saved",
    "saved_settings",
    "select",
    "shown",
    "slug",
    "spelled_out",
    "taken_apart",
    "top_level",
    "train_script",
    "trust_jobs",
    "with_examples",
    "with_values",
    "working_directory",
]
