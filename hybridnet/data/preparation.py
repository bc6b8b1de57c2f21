"""From folders of photos to a table whose splits share no picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from hybridnet.data.copies import find_copies, find_turned
from hybridnet.data.division import Division, divide
from hybridnet.data.extension import Earlier, Place, describe_extension, inherited, read_earlier
from hybridnet.data.given import describe, kept_splits, require_whole_groups
from hybridnet.data.grouping import join_groups, read_groups
from hybridnet.data.labels import clean_label
from hybridnet.data.pictures import Named, Picture, class_folders, list_folder, list_table, read_pictures, read_table
from hybridnet.data.progress import Track
from hybridnet.data.report import Report, no_usable
from hybridnet.data.source import Table
from hybridnet.errors import Fault, InputError
from hybridnet.wording import lines_of, listing

ROOT = "root=<folder of class folders, or a CSV table with the columns path and label>"
OF_DIVISION = ("split", "fold")  # columns that tell how a table is divided
FEW = 5  # causes that are told where no file is usable


def divide_pictures(
    root: Path,
    division: Division,
    *,
    folder: Path,
    own: Collection[Path],
    track: Track,
    extend: Path | None = None,
) -> tuple[Table, Report]:
    """Decode every file below root once, find the copies, and divide the pictures.

    Where root's folders are splits already (`list_folder`), that division is kept: what they lack is drawn from the
    pictures for training; folds divide those for training and validation anew. What an earlier table has stays where
    it is, new pictures of its groups join these, and the others are drawn so that every split comes to its share.

    Args:
        root: folder with one folder for each class, or a CSV table with the columns path and label.
        division: the shares, groups and seed.
        folder: of the table; paths are relative to it where pictures lie in it, else absolute.
        own: files that are ours, and are not mentioned.
        track: shows the progress.
        extend: the earlier table.

    Raises:
        InputError: if root has fewer than two classes with pictures, a class has too few, root's own division has
            none for training or divides a group of the user's, or the earlier table cannot be extended.
    """
    if not (root.is_dir() or root.is_file()):
        raise InputError(Fault("missing folder", f"root={root}", "no such folder or table", ROOT))
    division.check()
    table = root if root.is_file() else None
    groups, own = division.groups, _below(root, own)
    named, left_out = (list_table(root), []) if table else list_folder(root, own=own)
    if named:  # what is wrong with the options is said before the pictures are read, which may take minutes
        _earlier(extend, named, division)
        if groups is not None:
            read_groups(named, groups, table=table)
    everything, left_out, unusable = _read(root, named, left_out, own=own, track=track)
    thumbnails = np.stack([picture.thumbnail for picture in everything])
    digests = [picture.digest for picture in everything]
    copies = find_copies(thumbnails, digests, similar=division.copies == "similar")
    user_groups = read_groups(everything, groups, table=table) if groups is not None else [None] * len(everything)
    earlier = _earlier(extend, everything, division)
    together = join_groups(copies.tolist(), user_groups, earlier.groups)

    stays, dropped = inherited(everything, together, earlier)
    if division.on_duplicates == "drop":
        dropped |= _drop(everything, copies, without=dropped, places=earlier.places)
    kept = [index for index in range(len(everything)) if index not in dropped]
    pictures, group_of = [everything[i] for i in kept], join_groups([together[i] for i in kept])
    _require_classes(everything, pictures)
    given = kept_splits(pictures, test=division.test, folds=division.folds)
    labels = [picture.label for picture in pictures]
    places, fold_of = divide(labels, group_of, division, given=given, stays=[stays[i] for i in kept])
    if any(given) or extend:
        source = f"extend={extend}" if extend else "root's folders"
        require_whole_groups([user_groups[i] for i in kept], places, groups=groups, source=source)
        # Copies in two splits of root's are told; one group in two splits would be a wrong table.
        group_of = join_groups(list(zip(group_of, places, strict=True)))
    note = describe(pictures, given, valid=division.valid, test=division.test, folds=division.folds)

    columns_of_root = read_table(table, "root", ())[0] if table and not extend else {}
    report = Report(
        root=str(root),
        pictures=pictures,
        splits=places,
        folds=fold_of,
        copies=_sets_of_copies(everything, copies),
        groups=groups,
        user_groups=user_groups,
        joined=group_of,
        dropped=list(dropped.values()),
        left_out=left_out,
        unusable=unusable,
        note=describe_extension(earlier, places, kept) if extend else note,
        unused=[name for name in OF_DIVISION if name in columns_of_root],
        **_kinds_of_copies(everything, copies, find_turned(thumbnails, copies)),
    )
    top, target = (root.parent if table else root).resolve(), folder.resolve()
    paths = [_path(picture.name, top, target) for picture in pictures]
    columns = {"path": paths, "label": labels, "split": places, "group": group_of}
    columns |= {"fold": fold_of} if division.folds else {}
    label2id = {label: index for index, label in enumerate(sorted(set(labels)))}
    return Table(list(zip(*columns.values(), strict=True)), label2id, tuple(columns)), report


def _read(
    root: Path, named: Sequence[Named], left_out: list[Fault], *, own: Collection[Path], track: Track
) -> tuple[list[Picture], list[Fault], dict[str, int]]:
    """The pictures, the files that are none, and how many files the classes without any picture have.

    Raises:
        InputError: if there are fewer than two classes with pictures.
    """
    found = list(track(read_pictures(named), "Reading pictures", len(named)))
    pictures = [item for item in found if isinstance(item, Picture)]
    left_out = sorted(left_out + [item for item in found if isinstance(item, Fault)], key=lambda fault: fault.where)
    if not pictures:
        hint = "root must have one folder for each class, with pictures in it"
        hint = "paths in the table are relative to its folder" if root.is_file() else hint
        causes = Counter(fault.cause for fault in left_out).most_common(FEW)
        told = lines_of([f"{count} × {cause}" for cause, count in causes])
        raise InputError(Fault("no pictures", f"root={root}", f"{len(left_out)} files, none usable{told}", hint))
    unusable = _unusable_classes(root, named, pictures, left_out, own)
    _require_two_classes(pictures, root, unusable)
    return pictures, left_out, unusable


def _below(root: Path, files: Collection[Path]) -> list[Path]:
    """Those of the files that lie below root, as a walk through it names them; one may be absolute, the other not."""
    top, *others = (Path(os.path.abspath(path)) for path in (root, *files))  # noqa: PTH100 - as in `_path`
    return [root / file.relative_to(top) for file in others if file.is_relative_to(top)]


def _path(name: str, top: Path, folder: Path) -> str:
    """Relative to the table's folder where it lies in it. Links below root stay: two may lead to one file."""
    file = Path(os.path.abspath(top / name))  # noqa: PTH100 - `resolve` would follow links
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()


