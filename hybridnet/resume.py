"""Continuing a run: what may change, and what must be as it was."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridnet.binding import nearest
from hybridnet.checkpoint import LAST, load_last
from hybridnet.errors import UNKNOWN_KEY, Fault, InputError

log = logging.getLogger(__name__)

# None of these changes what is computed; `device` does in the last digits.
OF_A_START = (
    *("resume", "resume_allow", "verify_resume", "logger", "sweep", "pruner"),
    *("trainer.device", "trainer.log_every", "trainer.checkpoint_minutes", "trainer.plot"),
    *("data.num_workers", "data.pin_memory", "data.cache", "data.cache_dir"),
)
FREE = (*OF_A_START, "data.metadata", "data.label2id")  # the data are compared by content
# Settings that runs of earlier versions do not have, with what these versions did: such runs and sweeps go on.
ADDED = {"data.augment.erase": 0, "data.augment.erase_area": [0.02, 0.33]}
EPOCHS = "trainer.epochs"
ENTRIES = {"model", "average", "best", "optimizer", "scaler", "state", "totals", "random", "settings", "data"}


def load_run(
    folder: Path, settings: Mapping[str, Any], references: Mapping[str, str], *, allow: Sequence[str]
) -> dict[str, Any] | None:
    """The checkpoint to continue the run in `folder` from, if a command with these settings may; None if there is none.

    Args:
        folder: of the run.
        settings: of the command, by dotted key.
        references: of those keys whose value is another key's: that key.
        allow: keys, or groups of keys, that may differ.

    Raises:
        InputError: if the settings differ, or no checkpoint can be used.
    """
    checkpoint = load_last(folder)
    if checkpoint is None:
        _require_known(allow, set(settings))
        return None
    if missing := ENTRIES - checkpoint.keys():
        cause = f"it has no entry {', '.join(sorted(missing))}: another version of hybridnet wrote it"
        hint = "continue with that version, or start anew in another folder"
        raise InputError(Fault("unusable checkpoint", str(folder / LAST), cause, hint))
    for line in require_same_settings(checkpoint["settings"], settings, references, folder=folder, allow=allow):
        log.info(f"changed: {line}")
    return checkpoint


def require_same_settings(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    references: Mapping[str, str],
    *,
    folder: Path,
    allow: Sequence[str],
) -> list[str]:
    """Hold the settings of a command against those that the run began with.

    Args:
        saved, now: by dotted key.
        references, folder, allow: as for `load_run`.

    Returns:
        The differences that were let through, as lines.

    Raises:
        InputError: with all other differences.
    """
    saved = {key: value for key, value in ADDED.items() if key in now} | dict(saved)
    _require_known(allow, {*saved, *now})
    different = {key for key in {*saved, *now} if saved.get(key) != now.get(key) or (key in saved) != (key in now)}
    owners = {key for key in different if references.get(key) not in different}
    free = {key for key in owners if _is_below(key, FREE)}
    longer = {EPOCHS} & owners if now.get(EPOCHS, 0) > saved.get(EPOCHS, 0) else set()
    allowed = {key for key in owners if _is_below(key, allow)}
    wrong = sorted(owners - free - longer - allowed)
    if wrong:
        lines = "".join(f"\n  {_difference(key, saved, now)}" for key in wrong)
        hint = f"leave them out to continue the run as it began, or let them through: resume_allow=[{','.join(wrong)}]"
        raise InputError(Fault("changed settings", str(folder), f"the run began with others{lines}", hint))
    return [_difference(key, saved, now) for key in sorted(longer | allowed)]


def identity(settings: Mapping[str, Any], *, swept: Collection[str]) -> str:
    """The same for two jobs that compute the same, if their data lie at the same place.

    Args:
        settings: by dotted key.
        swept: keys that tell jobs apart whatever they do, such as `trainer.device` where two are compared.
    """
    without = [key for key in OF_A_START if key not in swept]
    kept = {key: value for key, value in settings.items() if not _is_below(key, without) or key in swept}
    kept = {key: value for key, value in kept.items() if key not in ADDED or value != ADDED[key]}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def require_same_data(saved: Mapping[str, str], now: Mapping[str, str], *, folder: Path, allow: Sequence[str]) -> None:
    """Hold the pictures and labels, as digests of each split, against those that the run began with.

    Raises:
        InputError: if they are others and `data` is not allowed to differ.
    """
    changed = [name for name in saved if saved[name] != now.get(name)]
    if changed and "data" not in allow:
        names = {"train": "training", "valid": "validation"}
        which = " and ".join(names.get(name, name) for name in changed)
        cause = f"the {which} pictures, their labels or their order are not those that the run began with"
        raise InputError(
            Fault("changed data", str(folder), cause, "restore them, or continue with resume_allow=[data]")
        )


def _require_known(allow: Sequence[str], keys: set[str]) -> None:
    for name in allow:
        if not any(_is_below(key, [name]) for key in keys):
            match = nearest(name, sorted(keys))
            hint = f"did you mean {match}?" if match else "python train.py --cfg job shows all keys"
            raise InputError(Fault(UNKNOWN_KEY, f"resume_allow=[{name}]", "the configuration has no such key", hint))


def _is_below(key: str, groups: Sequence[str]) -> bool:
    return any(key == group or key.startswith((f"{group}.", f"{group}[")) for group in groups)


def _difference(key: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"{key}: {_shown(key, saved)} in the run, {_shown(key, now)} now"


def _shown(key: str, settings: Mapping[str, Any]) -> str:
    value = settings.get(key, "not there")
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
