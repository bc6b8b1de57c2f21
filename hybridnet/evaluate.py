"""`python -m hybridnet.evaluate run=<folder>`: how good a trained model is, on labelled pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import rich
from rich.table import Table
from rich.text import Text

from hybridnet.console import print_table, show, track
from hybridnet.data.table import Split
from hybridnet.data.unusable import unusable_images
from hybridnet.errors import Fault, InputError
from hybridnet.files import output_folder, read_if_whole, shortened
from hybridnet.inference.tta import Tta
from hybridnet.settings import Count, Natural, checked
from hybridnet.wording import lines_of, number_of

if TYPE_CHECKING:
    from hybridnet.inference.members import Member
    from hybridnet.inference.predictor import Answers

MOST_CLASSES_LISTED = 50
OTHER_PICTURES = (
    "the run's table has changed: these are other pictures than the training had in this split, and some of them may "
    "have been trained on"
)


class SeenBefore(NamedTuple):
    """What of the pictures a training has had.

    Attributes:
        num_leaked: copies of pictures that a model was trained with; None where none could be looked for.
        num_compared: training pictures that were looked at for that; None where the training itself has done it.
        not_compared: why some, or all, of the training pictures could not be; "" if all were.
        num_validated: by how many of these pictures a training has chosen its best epoch.
    """

    num_leaked: int | None
    num_compared: int | None
    not_compared: str = ""
    num_validated: int = 0


@checked
def evaluate(
    *,
    run: str | Sequence[str] | None,
    split: Literal["train", "valid", "test"],
    metadata: str | None,
    fold: Natural | None,
    on_bad_image: Literal["error", "skip"] | None,
    on_leak: Literal["error", "keep"] | None,
    batch_size: Count | None,
    device: str,
    precision: Literal["auto", "bf16", "fp16", "float32"] | None,
    tta: Tta,
    out: str | None,
    extra_targets: Sequence[str],
) -> None:
    """Print how good a model is; write metrics.json, predictions.csv and pictures into a folder.

    On the validation pictures, on the same kind of machine, the figures are those of the training's end to the last
    digit.

    Args:
        run: of the model; several are an ensemble, whose probabilities are the mean of theirs.
        split: of the table.
        metadata: a table as in training; null for the run's own.
        fold: as in training; null for the run's own.
        on_bad_image: `error`, or `skip`, which leaves out what cannot be decoded; null as the run was trained.
        on_leak: what to do about pictures that are copies of training pictures, where these are still there: `error`,
            or `keep`, which counts them; null for `keep` if the run was trained so, else `error`.
        batch_size: pictures at once; null for the training's.
        device: as in training.
        precision: as in training; null for the run's own.
        tta: test-time augmentation, see Predictor.
        out: folder for the results; null for `<run>/evaluation/<split>`, whose name also has the folder of another
            table, the fold and tta.
        extra_targets: see `load_trained`.

    Raises:
        InputError: for a run, table, picture or folder that cannot be used, and models of other classes.
    """
    import torch  # not needed to find a misspelt key

    from hybridnet.inference.judgement import measured, write
    from hybridnet.inference.labelled import read_labelled
    from hybridnet.inference.members import answers_of, load_members, make_predictors
    from hybridnet.trainer.metrics import Evaluation

    members = load_members(run, extra_targets=extra_targets)
    first = members[0]
    table, pictures = read_labelled(first.settings, first.model.classes, split=split, metadata=metadata, fold=fold)
    folder = _folder(out, members, split=split, table=table if metadata else None, fold=fold, tta=tta)
    is_named = metadata is not None or fold is not None
    is_own = _is_own(members, pictures, split=split, table=table, is_named=is_named)
    is_as_trained = is_own and len(members) == 1 and split == "valid" and tta == "none"
    trained = first.settings.metrics() if is_as_trained else {}
    if split == "train" and is_own:
        seen = SeenBefore(num_leaked=len(pictures), num_compared=len(pictures))
    elif "num_leaked" in trained:  # the training has looked
        seen = SeenBefore(num_leaked=trained["num_leaked"], num_compared=None)
    else:
        seen = _seen_before(members, pictures, table, on_leak="keep" if split == "train" else on_leak)
    predictors = make_predictors(members, device=device, precision=precision, batch_size=batch_size, tta=tta)
    answers = answers_of(predictors, pictures.files, track=track)
    left_out = _left_out(answers, pictures, table, on_bad_image or first.settings.get("data.on_bad_image"))
    pictures = pictures.take(answers.indices)
    evaluation = Evaluation(answers.logits, torch.from_numpy(pictures.labels))
    metrics = measured(evaluation, first.model.classes, pictures.groups, split=split) | seen._asdict()
    metrics |= {
        "split": split,
        "is_of_training": is_own,
        "metadata": str(table.absolute()),
        "runs": [str(member.settings.folder) for member in members],
        "tta": tta,
        "device": str(predictors[0].device),
        "precision": [predictor.precision.name for predictor in predictors],
        "left_out": [{"line": line, "path": path, "cause": cause} for line, path, cause in left_out],
    }
    write(folder, evaluation, pictures, first.model.classes, metrics)
    _print(
        metrics,
        first.model.classes,
        folder,
        trained,
        is_expected=is_own or is_named or (split == "test" and metrics["num_leaked"] is not None),
    )


def _is_own(members: Sequence[Member], pictures: Split, *, split: str, table: Path, is_named: bool) -> bool:
    """Whether these are the pictures that every training had in this split, of which it has none for tests.

    A run that has not noted its pictures, as former versions did not, is believed where no other table is named.
    """
    from hybridnet.inference.labelled import is_of_training

    found = [is_of_training(settings, pictures, split, model.classes, table=table) for model, settings in members]
    return split != "test" and all(not is_named if one is None else one for one in found)


def _seen_before(
    members: Sequence[Member], pictures: Split, table: Path, *, on_leak: Literal["error", "keep"] | None
) -> SeenBefore:
    """Look for copies of pictures that one of the models was trained with.

    Raises:
        InputError: if there are some, unless they are to be kept.
    """
    from hybridnet.inference.leaks import find_leaks

    all_leaks = [
        find_leaks(settings, pictures.files, model.classes, model.preprocessing.reduction, track=track)
        for model, settings in members
    ]
    found = {i: path for leaks in all_leaks for i, path in (leaks.copies or {}).items()}
    if found and (on_leak or members[0].settings.get("data.on_leak")) != "keep":
        lines = [f"line {pictures.lines[i]} '{pictures.paths[i]}' = '{found[i]}'" for i in sorted(found)]
        cause = f"{len(found):,} of {len(pictures):,} are copies of training pictures{lines_of(lines)}"
        hint = "remove their rows, or count them all the same with data.on_leak=keep"
        raise InputError(Fault("training pictures in the evaluation", f"data.metadata={table}", cause, hint))
    return SeenBefore(
        num_leaked=None if all(leaks.copies is None for leaks in all_leaks) else len(found),
        num_compared=max(leaks.num_train for leaks in all_leaks),
        not_compared=next((leaks.obstacle for leaks in all_leaks if leaks.obstacle), ""),
        num_validated=max(leaks.num_validated for leaks in all_leaks),
    )


def _left_out(answers: Answers, pictures: Split, table: Path, on_bad_image: str | None) -> list[tuple[int, str, str]]:
    """Line, path and cause of every picture that could not be decoded.

    Raises:
        InputError: if there are some, unless they are to be skipped; if none is left.
    """
    found = [(pictures.lines[i], pictures.paths[i], answers.causes[i]) for i in sorted(answers.causes)]
    if found and on_bad_image != "skip":
        raise InputError(unusable_images(found, table, len(pictures)))
    if not len(answers.indices):
        raise InputError(Fault("too few pictures", f"data.metadata={table}", "none of them can be used"))
    return found


def _folder(
    out: str | None, members: Sequence[Member], *, split: str, table: Path | None, fold: int | None, tta: str
) -> Path:
    """The folder for the results: what is not as in training is in its name, so that no evaluation replaces another."""
    if out is None and len(members) > 1:
        raise InputError(Fault("missing value", "out", "several runs have no folder in common", "add out=<folder>"))
    parts = [split]
    if table is not None:
        parts.insert(0, table.absolute().parent.name or table.stem)
    if fold is not None:
        parts.append(f"fold{fold}")
    if tta != "none":
        parts.append(tta)
    name = "_".join(parts)
    place = Path(out) if out else members[0].settings.folder / "evaluation" / name
    there = read_if_whole(place / "metrics.json").get("metadata")  # the table of the evaluation that lies there
    if table is not None and not out and there not in (None, str(table.absolute())):
        digest = hashlib.blake2b(str(table.absolute()).encode("utf-8", "surrogateescape"), digest_size=3).hexdigest()
        place = place.with_name(f"{name}_{digest}")  # another table in a folder of that name
    return output_folder(place)


def _print(
    metrics: dict[str, Any], classes: Sequence[str], folder: Path, trained: dict[str, Any], *, is_expected: bool
) -> None:
    split = metrics["split"]
    low, high = metrics[f"{split}_acc_interval"]
    num, num_groups = metrics[f"num_{split}"], metrics["num_groups"]
    rows = {
        "pictures": f"{num:,}" + (f" of {num_groups:,} groups" if num_groups < num else ""),
        "accuracy": f"{metrics[f'{split}_acc']:.4f} (95 %: {low:.3f} to {high:.3f})",
        "macro F1": f"{metrics[f'{split}_macro_f1']:.4f}",
        **{f"top-{k} accuracy": f"{value:.4f}" for k, value in metrics["top_k_acc"].items()},
        "loss": f"{metrics[f'{split}_loss']:.4f}",
        "calibration error": f"{metrics['expected_calibration_error']:.4f} (Brier score {metrics['brier_score']:.4f})",
        "left out": f"{len(metrics['left_out']):,}, see metrics.json" if metrics["left_out"] else "",
        "copies in training": _words_of_copies(metrics),
        "validated on": _words_of_validated(metrics),
        "compared to training": _against(trained, metrics) if trained else "",
        "not the training's": "" if is_expected else OTHER_PICTURES,
        "folder": str(shortened(folder.resolve())),
    }
    print_table(f"Evaluation of {split}", {name: text for name, text in rows.items() if text})
    show(_class_table(metrics["per_class"], classes))


def _words_of_copies(metrics: dict[str, Any]) -> str:
    if metrics["split"] == "train" and metrics["is_of_training"]:
        return "they are the training's own pictures"
    if metrics["num_leaked"] is None:
        return f"not looked for: {metrics['not_compared']}"
    only = f", as far as could be seen: {metrics['not_compared']}" if metrics["not_compared"] else ""
    return f"{metrics['num_leaked']:,}{only}"


def _words_of_validated(metrics: dict[str, Any]) -> str:
    if not metrics["num_validated"] or metrics["is_of_training"]:
        return ""
    return f"{number_of(metrics['num_validated'], 'picture')}, by which the run has chosen its best epoch"


def _against(trained: dict[str, Any], metrics: dict[str, Any]) -> str:
    names = ("valid_acc", "valid_loss")
    if all(trained.get(name) == metrics[name] for name in names):
        return "the same figures"
    told = ", ".join(f"{name} {trained.get(name)}, now {metrics[name]}" for name in names)
    return f"{told} (other pictures, processor, number of threads, precision or batch size?)"


def _class_table(per_class: dict[str, dict[str, float | None]], classes: Sequence[str]) -> Table:
    table = Table(title="Classes", title_justify="left", box=rich.box.SIMPLE)
    table.add_column("class", overflow="fold")
    for heading in ("precision", "recall", "F1", "pictures"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in classes[:MOST_CLASSES_LISTED]:
        row = per_class[name]
        shares = ["–" if row[key] is None else f"{row[key]:.4f}" for key in ("precision", "recall", "f1")]
        table.add_row(Text(name), *shares, f"{row['support']:,.0f}")
    if len(classes) > MOST_CLASSES_LISTED:
        table.add_row(f"… and {len(classes) - MOST_CLASSES_LISTED} more, see metrics.json")
    return table


if __name__ == "__main__":
    from hybridnet.launch import call

    call("evaluate")
