"""What was found, in words and numbers that the tables, the picture and the terminal share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybridnet.comparison.differences import LEVEL, MCNEMAR, SIGN_FLIP, Comparison, Pair
from hybridnet.comparison.resampling import CONFIDENCE
from hybridnet.sweep.record import Job
from hybridnet.wording import number_of

SMALLEST_P = 0.001
MOST_NAMED = 5  # groups
NO_DIFFERENCE, THE_SAME = "no difference beyond chance", "no difference: the same predictions"
NOTHING_ELSE = "All runs are of one group, which differ in seed and fold alone: there is nothing to compare it with."
PERCENT = f"{CONFIDENCE:.0%}".replace("%", " %")


def signed(value: float) -> str:
    """`+0.0123`, `-0.0004`, `0.0000`."""
    text = f"{value:+.4f}"
    return text[1:] if float(text) == 0 else text


def interval(low: float, high: float) -> str:
    """`[-0.0103, +0.0195]`."""
    return f"[{signed(low)}, {signed(high)}]"


def probability(p: float | None) -> str:
    """`0.034`, `< 0.001`; nothing where it is not known."""
    return "" if p is None else f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def numbers(comparison: Comparison, pair: Pair) -> str:
    """`n = 3`, `n = 3 and 1`, `n = 5 in 5 folds`."""
    first, second = (comparison.paired.groups[group].num_runs for group in (pair.first, pair.second))
    text = f"n = {first}" if first == second else f"n = {first} and {second}"
    num_folds = len(comparison.paired.folds)
    return f"{text} in {num_folds} folds" if num_folds > 1 else text


def verdict(comparison: Comparison, pair: Pair) -> str:
    """What the data support, and how many runs say so."""
    return f"{found(pair)} ({numbers(comparison, pair)})"


def found(pair: Pair) -> str:
    """What the data support."""
    if pair.is_same:
        return THE_SAME
    if not pair.is_beyond_chance:
        return NO_DIFFERENCE
    better = "better" if pair.difference > 0 else "worse"
    return f"{better}, of these two runs" if pair.test in (MCNEMAR, SIGN_FLIP) else better


def pictures(comparison: Comparison, split: str | None) -> str:
    """`360 validation pictures, the same for all 6 runs`."""
    paired = comparison.paired
    kind = "validation" if split in (None, "valid") else split
    num_runs = sum(group.num_runs for group in paired.groups)
    text = f"{paired.num_pictures:,} {kind} pictures, the same for all {num_runs} runs"
    if len(paired.folds) > 1:
        text = f"{paired.num_pictures:,} {kind} pictures in {len(paired.folds)} folds, {num_runs} runs"
    return text


def notes(comparison: Comparison, *, table: str | None, has_groups: bool) -> Iterator[str]:
    """How the figures were made and what is to be known about them, a sentence or two each.

    Args:
        comparison: what was found.
        table: that the pictures' groups were looked for in; None if it is gone.
        has_groups: whether it has any.
    """
    paired = comparison.paired
    if table is None:
        yield (
            "The runs' table is not here any more: which pictures are of one group (copies, plants) is not known, and "
            "all are taken as independent."
        )
    elif has_groups and paired.num_units < paired.num_pictures:
        yield (
            f"Pictures of one group of the table are not independent: they are {paired.num_units:,} groups, and whole "
            "groups are drawn or flipped."
        )
    if not comparison.pairs:
        yield NOTHING_ELSE
    yield _intervals(comparison)
    if comparison.pairs:
        yield _tests(comparison.pairs)
    if len(comparison.pairs) > 1:
        yield (f"p is corrected for {len(comparison.pairs)} comparisons (Holm); intervals are of one comparison each.")
    alone = [group.name for group in paired.groups if group.num_runs == 1]
    if len(paired.groups) > 1 and all(group.runs[0].is_like(paired.groups[0].runs[0]) for group in paired.groups):
        yield "The runs differ in their seed alone: this is what another seed changes, and none is better for it."
    elif alone:
        some = " and of ".join(alone) if len(alone) <= MOST_NAMED else number_of(len(alone), "group")
        every = "every group" if len(alone) == len(paired.groups) else some
        several = ", but for differences to several runs, in which it is taken to vary as they do"
        yield (
            f"There is one run of {every}: what another seed would give is not in these figures"
            f"{several if len(alone) < len(paired.groups) else ''}. "
            "python train.py -m seed=0,1,2 … trains with several."
        )
    sizes = {group.num_runs for group in paired.groups}
    if len(sizes) > 1:
        yield f"Means are over {min(sizes)} to {max(sizes)} runs; n says how many."


def _intervals(comparison: Comparison) -> str:
    paired = comparison.paired
    what = "pictures" if paired.num_units == paired.num_pictures else "groups of pictures"
    more = ["seeds"] if any(len(cell.runs) > 1 for fold in paired.folds for cell in fold.cells) else []
    more += ["folds"] if len(paired.folds) > 1 else []
    others = f", and of what other {' and '.join(more)} would change" if more else ""
    figures, alike = ("differences", ", the same for all groups") if comparison.pairs else ("accuracies", "")
    return (
        f"Intervals hold {PERCENT} of the {figures} in {comparison.num_draws:,} draws with replacement of {what}"
        f"{alike}{others}."
    )


def _tests(pairs: Sequence[Pair]) -> str:
    tests = " or ".join(dict.fromkeys(pair.test for pair in pairs))
    text = f"p is the probability of such a difference, or a larger one, by chance alone: {tests}."
    if any(pair.p_runs is not None for pair in pairs):
        text += (
            " Beside it stand p of the pictures alone, for these very runs (sign flip, exact), and p of the runs alone "
            "(Student's t)."
        )
    return f"{text} Below {LEVEL:g} a difference counts as beyond chance."


def left_out(incomplete: Sequence[Job]) -> str:
    """That jobs of a sweep are not compared, and what that makes of the others."""
    text = f"{number_of(len(incomplete), 'job')} of the sweep not complete: left out."
    if num := sum(job.status == "pruned" for job in incomplete):
        be = "was" if num == 1 else "were"
        text += f" {num} {be} pruned, as others did better: a setting that lacks such a run looks better than it is."
    return text


def only_one(comparison: Comparison, pair: Pair) -> str:
    """`Only hybrid is right on 5 pictures, only plain on 8.`"""
    first, second = (comparison.name(group) for group in (pair.first, pair.second))
    num_runs = max(comparison.paired.groups[group].num_runs for group in (pair.first, pair.second))
    most = " (in most of the runs)" if num_runs > 1 else ""
    number = number_of(pair.only_first, "picture")
    return f"Only {first} is right on {number}, only {second} on {pair.only_second:,}{most}."
