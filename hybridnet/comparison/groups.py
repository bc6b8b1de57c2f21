"""Runs that differ in seed and fold alone, as one; named by what tells them from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridnet.binding import nearest
from hybridnet.comparison.trained import Trained
from hybridnet.errors import Fault, InputError
from hybridnet.sweep.settings import canonical, shown

PLAIN = "plain"
LAST_CHOICE = "experiment"  # names what its file sets, which other keys say better


@dataclass(frozen=True)
class Group:
    """Runs of the same settings.

    Attributes:
        name: short, different from every other group's.
        runs: by fold and seed.
    """

    name: str
    runs: tuple[Trained, ...]

    @property
    def num_runs(self) -> int:
        return len(self.runs)


def grouped(runs: Sequence[Trained]) -> tuple[list[Group], list[str]]:
    """Put together what differs in seed and fold alone.

    Where all runs would be of one group, each of them is a group of its own: then it is seeds that are compared. Runs
    of several folds have no pictures in common, and stay the one group. A run whose settings are not known is of no
    other's group. A copy of a run within its group counts once.

    Returns:
        The groups in the order of their first runs, and notes about what was left out.

    Raises:
        InputError: if there is only one run.
    """
    found: list[list[Trained]] = []
    notes: list[str] = []
    for run in runs:
        like = next((members for members in found if run.is_like(members[0])), None)
        if like is None:
            found.append([run])
        else:
            like.append(run)
    are_groups = len(found) > 1 or len({run.fold for run in found[0]}) > 1
    found = [_without_copies(members, notes) for members in found] if are_groups else [[run] for run in found[0]]
    if len(found) < 2 and not are_groups:
        hint = "give two runs or more: runs=[outputs/runs/a,outputs/runs/b]"
        raise InputError(Fault("nothing to compare", "runs", "there is only one run", hint))
    found = [sorted(members, key=_order) for members in found]
    return [Group(name, tuple(members)) for name, members in zip(_names(found), found, strict=True)], notes


def baseline_of(groups: Sequence[Group], asked: str | None) -> int:
    """The place of the group that the others are compared with.

    Args:
        groups: all of them.
        asked: its name, or the folder of one of its runs; null is plain, else what an ablation changes, else the first.

    Raises:
        InputError: if there is no such group.
    """
    names = [group.name for group in groups]
    if asked is None:
        plain = [place for place, group in enumerate(groups) if group.runs[0].choices.get("model") == PLAIN]
        usual = [place for place, changes in enumerate(_changes([g.runs[0].choices for g in groups])) if not changes]
        return names.index(PLAIN) if PLAIN in names else [*plain, *usual, 0][0]
    if asked in names:
        return names.index(asked)
    for place, group in enumerate(groups):
        if any(run.folder.resolve() == Path(asked).resolve() for run in group.runs):
            return place
    match = nearest(asked, names)
    meant = f"did you mean baseline={match}? " if match else ""
    hint = f"{meant}choose from {', '.join(names)}, or the folder of a run"
    raise InputError(Fault("unknown group", f"baseline={asked}", "no runs have this name", hint))


def _without_copies(members: Sequence[Trained], notes: list[str]) -> list[Trained]:
    kept: list[Trained] = []
    for run in members:
        first = next((other for other in kept if run.is_copy_of(other)), None)
        if first is None:
            kept.append(run)
        else:
            notes.append(f"{run.folder} is a copy of {first.folder} and counts once.")
    return kept


def _order(run: Trained) -> list[tuple[int, str]]:
    """Fold and seed, numbers by size."""
    return [(len(part), part) for part in run.replicate]


def _names(found: Sequence[Sequence[Trained]]) -> list[str]:
    """What differs between the groups, as short as it tells them apart."""
    settings = [members[0].choices for members in found]
    different = _different(settings)
    names = [_name(of_group, [key for key in different if key != LAST_CHOICE]) for of_group in settings]
    if len(set(names)) < len(names) or not all(names):
        names = [_name(of_group, different) for of_group in settings]
    if changes := _changes(settings):
        names = [_name(of_group, keys or ["model"]) for of_group, keys in zip(settings, changes, strict=True)]
    names = _told_apart(names, [_written(members[0]) for members in found])
    names = _told_apart(names, [{"seed": members[0].seed} for members in found])
    names = [name or _place(members) for name, members in zip(names, found, strict=True)]
    names = _told_apart(names, [{"": _place(members)} for members in found])
    return _numbered(names, [members[0].folder.resolve() for members in found])


def _place(members: Sequence[Trained]) -> str:
    """The folder of a run, or that of the sweep which has several."""
    folder = members[0].folder.resolve()
    return folder.name if len(members) == 1 else folder.parent.name


def _different(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys that do not have the same value in all groups, those of the model first."""
    keys = dict.fromkeys(key for of_group in settings for key in of_group)
    keys = sorted(keys, key=lambda key: not key.startswith("model"))
    return [key for key in keys if len({of_group.get(key) for of_group in settings} - {None}) > 1]


def _changes(settings: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Of an ablation, which changes one thing after the other: the keys that each group changes.

    One group changes none, and none more than half of all, as most of a grid would. Nothing if it is no ablation.
    """
    keys = _different(settings)
    usual = {key: Counter(of_group.get(key) for of_group in settings).most_common(1)[0][0] for key in keys}
    changes = [[key for key in keys if of_group.get(key) != usual[key]] for of_group in settings]
    is_ablation = changes.count([]) == 1 and 2 * max(map(len, changes)) <= len(keys)
    return changes if is_ablation else []


def _name(settings: Mapping[str, str], keys: Iterable[str]) -> str:
    """`hybrid, size=lite`: a model by its name alone."""
    parts = []
    for key in keys:
        if key in settings:
            value = shown(settings[key])
            parts.append(value if key == "model" else f"{key.replace('/', '.').rpartition('.')[2]}={value}")
    return ", ".join(parts)


def _written(run: Trained) -> dict[str, str]:
    return {key: canonical(str(value)) for key, value in (run.settings or {}).items() if "_target_" not in key}


def _told_apart(names: list[str], settings: Sequence[Mapping[str, str | None]]) -> list[str]:
    """Names that are still the same, with what differs between those that have it."""
    longer = list(names)
    for name in {name for name in names if names.count(name) > 1 or not name}:
        same = [place for place, other in enumerate(names) if other == name]
        keys = dict.fromkeys(key for place in same for key in settings[place])
        different = [key for key in keys if len({settings[place].get(key) for place in same}) > 1]
        for place in same:
            own = {key: value for key in different if (value := settings[place].get(key)) is not None}
            parts = [f"{key.rpartition('.')[2]}={shown(value)}" if key else value for key, value in own.items()]
            longer[place] = ", ".join([*([name] if name else []), *parts])
    return longer


def _numbered(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Names of runs that nothing else tells apart: their folders, and a number where these are the same, too."""
    longer, counted = [], Counter[str]()
    for own, folder in zip(names, folders, strict=True):
        same = {other for name, other in zip(names, folders, strict=True) if name == own}
        name = str(folder) if len(same) > 1 else own
        counted[name] += 1
        longer.append(f"{name} ({counted[name]})" if counted[name] > 1 else name)
    return longer
