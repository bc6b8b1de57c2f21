"""What a study has found, in words that its tables and its page share."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hybridnet.files import shortened
from hybridnet.sweep.candidate import Candidate
from hybridnet.sweep.settings import FOLD, SEED, by_size, is_setting, settings_of, shown
from hybridnet.sweep.statistics import ROUNDING, figure
from hybridnet.sweep.study import Study
from hybridnet.wording import number_of

STATUSES = ("complete", "pruned", "failed", "stopped", "interrupted", "running", "pending")
UNFINISHED = ("stopped", "interrupted", "running", "pending")
MOST_LISTED = 12  # values of an axis
OTHER_PICTURES = "other pictures"
NUM_TELLING_SEEDS = 3


def counts(study: Study) -> str:
    """`12 jobs: 10 complete, 1 pruned, 1 failed`."""
    found = Counter(outcome.job.status for outcome in study.outcomes)
    parts = [f"{found[status]:,} {status}" for status in STATUSES if found[status]]
    return f"{number_of(len(study.outcomes), 'job')}{': ' if parts else ''}{', '.join(parts)}"


def swept(study: Study) -> str:
    """What was tried."""
    parts = []
    for axis in study.axes:
        values = [shown(value) for value in axis.values]
        listed = ",".join(values[:MOST_LISTED]) + (f",… ({len(values)} values)" if len(values) > MOST_LISTED else "")
        parts.append(f"{axis.key}={listed}")
    for key in study.replication:
        found = list(dict.fromkeys(study.value(outcome, key) for outcome in study.outcomes))
        if len(found) > 1:
            parts.append(f"{key}={','.join(found[:MOST_LISTED])}{',…' * (len(found) > MOST_LISTED)}")
    return ", ".join(parts) or "nothing: all jobs have the same settings"


def direction(study: Study) -> str:
    """Which of two values is better."""
    return "higher is better" if study.direction > 0 else "lower is better"


def verdict(study: Study, candidate: Candidate) -> str:
    """How a candidate compares with the best one."""
    if candidate is study.winner:
        return "best"
    if not study.is_comparable(candidate):
        return OTHER_PICTURES
    within = study.is_within_noise(candidate)
    return "" if within is None else "within noise" if within else "worse"


def averaged(study: Study, candidate: Candidate) -> str:
    """What a mean is over: `3 seeds`, `5 folds`, `15 runs: 5 folds, 3 seeds`."""
    num_runs, num_folds = len(candidate.counted), len(candidate.folds)
    if num_folds == 1:
        return number_of(num_runs, "seed")
    if num_folds == num_runs:
        return number_of(num_folds, "fold")
    num_seeds = len({study.value(outcome, SEED) for outcome in candidate.counted})
    return f"{num_runs} runs: {number_of(num_folds, 'fold')}, {number_of(num_seeds, 'seed')}"


def noise_of(study: Study) -> str:
    """What makes the differences that mean nothing."""
    return "the folds' noise" if study.design.is_by_fold else "the seeds' noise"


def notes(study: Study) -> Iterator[str]:
    """What is to be known about the ranking, a sentence or two each."""
    if study.winner is None:
        yield "No job is complete: there is nothing to compare."
        return
    if not any(outcome.job.status == "complete" for outcome in study.outcomes):
        yield "No job is complete. What is ranked are pruned jobs, which ended early."
    elif pruned := study.having("pruned"):
        be = "is" if len(pruned) == 1 else "are"
        yield f"{number_of(len(pruned), 'pruned job')} ended early and {be} in no mean.{_too_good(study)}"
    yield from _left_out(study)
    if any(len(candidate.folds) > 1 for candidate in study.ranked):
        kinds = dict.fromkeys(averaged(study, candidate) for candidate in study.ranked)
        yield f"{'Each' if len(study.ranked) > 1 else 'The'} mean is over {', or '.join(kinds)}."
    if len(study.ranked) > 1:
        if num_other := len(study.ranked) - len(study.comparable):
            yield _other_pictures(study, num_other)
        if len(study.comparable) > 1:
            yield from _ties(study)
            yield _noise(study)
        if len(study.ranked) > 2:
            yield (
                f"The best of {len(study.ranked)} settings is likely to be a lucky one too, and somewhat worse on "
                f"fresh seeds: {_asked('promote', study)} name=<name> seeds=5 shows by how much."
            )
    sizes = {candidate.result.n for candidate in study.ranked}
    if len(sizes) > 1:
        yield f"Means are over {min(sizes)} to {max(sizes)} jobs; n says how many."


def _too_good(study: Study) -> str:
    """A warning where a mean lacks those jobs of its setting that did worse."""
    num = sum(any(outcome.job.status == "pruned" for outcome in candidate.outcomes) for candidate in study.ranked)
    if not num:
        return ""
    be, its = ("is", "its") if num == 1 else ("are", "their")
    return (
        f" {num} of the {number_of(len(study.ranked), 'setting')} {be} ranked without {its} pruned jobs, which did "
        "worse: such a mean is too good. python train.py resume=<a job's folder> trains one to its end."
    )


def _left_out(study: Study) -> Iterator[str]:
    """Which results are in no mean: on some folds alone a setting would look better than it is, or worse."""
    if others := [outcome for candidate in study.ranked for outcome in candidate.left_out]:
        folds = sorted({study.value(outcome, FOLD) for outcome in others}, key=by_size)
        be = "is" if len(others) == 1 else "are"
        yield (
            f"Settings are compared on the folds that they have in common: {number_of(len(others), 'other result')} "
            f"({FOLD}={','.join(folds)}) {be} in no mean."
        )
    if unranked := [candidate for candidate in study.candidates if candidate.left_out and not candidate.counted]:
        be = "is" if len(unranked) == 1 else "are"
        yield (
            f"{number_of(len(unranked), 'setting')} {be} not ranked, as results are missing on folds that the others "
            f"have: {'; '.join(_lacking(study, candidate) for candidate in unranked[:MOST_LISTED])}"
            f"{'; …' * (len(unranked) > MOST_LISTED)}. Going on with the sweep makes them."
        )


def _lacking(study: Study, candidate: Candidate) -> str:
    """`heads=4 (data.fold=2)`."""
    own = {study.value(outcome, FOLD) for outcome in candidate.left_out}
    lacking = [fold for fold in study.winner.folds if fold not in own] if study.winner else []
    return study.described(candidate) + (f" ({FOLD}={','.join(lacking)})" if lacking else "")


def _other_pictures(study: Study, number: int) -> str:
    others = len(study.ranked) - 1
    who = f"{number} of the other {others} settings" if others > 1 else "The other setting"
    be = "were" if number > 1 else "was"
    return (
        f"{who} {be} measured on other pictures than the best (another table, data.valid_limit or data.fold): such "
        "results are not compared."
    )


def _ties(study: Study) -> Iterator[str]:
    """That the best one is not alone."""
    assert study.winner is not None and study.winner.result is not None
    best = study.winner.result.mean
    others = [c for c in study.comparable[1:] if math.isclose(c.result.mean, best, rel_tol=ROUNDING, abs_tol=0)]
    if others:
        have = "has" if len(others) == 1 else "have"
        yield (
            f"{number_of(len(others), 'other setting')} {have} the same {study.monitor} as the one that is called the "
            "best: it is the first of them, no better one."
        )


def _noise(study: Study) -> str:
    if study.noise is None:
        if study.design.is_by_fold:
            cause, hint = "all settings are equally far apart on every fold", "More folds tell it."
        elif any(candidate.result.n > 1 for candidate in study.comparable):
            cause, hint = "all seeds of a setting agree by chance", "More seeds tell it."
        elif study.is_search:
            cause = "no settings were trained with two seeds"
            hint = "The best ones tell it in a grid, python train.py -m <their values> seed=0,1,2."
        else:
            cause, hint = (
                "no settings were trained with two seeds",
                f"{_more_seeds(study)} in the same command tells it.",
            )
        return f"Which differences are more than chance cannot be told: {cause}. {hint}"
    others = [candidate for candidate in study.comparable if candidate is not study.winner]
    within = sum(bool(study.is_within_noise(candidate)) for candidate in others)
    test = "Student's t, 95 %"
    if len(others) == 1:
        of_these = "" if len(study.ranked) == 2 else " on these pictures"
        said = f"The other setting{of_these} is {'' if within else 'not '}within"
    else:
        of_these = "" if len(others) == len(study.ranked) - 1 else " on these pictures"
        be = "is" if within == 1 else "are"
        said = f"{within or 'None'} of the other {len(others)} settings{of_these} {be} within"
        test += f", corrected for {study.num_comparisons:,} comparisons"
    return (
        f"{_replicates(study)} have a standard deviation of {figure(study.noise.std)} (pooled, "
        f"{number_of(study.noise.degrees, 'degree')} of freedom). {said} {noise_of(study)} of the best ({test})."
    )


def _more_seeds(study: Study) -> str:
    """An override that has some more seeds than the jobs, and theirs, which are not trained again."""
    used = dict.fromkeys(value for outcome in study.counted if (value := study.value(outcome, SEED)).isdecimal())
    seeds = [*used, *(str(seed) for seed in range(NUM_TELLING_SEEDS) if str(seed) not in used)]
    return f"{SEED}={','.join(seeds[:NUM_TELLING_SEEDS])}"


def _replicates(study: Study) -> str:
    """Whose standard deviation the noise is."""
    if not study.design.is_by_fold:
        return "Runs that differ in their seed alone"
    has_seeds = any(len(candidate.counted) > len(candidate.folds) for candidate in study.comparable)
    who = "the means over the seeds of a fold" if has_seeds else "runs that differ in their fold alone"
    return f"All settings have the same folds. Beside what a fold makes of all of them alike, {who}"


def reproduce(study: Study) -> str | None:
    """The command that trains the best job again; where its settings were trained on several folds, on all of them."""
    if study.winner is None:
        return None
    job, folds = study.winner.counted[0].job, study.winner.folds
    overrides = [text for text in job.overrides if is_setting(text)]
    own = study.config_dirs[_home(study, job.folder)]
    words = ["python", "train.py", *(["-m"] if len(folds) > 1 else []), *(["--config-dir", own] if own else [])]
    if len(folds) > 1:
        overrides = [text for text in overrides if FOLD not in settings_of([text])]
        overrides.append(f"{FOLD}={','.join(folds)}")
    return shlex.join([*words, *overrides])


def what_again(study: Study) -> str:
    """What the command of `reproduce` trains."""
    num_folds = len(study.winner.folds) if study.winner else 1
    return "The best job" if num_folds == 1 else f"The best settings, on all {num_folds} folds,"


def again(study: Study) -> str:
    """The command that makes the report."""
    return _asked("report", study) + (" out=<folder>" if len(study.folders) > 1 else "")


def _asked(command: str, study: Study) -> str:
    folders = [str(shortened(folder)) for folder in study.folders]
    value = folders[0] if len(folders) == 1 else f"[{','.join(folders)}]"
    return shlex.join(["python", "-m", f"hybridnet.{command}", f"sweep={value}"])


def place(study: Study, folder: Path) -> str:
    """A job's folder: its name, or the whole path where there are several sweeps."""
    return folder.name if len(study.folders) == 1 else str(shortened(folder))


def _home(study: Study, folder: Path) -> Path:
    return next(home for home in study.folders if folder.parent == home)
