"""A job of a sweep that is trained by itself: `python train.py resume=<its folder>`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hybridnet import config, resume
from hybridnet.files import read_json
from hybridnet.sweep.record import STATUS, Attempt, Job, read_job
from hybridnet.sweep.settings import is_setting


@contextmanager
def recorded(folder: Path, *, settings: Mapping[str, Any], typed: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Context manager around the run: keeps the job's record up to date, as its sweep would.

    With other settings than the sweep's, such as more epochs, the record becomes that of a job with these settings, and
    a grid trains its own one again when it goes on; a search keeps what its trial had. A run that is refused, or has
    nothing to do, leaves it alone.

    Yields:
        What is to be called once the run has begun.

    Args:
        folder: of the job.
        settings: of this run, by dotted key.
        typed: its overrides.

    Raises:
        InputError: if another process works on the job, or its record is damaged.
    """
    job, began = read_job(folder), _status(folder)
    keys = config.keys_of(job.swept)
    changes: dict[str, Any] = {}
    if _are_others(settings, job, keys):
        identity = resume.identity(settings, swept=keys)
        overrides = [text for text in typed if is_setting(text)]
        swept = [text for key, text in zip(config.keys_of(overrides), overrides, strict=True) if key in keys]
        changes = {"identity": identity, "overrides": overrides, "swept": swept}
    with Attempt(folder, changes=changes, begins_at_once=False) as attempt:
        try:
            yield attempt.begin
        except BaseException:
            attempt.is_void = _status(folder) == began
            raise
        attempt.value = read_json(folder / "metrics.json")[settings["monitor"]]
        attempt.is_void = _status(folder) == began and job.status == "complete"  # nothing was left to do


def _are_others(settings: Mapping[str, Any], job: Job, swept: Sequence[str]) -> bool:
    """Whether a run with these settings is not what the job was to compute; a pruner, which it is free of, aside."""
    own = [key for key in swept if is_setting(key)]
    began = config.saved(job.folder) if len(own) < len(swept) else None
    if began is None:  # the record's own word: a run that was killed may have other settings than that already
        return resume.identity(settings, swept=swept) != job.identity
    return resume.identity(settings, swept=own) != resume.identity(config.flat(began)[0], swept=own)


def _status(folder: Path) -> str | None:
    """What the run writes when it begins."""
    with suppress(OSError):
        return (folder / STATUS).read_text(encoding="utf-8")
    return None