def _earlier(extend: Path | None, pictures: Sequence[Picture | Named], division: Division) -> Earlier:
    if extend is None:
        nothing = [None] * len(pictures)
        return Earlier(Path(), 0, nothing, nothing)
    if any(picture.split for picture in pictures):
        cause = "root's folders are splits already, which are kept"
        raise InputError(Fault("wrong value", f"extend={extend}", cause, "leave extend out"))
    return read_earlier(extend, pictures, folds=division.folds)


def _drop(
    pictures: Sequence[Picture], copies: np.ndarray, *, without: Collection[int], places: Sequence[Place | None]
) -> dict[int, Fault]:
    """The pictures to leave out, and why: all copies but the largest, and all of them if their labels differ.

    Args:
        pictures: of which those of the indices `without` are left out already.
        copies: the number of each one's group.
        places: in an earlier table, whose picture is kept, however large the others are.
    """
    groups: dict[int, list[int]] = {}
    for index, group in enumerate(copies.tolist()):
        if index not in without:
            groups.setdefault(group, []).append(index)
    dropped = {}
    for group in groups.values():
        first = min(group, key=lambda i: (places[i] is None, -pictures[i].num_pixels, pictures[i].name))
        labels = sorted({pictures[index].label for index in group})
        cause = f"copy of {pictures[first].name}"
        if len(labels) > 1:
            first, cause = None, f"copies of one picture are labelled {', '.join(labels)}"
        dropped |= {index: Fault("left out", pictures[index].name, cause) for index in group if index != first}
    return dict(sorted(dropped.items()))


def _require_classes(everything: Sequence[Picture], kept: Sequence[Picture]) -> None:
    lost = sorted({p.label for p in everything} - {p.label for p in kept})
    if lost:
        cause = "on_duplicates=drop leaves out all of its pictures: each has a copy with another label"
        hint = "on_duplicates=keep lists them in the report; if they just look alike, copies=same"
        raise InputError(*(Fault("too few pictures", f"class '{label}'", cause, hint) for label in lost))


def _unusable_classes(
    root: Path, named: Sequence[Named], pictures: Sequence[Picture], left_out: Sequence[Fault], own: Collection[Path]
) -> dict[str, int]:
    """The classes without any picture, and how many files of each are left out."""
    if root.is_file():
        label_of = {item.name: item.label for item in named}
        labels, lost = set(label_of.values()), Counter(label_of[fault.where] for fault in left_out)
    else:
        depth = 2 if any(item.split for item in named) else 1
        labels = class_folders(root, depth=depth, own=own)
        parts = [fault.where.split("/") for fault in left_out]
        lost = Counter(clean_label(names[depth - 1]) for names in parts if len(names) > depth)
    return {label: lost[label] for label in sorted(labels - {picture.label for picture in pictures})}


def _require_two_classes(pictures: Sequence[Picture], root: Path, unusable: dict[str, int]) -> None:
    labels = {picture.label for picture in pictures}
    if len(labels) > 1:
        return
    hint = "the table needs rows of another label" if root.is_file() else "root must have one folder for each class"
    folders = {tuple(picture.name.split("/")[:-1]) for picture in pictures}
    if not root.is_file() and len({names[1] for names in folders if len(names) > 1}) > 1:
        hint = f"is root one level too high? root={root / next(iter(folders))[0]}"
    cause = f"one class only ({', '.join(map(repr, labels))}): there is nothing to tell apart"
    causes = listing([cause, *(no_usable(label, count) for label, count in unusable.items())])
    raise InputError(Fault("too few classes", f"root={root}", causes, hint))


def _sets_of_copies(pictures: Sequence[Picture], copies: np.ndarray) -> list[list[Picture]]:
    """The groups of two and more."""
    members: list[list[Picture]] = [[] for _ in range(copies.max() + 1)]
    for picture, group in zip(pictures, copies, strict=True):
        members[group].append(picture)
    return [group for group in members if len(group) > 1]


def _kinds_of_copies(pictures: Sequence[Picture], copies: np.ndarray, is_turned: np.ndarray) -> dict[str, int]:
    """How many pictures are the same file as an earlier one of their group, and how many others are turned."""
    seen: set[tuple[int, bytes]] = set()
    same_bytes = turned = 0
    for picture, group, is_other_view in zip(pictures, copies.tolist(), is_turned, strict=True):
        is_same = (group, picture.digest) in seen
        same_bytes += is_same
        turned += bool(is_other_view) and not is_same
        seen.add((group, picture.digest))
    return {"same_bytes": same_bytes, "turned": turned}
