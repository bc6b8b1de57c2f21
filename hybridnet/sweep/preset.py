"""The best settings of a sweep as an experiment's yaml: what it chooses and sets, and a header that says whence."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybridnet import config
from hybridnet.errors import Fault, InputError
from hybridnet.files import read_json, shortened, write_text
from hybridnet.sweep import wording
from hybridnet.sweep.launcher import how_to_continue
from hybridnet.sweep.outcome import Outcome
from hybridnet.sweep.settings import is_setting, settings_of
from hybridnet.sweep.statistics import Spread, figure
from hybridnet.sweep.study import Study
from hybridnet.wording import number_of

LATER = f"# {'':<9} "  # lines of a header's entry
PACKAGE = "# @package _global_\n"


def body(outcome: Outcome, *, config_dirs: Sequence[str], without: Sequence[str] = ()) -> str:
    """The yaml, without a header, that composes to what a job was trained with.

    Its overrides are choices and values in it. What the job's own configuration has besides, from a yaml of the sweep
    or from defaults that have changed since, is written out.

    Args:
        outcome: of the job.
        config_dirs: the user's own configuration folders.
        without: keys that are left out.

    Raises:
        InputError: for an override that no yaml can hold, and a setting that there is no longer.
    """
    typed = [text for text in outcome.job.overrides if is_setting(text)]
    overrides = [text for text in typed if not settings_of([text]).keys() & {*without}]
    choices, values = config.taken_apart(overrides, config_dirs=config_dirs)
    asked = config.saved(outcome.job.folder) or config.compose("train", overrides, config_dirs=config_dirs)
    wanted = {key: value for key, value in _settings(asked).items() if key not in without}
    text = _defaults(choices) + config.nested_yaml(values)
    refused = different = _different(wanted, _settings(_tried(text, config_dirs)))
    if different:
        values |= {key: wanted[key] for key in different if "[" not in key}
        text = _defaults(choices) + config.nested_yaml(values)
        found = _tried(text, config_dirs)
        faults = config.find_faults(found, defaults=_tried(_defaults(choices), config_dirs))
        refused = _different(wanted, _settings(found)) or [key for key in different if key in faults]
    if refused:
        cause = f"no experiment can set {', '.join(refused[:5])} as the job had it"
        hint = "the configuration has changed since the sweep; the job's own is in its .hydra/config.yaml"
        raise InputError(Fault("settings that cannot be promoted", str(shortened(outcome.job.folder)), cause, hint))
    return text


def _tried(text: str, config_dirs: Sequence[str]) -> Any:
    """What an experiment of this text composes to."""
    with tempfile.TemporaryDirectory() as folder:
        trial = path_of(Path(folder), "trial")
        trial.parent.mkdir()
        write_text(trial, PACKAGE + text)
        return config.compose("train", ["experiment=trial"], config_dirs=[folder, *config_dirs])


def _settings(cfg: Any) -> dict[str, Any]:
    return {key: value for key, value in config.as_written(cfg).items() if is_setting(key)}


def _different(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Keys without the value that is wanted; a setting that is new since the sweep has its default."""
    return [key for key, value in wanted.items() if found.get(key, ...) != value]


def _defaults(choices: Sequence[tuple[str, object, bool]]) -> str:
    """Hydra wants what is overridden at the end."""
    bases, added, overridden = [], [], []
    for group, option, is_added in choices:
        options = option if isinstance(option, list) else [option]
        if group == "experiment":
            bases += map(str, options)
        else:
            shown = f"[{', '.join(map(str, option))}]" if options is option else option
            (added if is_added else overridden).append(f"{'' if is_added else 'override '}/{group}: {shown}")
    lines = [*bases, *added, "_self_", *overridden]
    return "".join(["defaults:\n", *(f"  - {line}\n" for line in lines)]) if len(lines) > 1 else ""


def header(study: Study, command: str, fresh: Spread | None, seeds: Sequence[int], *, folds: str = "") -> str:
    """Comments that say where the experiment comes from.

    Args:
        study: whose winner it is.
        command: that uses it.
        fresh: its results on seeds that the sweep has not seen, if it was trained on some.
        seeds: those.
        folds: what is to be known about data.fold.
    """
    winner = study.winner
    assert winner is not None and winner.result is not None
    best = winner.counted[0]
    rank = f"the best of {number_of(len(study.ranked), 'setting')} ({wording.counts(study)})"
    lines = {
        "Command": [command],
        "Sweep": [
            f"{', '.join(str(shortened(folder)) for folder in study.folders)}",
            f"job {best.label}{_ended(best)}",
        ],
        "Settings": [study.described(winner) or "those of all jobs"],
        "Folds": [folds],
        "Hardware": [_hardware(best)],
        "Time": [_time(best)],
        "Result": [f"{study.monitor} {winner.result.text()} (n = {winner.result.n}), {rank}"],
    }
    lines["Result"] += [
        f"{'this' if not study.folds else 'its best'} job: {figure(best.value)}",
        *map(_plain, wording.notes(study)),
    ]
    if fresh is not None:
        listed = ", ".join(map(str, seeds))
        listed += f", each on the folds {', '.join(study.folds)}" if study.folds else ""
        lines["Fresh"] = [
            f"{study.monitor} {fresh.text()} (n = {fresh.n}) on seeds that the sweep has not seen: {listed}"
        ]
    text = ["# The best settings of a sweep.\n"]
    for name, values in lines.items():
        for place, value in enumerate(value for value in values if value):
            first = f"# {f'{name}:' if place == 0 else '':<9} "
            text += [f"{line}\n" for line in textwrap.wrap(value, 110, initial_indent=first, subsequent_indent=LATER)]
    return "".join(text)


def _plain(note: str) -> str:
    return note.partition(" python -m ")[0].rstrip(":")


def _ended(outcome: Outcome) -> str:
    try:
        ended = str(read_json(outcome.job.folder / "status.json")["ended"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f", {ended.partition('T')[0]}"


def _hardware(outcome: Outcome) -> str:
    known = outcome.environment
    parts = [known.get("device_name"), known.get("device"), known.get("precision")]
    where = ", ".join(str(part) for part in parts if part)
    return f"{where or 'unknown'}; commit {str(known.get('git_commit') or 'unknown')[:9]}"


def _time(outcome: Outcome) -> str:
    seconds = outcome.measured("train_seconds")
    return f"{seconds / 60:.1f} min of training" if seconds is not None else ""


def own_config_dir(study: Study) -> str | None:
    """The user's configuration folder of the winner's sweep."""
    assert study.winner is not None
    return study.config_dirs[study.winner.counted[0].job.folder.parent]


def require_winner(study: Study) -> Outcome:
    """The winner's best job.

    Raises:
        InputError: if there is none.
    """
    if study.winner is None:
        cause = f"no job is complete ({wording.counts(study)})"
        folders = ", ".join(str(shortened(folder)) for folder in study.folders)
        hint = f"go on with the sweep: {' or '.join(how_to_continue(folder) for folder in study.folders)}"
        raise InputError(Fault("nothing to promote", folders, cause, hint))
    return study.winner.counted[0]


def is_same(one: str, other: str) -> bool:
    """Whether two yamls differ in their comments only."""
    return _without_comments(one) == _without_comments(other)


def _without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def path_of(folder: Path, name: str) -> Path:
    """Of an experiment's yaml in a configuration folder."""
    return folder / "experiment" / f"{name}.yaml"
