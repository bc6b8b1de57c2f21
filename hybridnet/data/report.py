"""What a preparation found, in words: the same text for the terminal, shortened, and for report.txt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from hybridnet.data.album import SUFFIXES
from hybridnet.data.image import CONVERT
from hybridnet.data.labels import lookalikes
from hybridnet.data.pictures import Picture
from hybridnet.data.table import SPLITS
from hybridnet.errors import Fault
from hybridnet.wording import LISTED, number_of

MOST_CLASSES = 50  # in the terminal
PICTURE_SUFFIXES = set().union(*SUFFIXES.values())


@dataclass(frozen=True)
class Report:
    """The findings.

    Attributes:
        root: as the user wrote it.
        pictures: that are in the table, with their `splits` and `folds` (empty texts where there are none).
        copies: the groups of two and more pictures, before any was dropped.
        same_bytes: how many of them are the same file as an earlier one of their group; of the rest `turned` are
            rotated or mirrored against the first one.
        groups: the user's option, None if not given; then also `user_groups`, None for a picture without one.
        joined: the number of each picture's group, of copies and the user's joined.
        dropped: the copies that are left out.
        left_out: the files that are no pictures or cannot be used.
        unusable: the classes without a usable picture, and how many files of each are left out.
        note: what became of splits that are kept, root's own or an earlier table's; "" where there are none.
        unused: the columns of a table as root that say how it is divided already, and are not used.
    """

    root: str
    pictures: Sequence[Picture]
    splits: Sequence[str]
    folds: Sequence[str]
    copies: Sequence[Sequence[Picture]]
    same_bytes: int
    turned: int
    groups: str | None
    user_groups: Sequence[str | None]
    joined: Sequence[int]
    dropped: Sequence[Fault]
    left_out: Sequence[Fault]
    unusable: Mapping[str, int]
    note: str
    unused: Sequence[str]

    def text(self, *, shortened: bool) -> str:
        """The whole report; shortened lists at most 50 classes, and 20 of any other kind."""
        listed = LISTED if shortened else None
        summary = _summary(self.left_out) if shortened else _lines(self.left_out)
        classes = number_of(len({picture.label for picture in self.pictures}), "class", "classes")
        paragraphs = [
            [f"{number_of(len(self.pictures), 'picture')} of {classes} in {self.root}"],
            [self.note] if self.note else [],
            self._table(MOST_CLASSES if shortened else None),
            _first([f"warning: {line}" for line in self._unused() + self._classes()], listed, indent=""),
            [self._copies(), *_first([_names(group) for group in self.copies], listed)],
            self._conflicts(listed),
            self._leaks(listed),
            self._user_groups(),
            _section(f"{number_of(len(self.dropped), 'copy', 'copies')} left out", _lines(self.dropped), listed)
            if self.dropped
            else [],
            _section(f"{number_of(len(self.left_out), 'file')} left out", summary, listed),
        ]
        return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n"

    def warnings(self) -> list[str]:
        """What nobody should miss who does not read the report, a line each: without the word `warning: `."""
        left_out = [f"{number_of(len(self.left_out), 'file')} left out"] if self.left_out else []
        headings = [line for lines in (self._conflicts(0), self._leaks(0)) for line in lines[:1]]
        return left_out + self._classes() + [line.removeprefix("warning: ").removesuffix(":") for line in headings]

    def _unused(self) -> list[str]:
        if not self.unused:
            return []
        names = " and ".join(self.unused)
        return [f"all is divided anew, whatever root says of {names} (extend={self.root} keeps that division)"]

    def _classes(self) -> list[str]:
        alike = lookalikes(picture.label for picture in self.pictures)
        cases = [f"classes that differ in upper and lower case only: {', '.join(map(repr, group))}" for group in alike]
        return cases + [no_usable(*item) for item in self.unusable.items()]

    def _table(self, listed: int | None) -> list[str]:
        columns = [(split, self.splits, split) for split in SPLITS if split in self.splits]
        columns += [(f"fold {fold}", self.folds, fold) for fold in sorted(set(self.folds) - {""}, key=int)]
        labels = sorted({picture.label for picture in self.pictures})
        rows = [["class", *(heading for heading, _, _ in columns)]]
        counts = [Counter(zip((p.label for p in self.pictures), values, strict=True)) for _, values, _ in columns]
        for label in labels[:listed]:
            rows.append([label, *(f"{c[label, value]:,}" for c, (_, _, value) in zip(counts, columns, strict=True))])
        if len(rows) <= len(labels):
            rows.append([f"… and {len(labels) - len(rows) + 1:,} more, see report.txt", *[""] * len(columns)])
        rows.append(["all", *(f"{list(values).count(value):,}" for _, values, value in columns)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]

    def _copies(self) -> str:
        if not self.copies:
            return "no picture is a copy of another"
        held = sum(map(len, self.copies))
        anew = held - len(self.copies) - self.same_bytes - self.turned
        kinds = {"the same file": self.same_bytes, "encoded anew or resized": anew, "rotated or mirrored": self.turned}
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        largest = max(map(len, self.copies))
        groups = number_of(len(self.copies), "group")
        return (
            f"{groups} of copies with {held} pictures; beside the first of each: {listed}; the largest has {largest}:"
        )

    def _conflicts(self, listed: int | None) -> list[str]:
        found = [_names(group) for group in self.copies if len({picture.label for picture in group}) > 1]
        if not found:
            return []
        groups = number_of(len(found), "group")
        stay = "" if self.note else "they stay in one split; "
        fate = "all are left out" if self.dropped else f"{stay}on_duplicates=drop leaves them out"
        heading = f"warning: {groups} of copies with different labels, and nobody knows which is right ({fate})"
        return _section(heading, found, listed)

    def _leaks(self, listed: int | None) -> list[str]:
        split_of = {picture.file: split for picture, split in zip(self.pictures, self.splits, strict=True)}
        found = [group for group in self.copies if len({split_of.get(p.file) for p in group} - {None}) > 1]
        if not (found and self.note):
            return []
        groups = number_of(len(found), "group")
        fate = "training refuses those of valid in train; on_duplicates=drop keeps the largest of each group"
        heading = f"warning: {groups} of copies in more than one of the splits that are kept ({fate})"
        return _section(heading, [_names(group) for group in found], listed)

    def _user_groups(self) -> list[str]:
        if self.groups is None:
            return []
        named = [group for group in self.user_groups if group is not None]
        alone = len(self.user_groups) - len(named)
        groups = f"{number_of(len(set(named)), 'group')} with {number_of(len(named), 'picture')}"
        largest = max(Counter(self.joined).values())
        joined = f"joined with the copies: {number_of(len(set(self.joined)), 'group')}, the largest with {largest:,}"
        return [f"groups={self.groups}: {groups}; without a group: {alone}; {joined}"]


def no_usable(label: str, num_left_out: int) -> str:
    """`class 'mold' has no usable picture (5 files left out)`."""
    files = f"{number_of(num_left_out, 'file')} left out" if num_left_out else "no file in it"
    return f"class {label!r} has no usable picture ({files})"


def _names(group: Iterable[Picture]) -> str:
    return " = ".join(picture.name for picture in group)


def _lines(faults: Iterable[Fault]) -> list[str]:
    return [f"{fault.where}: {fault.cause}" for fault in faults]


def _summary(left_out: Sequence[Fault]) -> list[str]:
    """Damaged pictures and folders one by one; of other files only how many there are of each extension."""
    is_told = [fault.where.endswith("/") or _suffix(fault) in PICTURE_SUFFIXES for fault in left_out]
    told = [fault for fault, is_listed in zip(left_out, is_told, strict=True) if is_listed]
    rest = [fault for fault, is_listed in zip(left_out, is_told, strict=True) if not is_listed]
    kinds = [fault.cause if fault.cause.endswith(CONVERT) else "no pictures" for fault in rest]
    others = Counter((_suffix(fault) or "no extension", kind) for fault, kind in zip(rest, kinds, strict=True))
    counts = [f"{count} × {suffix}: {kind}" for (suffix, kind), count in sorted(others.items())]
    return counts + _lines(told)


def _suffix(fault: Fault) -> str:
    return PurePosixPath(fault.where).suffix.lower()


def _section(heading: str, lines: Sequence[str], listed: int | None) -> list[str]:
    return [f"{heading}{':' if lines else ''}", *_first(lines, listed)]


def _first(lines: Sequence[str], listed: int | None, *, indent: str = "  ") -> list[str]:
    shown = [f"{indent}{line}" for line in lines[:listed]]
    rest = len(lines) - len(shown)
    return [*shown, f"{indent}… and {rest} more, see report.txt"] if rest else shown
