"""What a study has found, in words that its tables and its page share."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hybridnet.files import shortened
from hybridnet.sweep.settings import is_setting, shown
from hybridnet.sweep.statistics import figure
from hybridnet.sweep.study import Candidate, Study
from hybridnet.wording import number_of

STATUSES = ("complete", "pruned", "failed", "stopped", "interrupted", "running", "pending")
UNFINISHED = ("stopped", "interrupted", "running", "pending")
MOST_LISTED = 12  # values of an axis
TELL_SEEDS = "seed=0,1,2"


def counts(study: Study) -> str:
    """`12 jobs: 10 complete, 1 pruned, 1 failed`."""
    found = Counter(outcome.job.status for outcome in study.outcomes)
    parts = [f"{found[status]} {status}" for status in STATUSES if found[status]]
    return f"{number_of(len(study.outcomes), 'job')}{': ' if parts else ''}{', '.join(parts)}"


def swept(study: Study) -> str:
    """What was tried."""
    parts = []
    for axis in study.axes:
        values = [shown(value) for value in axis.values]
        listed = ",".join(values[:MOST_LISTED]) + (f",… ({len(values)} values)" if len(values) > MOST_LISTED else "")
        parts.append(f"{axis.key}={listed}")
    seeds = dict.fromkeys(study.value(outcome, "seed") for outcome in study.outcomes)
    if len(seeds) > 1:
        parts.append(f"seed={','.join(list(seeds)[:MOST_LISTED])}{',…' * (len(seeds) > MOST_LISTED)}")
    return ", ".join(parts) or "nothing: all jobs have the same settings"


def direction(study: Study) -> str:
    """Which of two values is better."""
    return "higher is better" if study.direction > 0 else "lower is better"


def verdict(study: Study, candidate: Candidate) -> str:
    """How a candidate compares with the best one."""
    if candidate is study.winner:
        return "best"
    within = study.is_within_noise(candidate)
    return "" if within is None else "within noise" if within else "worse"


def notes(study: Study) -> Iterator[str]:
    """What is to be known about the ranking, a sentence or two each."""
    if study.winner is None:
        yield "No job is complete: there is nothing to compare."
        return
    if not any(outcome.job.status == "complete" for outcome in study.outcomes):
        yield "No job is complete. What is ranked are pruned jobs, which ended early."
    elif pruned := study.having("pruned"):
        be = "is" if len(pruned) == 1 else "are"
        yield f"{number_of(len(pruned), 'pruned job')} ended early and {be} in no mean."
    if len(study.ranked) > 1:
        yield _noise(study)
        if len(study.ranked) > 2:
            yield (
                f"The best of {len(study.ranked)} settings is likely to be a lucky one too, and somewhat worse on "
                f"fresh seeds: {_asked('promote', study)} name=<name> seeds=5 shows by how much."
            )
    sizes = {candidate.result.n for candidate in study.ranked}
    if len(sizes) > 1:
        yield f"Means are over {min(sizes)} to {max(sizes)} jobs; n says how many."


def _noise(study: Study) -> str:
    if study.noise is None:
        has_seeds = any(candidate.result.n > 1 for candidate in study.ranked)
        cause = "all seeds of a setting agree by chance" if has_seeds else "no settings were trained with two seeds"
        hint = "More seeds tell it." if has_seeds else f"{TELL_SEEDS} in the same command tells it."
        return f"Which differences are more than chance cannot be told: {cause}. {hint}"
    others = [candidate for candidate in study.ranked if candidate is not study.winner]
    within = sum(bool(study.is_within_noise(candidate)) for candidate in others)
    test = "Student's t, 95 %"
    if len(others) == 1:
        said = f"The other setting is {'' if within else 'not '}within"
    else:
        said = f"{within or 'None'} of the other {len(others)} settings {'is' if within == 1 else 'are'} within"
        test += f", corrected for {len(others)} comparisons"
    return (
        f"Runs that differ in their seed alone have a standard deviation of {figure(study.noise.std)} (pooled, "
        f"{study.noise.degrees} degrees of freedom). {said} the seeds' noise of the best ({test})."
    )


def reproduce(study: Study) -> str | None:
    """The command that trains the best job again."""
    if study.winner is None:
        return None
    job = study.winner.counted[0].job
    overrides = [text for text in job.overrides if is_setting(text)]
    own = study.config_dirs[_home(study, job.folder)]
    return shlex.join(["python", "train.py", *(["--config-dir", own] if own else []), *overrides])


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
