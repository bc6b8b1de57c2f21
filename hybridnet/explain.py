"""`python -m hybridnet.explain run=<folder> images=…`: a figure for each picture that shows what the model looks at."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import rich
from rich.table import Table
from rich.text import Text

from hybridnet.comparison.predictions import COLUMNS, NAME, PROBABILITY
from hybridnet.console import show, track
from hybridnet.data.listing import EXAMPLES, list_pictures
from hybridnet.data.pictures import read_table
from hybridnet.data.table import is_safe
from hybridnet.errors import Fault, InputError, collected
from hybridnet.files import common_folder, csv_text, output_folder, shortened, write_text
from hybridnet.inference.runs import RunSettings, folders_of, name_of
from hybridnet.settings import Count, checked
from hybridnet.wording import lines_of, listing, number_of

if TYPE_CHECKING:
    from hybridnet.inference.trained import TrainedModel

MOST_LISTED = 20  # in the terminal; explanations.csv has all


class Chosen(NamedTuple):
    """A file to be explained, and its true class where that is known."""

    file: Path
    label: str | None


class Drawn(NamedTuple):
    """A figure, and what the model says."""

    figure: str
    chosen: Chosen
    prediction: str
    probability: float


@checked
def explain(
    *,
    run: str | None,
    images: str | Sequence[str] | None,
    num_images: Count,
    metadata: str | None,
    label: str | int | None,
    out: str | None,
    extra_targets: Sequence[str],
) -> None:
    """Draw a figure for each picture, `<name>.png`, and write `explanations.csv` with what the model says to each.

    Args:
        run: the folder of a run, or its best_model.pt.
        images: a file, folder, pattern or list of them; None takes the most confident mistakes, and the most confident
            right answers, of the run's own predictions.csv.
        num_images: how many of those.
        metadata: table with the columns path and label: the true classes.
        label: the true class of pictures that the table does not name; a class may be called 1.
        out: folder for the figures, which is made if it is missing; None is outputs/explain/<name of the run's folder>.
        extra_targets: see `load_trained`.

    Raises:
        InputError: for a run, pictures, a table, a class or a folder that cannot be used, all of them at once; and if
            none of the files is a picture.
    """
    label = None if label is None else str(label)
    faults: list[Fault] = []
    place, pictures, model = None, [], None
    with collected(faults):
        (place,) = folders_of(run)
    if images is not None or place is not None:
        with collected(faults):
            pictures = _named(images, metadata, label) if images is not None else _told(place, metadata, num_images)
    if place is not None:
        with collected(faults):
            model = _model(place, extra_targets)
            faults += _unknown_classes(model.classes, pictures, label)
        with collected(faults):
            folder = output_folder(Path(out) if out else Path("outputs", "explain", name_of(place)))
    if faults:
        raise InputError(*faults)
    drawn, causes = _draw_all(model, pictures, folder)
    if not drawn:
        cause = f"no file of {len(pictures)} is one{lines_of(causes)}"
        raise InputError(Fault("no pictures", f"images={images}" if images else f"run={run}", cause, EXAMPLES))
    rows = [(d.figure, d.chosen.file, d.chosen.label or "", d.prediction, f"{d.probability:.6f}") for d in drawn]
    heading = ("figure", "path", "label", "prediction", "probability")
    write_text(folder / "explanations.csv", csv_text([heading, *rows]))
    _report(drawn, causes, folder, has_table=metadata is not None)


def _model(run: Path, extra_targets: Sequence[str]) -> TrainedModel:
    from hybridnet.inference.explanation import require_classifier  # torch is not needed to find a misspelt key
    from hybridnet.inference.trained import load_trained

    model = load_trained(run, extra_targets=extra_targets)
    require_classifier(model.network)
    return model


def _named(images: str | Sequence[str], metadata: str | None, label: str | None) -> list[Chosen]:
    """The files that the user names, with the classes that the table, or else `label`, says."""
    table = Path(metadata) if metadata else None
    labels = {}
    if table:
        columns, _ = read_table(table, "data.metadata", ("path", "label"))
        files = [os.path.realpath(table.parent / path) if is_safe(path) else None for path in columns["path"]]
        labels = dict(zip(files, columns["label"], strict=True))
    return [Chosen(file, labels.get(os.path.realpath(file), label)) for file in list_pictures(images)]


def _told(run: Path, metadata: str | None, num_images: int) -> list[Chosen]:
    """The most confident mistakes and right answers of a run's validation, as far as their pictures are there.

    Raises:
        InputError: if there is no predictions.csv, it lacks a column, or no picture of it can be found.
    """
    settings = RunSettings(run)
    predictions = settings.folder / NAME
    where = f"run={run}"
    hint = "images=<file, folder or pattern> names others; data.metadata=<table> says where these are"
    if not predictions.is_file():
        raise InputError(Fault("missing value", "images", f"{where} has no {NAME} to choose from", EXAMPLES))
    columns, _ = read_table(predictions, "run", COLUMNS)
    rows = zip(*(columns[name] for name in COLUMNS), _probabilities(columns, where, hint=hint), strict=True)
    table = Path(metadata) if metadata else settings.file("data.metadata")
    base = table.parent if table else settings.folder
    found = []
    for path, label, prediction, probability in rows:
        if is_safe(path) and (base / path).is_file():
            found.append((probability, label == prediction, Chosen(base / path, label)))
    if not found:
        cause = f"none of the pictures that {NAME} names is there, such as {base / columns['path'][0]}"
        raise InputError(Fault("missing pictures", where, cause, hint))
    return _most_confident(found, num_images)


def _probabilities(columns: Mapping[str, Sequence[str]], where: str, *, hint: str) -> list[float]:
    """That of each row's prediction.

    Raises:
        InputError: if a class that is predicted has no column, or a probability is no number.
    """
    names = [f"{PROBABILITY}{label}" for label in columns["prediction"]]
    if missing := sorted(set(names) - set(columns)):
        raise InputError(Fault("missing columns", where, f"{NAME} has no {listing(missing)}", hint))
    try:
        return [float(columns[name][row]) for row, name in enumerate(names)]
    except ValueError as error:
        cause = f"{NAME} has a probability that is no number: {error}"
        raise InputError(Fault("wrong rows", where, cause, hint)) from error


def _most_confident(found: Sequence[tuple[float, bool, Chosen]], num: int) -> list[Chosen]:
    """Half of them mistakes, as far as there are, then right answers, of every class in turn.

    Args:
        found: probability of the prediction, whether it is right, and the picture.
        num: how many.
    """
    ordered = sorted(found, key=lambda each: -each[0])
    wrong = [chosen for _, is_right, chosen in ordered if not is_right]
    right = [chosen for _, is_right, chosen in ordered if is_right]
    seen: Counter[str | None] = Counter()
    rounds = []
    for place, chosen in enumerate(right):
        rounds.append((seen[chosen.label], place))
        seen[chosen.label] += 1
    num_wrong = min(len(wrong), max(num // 2, num - len(right)))
    return [*wrong[:num_wrong], *(right[place] for _, place in sorted(rounds)[: num - num_wrong])]


def _unknown_classes(classes: Sequence[str], pictures: Sequence[Chosen], label: str | None) -> Iterator[Fault]:
    """Classes that pictures have, and the model does not."""
    unknown = Counter(chosen.label for chosen in pictures if chosen.label not in (None, *classes))
    known = f"the model has {listing(classes)}"
    if label is not None and label not in classes:
        unknown.pop(label, None)
        yield Fault("unknown class", f"label={label}", known)
    for name, count in list(unknown.items())[:MOST_LISTED]:
        yield Fault("unknown class", "data.metadata", f"{number_of(count, 'picture')} with the label {name!r}; {known}")


def _draw_all(model: TrainedModel, pictures: Sequence[Chosen], folder: Path) -> tuple[list[Drawn], list[str]]:
    """Every figure that can be drawn, and why the others cannot."""
    from hybridnet.inference.explanation import explain as explanation_of
    from hybridnet.inference.explanation_figure import draw

    drawn, causes = [], []
    names = figure_names([chosen.file for chosen in pictures])
    for name, chosen in track(zip(names, pictures, strict=True), "explaining", len(pictures)):
        try:
            explained = explanation_of(model, chosen.file, true_label=chosen.label)
        except InputError as error:
            causes.append(f"{chosen.file}: {error.faults[0].cause}")
            continue
        draw(explained, folder / name)
        drawn.append(Drawn(name, chosen, explained.prediction.label, explained.prediction.probability))
    return drawn, causes


def figure_names(files: Sequence[Path]) -> list[str]:
    """`<stem>.png` for each file; where several have one stem, with their folders before it, or a number after it.

    Two names never differ in upper and lower case alone.
    """
    stems = Counter(file.stem.casefold() for file in files)
    together = {
        stem: common_folder(file for file in files if file.stem.casefold() == stem)
        for stem, count in stems.items()
        if count > 1
    }
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        common = together.get(file.stem.casefold())
        parts = file.absolute().relative_to(common).with_suffix("").parts if common else (file.stem,)
        name = first = "_".join(parts)
        number = 2
        while name.casefold() in taken:
            name, number = f"{first}_{number}", number + 1
        taken.add(name.casefold())
        names.append(f"{name}.png")
    return names


def _report(drawn: Sequence[Drawn], causes: Sequence[str], folder: Path, *, has_table: bool) -> None:
    table = Table(box=rich.box.SIMPLE)
    for heading in ("figure", "prediction", "true class"):
        table.add_column(heading, overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    for each in drawn[:MOST_LISTED]:
        label = Text(each.chosen.label or "–", style="" if each.chosen.label in (None, each.prediction) else "bold")
        table.add_row(Text(each.figure), Text(each.prediction), label, f"{each.probability:.1%}")
    if len(drawn) > MOST_LISTED:
        table.add_row(f"… and {len(drawn) - MOST_LISTED} more")
    figures = f"figures of {number_of(len(drawn), 'picture')}"
    lines = [f"wrote explanations.csv and {figures} to {shortened(folder.resolve())}"]
    without = sum(each.chosen.label is None for each in drawn)
    if has_table and without:
        lines.insert(0, f"note: {number_of(without, 'picture')} not in the table, with a true class that is not known")
    if causes:
        lines.insert(0, f"left out, as no picture: {len(causes)}{lines_of(causes)}")
    show(table, *lines)


if __name__ == "__main__":
    from hybridnet.launch import call

    call("explain")
