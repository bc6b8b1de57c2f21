"""The ledger of a sweep: every job's folder has a record of it, `job.json`, which the job itself keeps up to date.

So jobs that run side by side never write to the same file, and a sweep that was killed has lost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hybridnet.errors import Fault, InputError
from hybridnet.files import read_json, try_lock, write_json
from hybridnet.sweep.record import DONE, JOB, STATUS, Job, is_job, read_job

SWEEP = "sweep.json"  # what was asked for
STOP = ".stop"  # there if no further job shall start


class Planned(NamedTuple):
    """A job that is to be in the ledger.

    Attributes:
        identity, overrides, swept: as in `Job`.
        slug: a short name.
    """

    identity: str
    overrides: list[str]
    swept: list[str]
    slug: str


class Ledger:
    """The jobs of one sweep. Context manager that keeps a second process from sweeping in the same folder.

    Args:
        folder: of the sweep.

    Raises:
        InputError: on entering, if another process sweeps in it, it holds a single run, or it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._on_exit = ExitStack()

    def __enter__(self) -> Ledger:
        if not is_sweep(self.folder) and ((self.folder / STATUS).exists() or is_job(self.folder)):
            hint = "choose another folder with hydra.sweep.dir=<folder>"
            raise InputError(Fault("used folder", str(self.folder), "it holds a run, and a sweep has many", hint))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._on_exit.enter_context((self.folder / ".lock").open("a", encoding="utf-8"))
        except OSError as error:
            hint = "choose another place with hydra.sweep.dir=<folder>"
            raise InputError(Fault("unusable sweep folder", str(self.folder), error.strerror or "", hint)) from error
        if try_lock(lock) is False:
            self._on_exit.close()
            hint = "wait for it, or choose another folder with hydra.sweep.dir=<folder>"
            raise InputError(Fault("sweep folder in use", str(self.folder), "another process sweeps in it", hint))
        return self

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()

    def jobs(self) -> list[Job]:
        """All of them, by number.

        Raises:
            InputError: if a record is damaged.
        """
        return sorted((read_job(file.parent) for file in self.folder.glob(f"*/{JOB}")), key=lambda job: job.number)

    def add(self, jobs: Sequence[Planned]) -> list[Job]:
        """The jobs as they stand; a new one gets the next number and its own folder.

        One that is left to do is told anew: an older version, or another spelling, may have kept less of its settings.
        """
        known = {job.identity: job for job in self.jobs()}
        taken = [int(number) for path in self.folder.iterdir() if (number := path.name.partition("_")[0]).isdecimal()]
        number = max(taken, default=-1) + 1
        for identity, overrides, swept, slug in jobs:
            if identity not in known:
                folder = self.folder / (f"{number}_{slug}" if slug else str(number))
                folder.mkdir()
                known[identity] = Job(number, folder, identity, overrides, swept)
                known[identity].write()
                number += 1
            elif known[identity].overrides != overrides and known[identity].status not in (*DONE, "running"):
                known[identity] = replace(known[identity], overrides=overrides)
                known[identity].write()
        return [known[job.identity] for job in jobs]


ENTRIES = ("overrides", "config_dir", "monitor", "num_jobs", "num_threads")


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (folder / SWEEP).is_file()


def write_sweep(folder: Path, *, is_search: bool, **entries: Any) -> None:
    """Write what was asked for, so that the sweep can be continued by its folder alone: all of `ENTRIES`.

    Args:
        folder: of the sweep.
        is_search: whether its jobs depend on the results of others.
        entries: the others.
    """
    assert set(entries) == set(ENTRIES)
    write_json(folder / SWEEP, entries | {"is_search": is_search, "working_directory": str(Path.cwd())})


def read_sweep(folder: Path) -> dict[str, Any]:
    """What was asked for: `overrides` as typed, `config_dir`, the jobs' `monitor`, `num_jobs`, and their `num_threads`.

    And `is_search`, and `working_directory`, the current one when it was last started; False and None of a sweep of an
    earlier version.

    Raises:
        InputError: if there is no sweep, or its file is damaged.
    """
    try:
        content = read_json(folder / SWEEP)
        if not isinstance(content, Mapping) or not content.keys() >= set(ENTRIES):
            raise ValueError("it is not what a sweep writes")
    except FileNotFoundError as error:
        hint = "a sweep's folder is the one that python train.py -m … writes, outputs/sweeps/<time>"
        raise InputError(Fault("no sweep", str(folder), f"there is no {SWEEP}", hint)) from error
    except (OSError, ValueError) as error:
        raise InputError(Fault("unreadable sweep", str(folder / SWEEP), str(error))) from error
    return {"is_search": False, "working_directory": None} | content
