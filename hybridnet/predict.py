"""`python -m hybridnet.predict run=<folder> images=<files>`: what a trained model sees on pictures without a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import rich
from rich.table import Table
from rich.text import Text

from hybridnet.console import show, track
from hybridnet.data.listing import list_pictures
from hybridnet.errors import Fault, InputError
from hybridnet.files import common_folder, csv_text, shortened, writable_folder, write_text
from hybridnet.inference.tta import Tta
from hybridnet.settings import Count, checked
from hybridnet.wording import lines_of, listing, number_of, spelt

if TYPE_CHECKING:
    from hybridnet.inference.predictor import Answers

COLUMNS = ("path", "label", "probability")
MOST_ROWS = 20  # in the terminal
FEW = 3  # files of one cause there


@checked
def predict(
    *,
    run: str | Sequence[str] | None,
    images: str | Sequence[str] | None,
    out: str,
    top_k: Count,
    batch_size: Count,
    device: str,
    precision: Literal["auto", "bf16", "fp16", "float32"] | None,
    tta: Tta,
    extra_targets: Sequence[str],
) -> None:
    """Write a row for each file: path, label, probability, the next classes, and why a file is no usable picture.

    Args:
        run: of the model; several are an ensemble, whose probabilities are the mean of theirs.
        images: see `list_pictures`.
        out: the CSV table; its folder is made if it is missing.
        top_k: so many classes of each picture.
        batch_size: pictures at once.
        device, precision: as in training.
        tta: test-time augmentation, see Predictor.
        extra_targets: see `load_trained`.

    Raises:
        InputError: for a run or place that cannot be used, and if none of the files is a picture.
    """
    from hybridnet.inference.members import answers_of, load_members, make_predictors  # not for a misspelt key

    files = list_pictures(images)
    members = load_members(run, extra_targets=extra_targets)
    _require_place(Path(out))
    predictors = make_predictors(members, device=device, precision=precision, batch_size=batch_size, tta=tta)
    answers = answers_of(predictors, files, track=track)
    if not len(answers.indices):
        listed = lines_of([f"'{spelt(files[number])}': {cause}" for number, cause in sorted(answers.causes.items())])
        raise InputError(Fault("no usable picture", "images", f"none of {number_of(len(files), 'file')}{listed}"))
    classes = members[0].model.classes
    rows = list(table_rows(files, answers, classes, top_k=min(top_k, len(classes))))
    write_text(Path(out), csv_text(rows))
    _print(rows, answers, files, Path(out))


def table_rows(files: Sequence[Path], answers: Answers, classes: Sequence[str], *, top_k: int) -> Iterator[list[str]]:
    """The header, and a row for each file in its order."""
    more = [f"{name}_{k}" for k in range(2, top_k + 1) for name in ("label", "probability")]
    yield [*COLUMNS, *more, "cause"]
    places = {index: row for row, index in enumerate(answers.indices.tolist())}
    top = answers.logits.softmax(dim=1).topk(top_k, dim=1)
    probabilities, labels = top.values.tolist(), top.indices.tolist()
    for number, file in enumerate(files):
        if number in answers.causes:
            yield [spelt(file), *([""] * (2 + len(more))), answers.causes[number]]
            continue
        row = places[number]
        pairs = zip(labels[row], probabilities[row], strict=True)
        yield [spelt(file), *(text for label, p in pairs for text in (classes[label], f"{p:.6f}")), ""]


def _require_place(out: Path) -> None:
    try:
        writable_folder(out.parent)
        if out.is_dir():
            raise IsADirectoryError("is a folder")
        if not out.exists():
            return
        with out.open("rb") as stream:
            is_ours = stream.readline().startswith(",".join(COLUMNS).encode("ascii"))
    except OSError as error:
        cause, hint = error.strerror or str(error), "choose another place with out=<file>"
        raise InputError(Fault("unusable place", f"out={out}", cause, hint)) from error
    if not is_ours:
        cause = "a file is there that this command has not written"
        raise InputError(Fault("file would be replaced", f"out={out}", cause, "choose another out=<file>"))


def _print(rows: Sequence[Sequence[str]], answers: Answers, files: Sequence[Path], out: Path) -> None:
    good = [row for row in rows[1:] if not row[-1]]
    common = common_folder(Path(row[0]) for row in good)
    shown = Table(box=rich.box.SIMPLE)
    for heading, justify in (("picture", "left"), ("label", "left"), ("probability", "right")):
        shown.add_column(heading, justify=justify, overflow="fold")
    for path, label, probability, *_ in good[:MOST_ROWS]:
        name = Path(path).absolute().relative_to(common) if common else Path(path).absolute()
        shown.add_row(Text(str(name)), Text(label), f"{float(probability):.3f}")
    if len(good) > MOST_ROWS:
        shown.add_row(f"… and {len(good) - MOST_ROWS:,} more", "", "")
    place = f" in {shortened(common)}" if common else ""
    counts = Counter(row[1] for row in good).most_common()
    lines = [listing([f"{label}: {count:,}" for label, count in counts], limit=MOST_ROWS)]
    by_cause: dict[str, list[str]] = {}
    for number, cause in sorted(answers.causes.items()):
        by_cause.setdefault(cause, []).append(spelt(files[number]))
    if by_cause:
        told = [f"{len(names):,} × {cause}: {listing(names, limit=FEW)}" for cause, names in by_cause.items()]
        lines.append(f"left out, as the column cause tells:{lines_of(told)}")
    lines.append(f"wrote {shortened(out.resolve())}")
    show(f"{number_of(len(good), 'picture')}{place}", shown, *lines)


if __name__ == "__main__":
    from hybridnet.launch import call

    call("predict")
