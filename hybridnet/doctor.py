"""`python -m hybridnet.doctor data.metadata=… data.label2id=…`: checks a pair that somebody else made."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rich
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hybridnet import drawing, figures
from hybridnet.console import WIDTH_OF_FILES, show, track
from hybridnet.data.album import Album, disguised, look_at_all
from hybridnet.data.image import thumbnail
from hybridnet.data.labels import examine_label2id
from hybridnet.data.rows import Row
from hybridnet.data.table import SPLITS, examine
from hybridnet.data.unusable import unusable_images
from hybridnet.errors import Fault, InputError, collected
from hybridnet.files import output_folder, write_text
from hybridnet.settings import Natural, checked
from hybridnet.wording import lines_of, listing, number_of

MOST_CLASSES_SHOWN = 20  # in the picture
MOST_CLASSES_LISTED = 50  # in the table
SAMPLES = 8
FEW = 5  # examples in a note
TILE = 160  # pixels
IMBALANCE = 10
REPAIR = "repair these files or remove their rows, or train without them: data.on_bad_image=skip"
LEAK = "python -m hybridnet.prepare keeps copies in one split; data.on_leak=skip does not train on them"
DISAGREE = "correct the labels, or remove these rows: training cannot learn both"


@checked
def doctor(*, metadata: str, label2id: str, fold: Natural | None, out: str) -> None:
    """Look for everything that can be wrong with a table, its labels and its pictures; decodes every picture.

    Prints a report, and writes it (`report.txt`) and a picture with samples of each class (`samples.png`) into `out`.

    Args:
        metadata: table with the columns path, label, split.
        label2id: JSON object from label to class index.
        fold: with a number, the column `fold` decides what is for validation, as in training.
        out: folder for the report; it is made if it is missing.

    Raises:
        InputError: with every fault that was found, after the report was printed and written; and if it cannot be
            written, which does not keep it from being printed.
    """
    folder, unwritten = None, []
    with collected(unwritten):
        folder = output_folder(out)
    faults: list[Fault] = []
    notes: list[str] = []
    tables: list[Table] = []
    samples: Image.Image | None = None
    classes, examined = None, None
    with collected(faults):
        classes, label_faults = examine_label2id(Path(label2id))
        faults += label_faults
    with collected(faults):
        examined = examine(Path(metadata), classes, fold=fold)
    if examined:
        rows, splits, table_faults = examined
        faults += table_faults
        album = look_at_all(rows, Path(metadata).parent, track=track)
        faults += _picture_faults(rows, splits, album, metadata=Path(metadata))
        names = [*(classes or {}), *sorted({row.label for row in rows} - set(classes or {}))]
        notes += _notes(rows, splits, album, list(classes or names))
        tables += [_balance_table(rows, splits, names), _picture_table(album)]
        samples = _samples(rows, album, names, metadata=Path(metadata)) if album.pictures else None
    notes = [f"note: {note}" for note in notes]
    end = number_of(len(faults), "fault") if faults else "no faults"
    show(*tables, *notes)
    if folder:
        with collected(unwritten):
            show(_write(folder, tables, [*map(str, faults), *notes], samples=samples, end=end))
    show(end)
    if faults or unwritten:
        raise InputError(*faults, *unwritten)


def _picture_faults(rows: Sequence[Row], splits: Sequence[str], album: Album, *, metadata: Path) -> Iterator[Fault]:
    """Files that cannot be used, and copies in two splits or with two labels."""
    where = f"data.metadata={metadata}"
    if album.causes:
        bad = [(rows[number].line, rows[number].path, cause) for number, cause in album.causes.items()]
        yield unusable_images(bad, metadata, len(rows), repair=REPAIR)
    leaks = [_equation(rows, group, splits) for group in album.copies if len({splits[n] for n in group}) > 1]
    if leaks:
        cause = f"{number_of(len(leaks), 'picture')} in more than one split{lines_of(leaks)}"
        yield Fault("copies", where, cause, LEAK)
    labels = [row.label for row in rows]
    contrary = [_equation(rows, group, labels) for group in album.copies if len({labels[n] for n in group}) > 1]
    if contrary:
        cause = f"{number_of(len(contrary), 'picture')} with more than one label{lines_of(contrary)}"
        yield Fault("copies", where, cause, DISAGREE)


def _equation(rows: Sequence[Row], group: Sequence[int], values: Sequence[str]) -> str:
    """`line 3 'a.jpg' (train) = line 9 'b.png' (valid)`: the first picture, and the first ones that differ from it."""
    others = [number for number in group[1:] if values[number] != values[group[0]]]
    shown = [f"line {rows[n].line} {rows[n].path!r} ({values[n]})" for n in [group[0], *others[:2]]]
    return " = ".join(shown) + (f" … ({len(group)} copies in all)" if len(group) > len(shown) else "")


def _notes(rows: Sequence[Row], splits: Sequence[str], album: Album, names: Sequence[str]) -> Iterator[str]:
    """What is no fault but may not be meant."""
    if len(names) == 1:
        yield f"one class only ({names[0]!r}): there is nothing to tell apart"
    meant = [(row.label, split) for row, split in zip(rows, splits, strict=True)]
    counts = Counter(meant)
    # Where no row is for validation that is a fault, or the fault of splits and labels that are misspelt.
    has_rows = {label for label, _ in meant}
    without = [repr(name) for name in names if name in has_rows and not counts[name, "valid"]]
    if without and "valid" in splits:
        yield f"no validation picture of {listing(without)}"
    trained = sorted((counts[name, "train"], name) for name in names if counts[name, "train"])
    if trained and trained[-1][0] > IMBALANCE * trained[0][0]:
        (least, rare), (most, common) = trained[0], trained[-1]
        yield (
            f"training pictures are unbalanced: {most:,} of {common!r}, {least:,} of {rare!r}; "
            "data.class_weights=balanced or data.sampler=balanced may help"
        )
    if again := [(number, before) for number, before in sorted(album.again.items()) if meant[number] == meant[before]]:
        pairs = [f"line {rows[number].line} = line {rows[before].line}" for number, before in again]
        yield f"{number_of(len(pairs), 'row')} with the file of an earlier row: {listing(pairs, limit=FEW)}"
    harmless = [group for group in album.copies if len({meant[number] for number in group}) == 1]
    if harmless:
        groups = [" = ".join(f"line {rows[number].line}" for number in group[:4]) for group in harmless]
        yield f"{number_of(len(groups), 'picture')} with copies in the same split: {listing(groups, limit=FEW)}"
    if wrong := list(disguised(rows, album)):
        yield f"the extension says something else than the content, which decides: {listing(wrong, limit=FEW)}"
    if len(names) > MOST_CLASSES_SHOWN and album.pictures:
        yield f"samples.png shows the first {MOST_CLASSES_SHOWN} of {len(names)} classes"


def _balance_table(rows: Sequence[Row], splits: Sequence[str], names: Sequence[str]) -> Table:
    counts = Counter((row.label, split) for row, split in zip(rows, splits, strict=True))
    used = [split for split in SPLITS if split in splits]
    shown = names[:MOST_CLASSES_LISTED]
    table = Table(title=f"{len(rows):,} rows, {len(names)} classes", title_justify="left", box=rich.box.SIMPLE)
    table.add_column("class", overflow="fold")
    for heading in [*used, "all", "share"]:
        table.add_column(heading, justify="right", no_wrap=True)
    for name in shown:
        total = sum(counts[name, split] for split in used)
        numbers = [f"{counts[name, split]:,}" for split in used]
        table.add_row(Text(name), *numbers, f"{total:,}", f"{total / max(1, len(rows)):.1%}")
    if len(names) > len(shown):
        table.add_row(f"… and {len(names) - len(shown)} more")
    table.add_section()
    sums = [sum(split == name for split in splits) for name in used]
    table.add_row("all", *(f"{number:,}" for number in sums), f"{sum(sums):,}", f"{sum(sums) / max(1, len(rows)):.1%}")
    return table


def _picture_table(album: Album) -> Table:
    headers = [picture.header for number, picture in sorted(album.pictures.items()) if number not in album.again]
    num_files = len({*album.pictures, *album.causes} - set(album.again))
    table = Table(title=f"{num_files:,} files", title_justify="left", show_header=False, box=rich.box.SIMPLE)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("decoded", f"{len(headers):,}")
    table.add_row("unusable", f"{num_files - len(headers):,}")
    if headers:
        sizes = sorted(((h.width, h.height) for h in headers), key=lambda size: size[0] * size[1])
        places = {"smallest": 0, "median": len(sizes) // 2, "largest": -1}
        shown = [f"{name} {sizes[place][0]}×{sizes[place][1]}" for name, place in places.items()]
        table.add_row("width×height", ", ".join(shown))
        table.add_row("format", _shares(h.format for h in headers))
        table.add_row("mode", _shares(h.mode for h in headers))
    return table


def _shares(values: Iterator[str]) -> str:
    counts = Counter(values)
    return ", ".join(f"{value} {count:,} ({count / counts.total():.1%})" for value, count in counts.most_common())


def _samples(rows: Sequence[Row], album: Album, names: Sequence[str], *, metadata: Path) -> Image.Image:
    """Samples from everywhere in the table, each class in a row of its own."""
    members: dict[str, list[int]] = {name: [] for name in names}
    for number in sorted(set(album.pictures) - set(album.again)):
        members[rows[number].label].append(number)
    shown = {name: found for name, found in members.items() if found}
    tiles = {}
    for name, found in list(shown.items())[:MOST_CLASSES_SHOWN]:
        chosen = np.unique(np.linspace(0, len(found) - 1, SAMPLES).round().astype(int))
        tiles[name] = [thumbnail(metadata.parent / rows[found[place]].path, TILE) for place in chosen]
    title = f"{metadata.name}: up to {SAMPLES} pictures of each class"
    return figures.plot_classes(tiles, title=title, columns=SAMPLES)


def _write(
    folder: Path, tables: Sequence[Table], lines: Sequence[str], *, samples: Image.Image | None, end: str
) -> str:
    """Write the two files, and say so at the end of the report; a full disk is an InputError."""
    report, picture = folder / "report.txt", folder / "samples.png"
    wrote = f"wrote {', '.join(map(str, [report, picture] if samples else [report]))}"
    text = io.StringIO()
    console = Console(file=text, width=WIDTH_OF_FILES, force_terminal=False, color_system=None)
    show(*tables, *lines, wrote, end, console=console)
    try:
        write_text(report, "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n")
        if samples:
            drawing.write(samples, picture)
    except OSError as error:
        hint = "choose another one with out=<folder>"
        raise InputError(Fault("unusable folder", f"out={folder}", error.strerror or str(error), hint)) from error
    return wrote


if __name__ == "__main__":
    from hybridnet.launch import call

    # The line that trains may be given as it is: data=metadata only says where these settings stand.
    sys.argv[1:] = [word for word in sys.argv[1:] if word != "data=metadata"]
    call("doctor")
