"""`python -m hybridnet.promote sweep=<folder> name=leaves`: the best settings of a sweep become an experiment."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hybridnet import config
from hybridnet.console import print_table, show
from hybridnet.data.rows import read_rows
from hybridnet.errors import EXIT_WRONG_INPUT, Fault, InputError, Stopped, TrainingError
from hybridnet.files import shortened, writable_folder, write_text
from hybridnet.inference.runs import RunSettings
from hybridnet.report import sweeps_of, with_folder
from hybridnet.resume import identity
from hybridnet.settings import Natural, checked
from hybridnet.signals import SIGNALS, handle
from hybridnet.sweep import preset, wording
from hybridnet.sweep.ledger import Ledger
from hybridnet.sweep.outcome import Outcome, read_outcome
from hybridnet.sweep.settings import FOLD, SEED
from hybridnet.sweep.statistics import Spread, spread
from hybridnet.sweep.study import Study, read_study

NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
PROMOTED = "promoted"  # folder in a sweep's, of the trainings on fresh seeds


@checked
def promote(*, folder: str | Sequence[str] | None, name: str, out: str | None, overwrite: bool, seeds: Natural) -> None:
    """Write the best settings of a sweep, by the report's rule, as `experiment/<name>.yaml` in a configuration folder.

    The experiment then trains the best job again, with its seed. Of a sweep over folds it leaves out the fold: by
    itself it is trained as the table's column split says.

    Args:
        folder: of a sweep, or several.
        name: of the experiment.
        out: configuration folder; null is the one that the sweep was started with, else the project's.
        overwrite: replace an experiment of this name that says something else.
        seeds: how many that the sweep has not seen the experiment is trained on, to show how lucky the choice was; with
            each on all folds of the sweep. What is complete in `<sweep>/promoted/<name>` is not repeated.

    Raises:
        InputError: if nothing can be promoted, the name is taken or impossible, or no yaml can hold the settings.
        TrainingError: if not all trainings on fresh seeds were completed.
    """
    if not NAME.fullmatch(name):
        hint = "letters, digits, _ and -, beginning with a letter: name=leaves"
        raise InputError(Fault("wrong value", f"name={name}", "it is to be the name of a file", hint))
    study = read_study(sweeps_of(folder))
    best = preset.require_winner(study)
    own = preset.own_config_dir(study)
    conf = Path(out or own or config.CONF_DIR)
    is_project = conf.resolve() == config.CONF_DIR.resolve()
    if not is_project and preset.path_of(config.CONF_DIR, name).exists():
        cause = "the project has an experiment of this name, which would be taken"
        raise InputError(Fault("name in use", f"name={name}", cause, "choose another name"))
    config_dirs = list(dict.fromkeys([*([] if is_project else [str(conf)]), *([own] if own else [])]))
    if len({str(Path(folder).resolve()) for folder in config_dirs}) > 1:
        cause = f"the sweep was started with --config-dir {own}, and only one such folder can be given"
        raise InputError(Fault("wrong value", f"out={out}", cause, "leave out `out`: the experiment goes there"))
    words = ["train.py", *(["--config-dir", config_dirs[0]] if config_dirs else [])]
    fold, about_folds = _about_folds(study.folds, best)
    command = shlex.join(["python", *words, f"experiment={name}", *fold])
    text = preset.body(best, config_dirs=config_dirs, without=[FOLD] if study.folds else [])
    file = preset.path_of(conf, name)
    _write(file, text, preset.header(study, command, None, [], folds=about_folds), overwrite=overwrite)
    show(
        f"wrote {shortened(file.resolve())}", f"use it: {command}", *([f"folds: {about_folds}"] if about_folds else [])
    )
    if seeds:
        chosen = fresh_seeds(study, seeds)
        place = study.folders[0] / PROMOTED / name
        code = _train([*words[1:], f"experiment={name}"], chosen, study.folds, place)
        fresh = _results(place, name, chosen, study.folds, study.monitor, config_dirs=config_dirs[:1])
        # A seed without one of the folds would not be measured on the pictures that the sweep's mean is over.
        done = [seed for seed in chosen if all(key in fresh for key in _asked([seed], study.folds))]
        if done:
            found = spread([fresh[key].value for key in _asked(done, study.folds)])
            header = preset.header(study, command, found, done, folds=about_folds)
            write_text(file, preset.PACKAGE + header + text)
            _print(study, found)
        _require_complete(code, len(fresh), _asked(chosen, study.folds), place)


def fresh_seeds(study: Study, count: int) -> list[int]:
    """The smallest seeds that no job of the study had; the same ones for the same study."""
    used = {study.value(outcome, SEED) for outcome in study.outcomes}
    found: list[int] = []
    seed = 0
    while len(found) < count:
        if str(seed) not in used:
            found.append(seed)
        seed += 1
    return found


def _about_folds(folds: Sequence[str], best: Outcome) -> tuple[list[str], str]:
    """What the command needs besides, and what is to be known; nothing of a sweep without folds."""
    if not folds:
        return [], ""
    listed = ",".join(folds)
    if not _has_no_validation(best):
        return [], f"the sweep's were {listed}; data.fold is not set: the table's column split decides"
    text = f"the sweep's were {listed}; data.fold=<fold> is to be typed: the table's column split has no validation"
    return [f"{FOLD}={folds[0]}"], text


def _has_no_validation(best: Outcome) -> bool:
    """Whether the column split of a job's table leaves nothing to validate with; not of one that is gone."""
    table = RunSettings(best.job.folder).file("data.metadata")
    try:
        return table is not None and all(row.split != "valid" for row in read_rows(table)[0])
    except InputError:
        return False


def _asked(seeds: Sequence[int], folds: Sequence[str]) -> list[tuple[int, str]]:
    """Seed and fold of each training; the fold is "" where there are none."""
    return [(seed, fold) for seed in seeds for fold in folds or [""]]


def _write(file: Path, text: str, header: str, *, overwrite: bool) -> None:
    """Write the experiment; one that says the same already stays as it is, with its header."""
    content = preset.PACKAGE + header + text
    try:
        writable_folder(file.parent)
        before = file.read_text(encoding="utf-8") if file.exists() else None
        if before is not None and preset.is_same(before, content):
            return
        if before is not None and not overwrite:
            hint = "choose another name, or overwrite=true"
            raise InputError(Fault("name in use", str(file), "it is another experiment", hint))
        write_text(file, content)
    except (OSError, UnicodeDecodeError) as error:
        hint = "choose another configuration folder with out=<folder>, for train.py --config-dir <folder>"
        raise InputError(Fault("unusable file", str(file), str(error), hint)) from error


def _train(words: Sequence[str], seeds: Sequence[int], folds: Sequence[str], folder: Path) -> int:
    """Train an experiment on seeds, with each on folds, as a sweep of its own; returns the exit code.

    Raises:
        InputError: if there is no train.py.
    """
    script = config.train_script(hint="seeds=5 needs a checkout of the project; the experiment itself was written")
    sweep = [f"{SEED}={','.join(map(str, seeds))}", *([f"{FOLD}={','.join(folds)}"] if folds else [])]
    sweep.append(f"hydra.sweep.dir={_value(str(folder))}")
    return _run([sys.executable, str(script), "-m", *words, *sweep])


def _value(text: str) -> str:
    """As an override has it: quotes only where they are needed."""
    return text if re.fullmatch(r"[\w/.:-]+", text) else config.quoted(text)


def _run(words: Sequence[str]) -> int:
    """Run a command, and hand on the signals that this process gets: the terminal's would reach both."""
    started: list[subprocess.Popen] = []
    early: list[int] = []

    def hand_on(number: int, _: object) -> None:
        if started:
            started[0].send_signal(number)
        else:
            early.append(number)

    before = handle(hand_on)
    try:
        with subprocess.Popen(words, start_new_session=True) as process:
            started.append(process)
            for number in early:
                process.send_signal(number)
            return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _results(
    folder: Path,
    name: str,
    seeds: Sequence[int],
    folds: Sequence[str],
    monitor: str,
    *,
    config_dirs: Sequence[str],
) -> dict[tuple[int, str], Outcome]:
    """Of complete jobs, by seed and fold. Others are of another experiment that had this name before."""
    jobs = Ledger(folder).jobs() if folder.is_dir() else []
    complete = {job.identity: job for job in jobs if job.status == "complete"}
    known: config.Known = {}
    found = {}
    for seed, fold in _asked(seeds, folds):
        overrides = [f"experiment={name}", f"{SEED}={seed}", *([f"{FOLD}={fold}"] if fold else [])]
        cfg = config.compose("train", overrides, config_dirs=config_dirs, known=known)
        if job := complete.get(identity(config.flat(cfg)[0], swept=[SEED])):
            found[seed, fold] = read_outcome(job, label=str(job.number), monitor=monitor)
    return {key: outcome for key, outcome in found.items() if outcome.value is not None}


def _print(study: Study, fresh: Spread) -> None:
    assert study.winner is not None and study.winner.result is not None
    result = study.winner.result
    folds = f", over {wording.averaged(study, study.winner)}" if study.folds else ""
    rows = {
        "in the sweep": f"{result.text()} (n = {result.n}), the best of {len(study.ranked)}{folds}",
        "on fresh seeds": f"{fresh.text()} (n = {fresh.n})",
        "difference": f"{fresh.mean - result.mean:+.4f}: what the choice owed to luck, and chance",
    }
    print_table(study.monitor, rows)


def _require_complete(code: int, num_complete: int, asked: Sequence[object], folder: Path) -> None:
    for number in SIGNALS:
        if code in (128 + number, -number):
            raise Stopped(number)
    hint = "the same command goes on with them"
    where = str(shortened(folder))
    if code == EXIT_WRONG_INPUT:
        raise InputError(Fault("wrong input", where, "the trainings on fresh seeds were refused; see above"))
    if code or num_complete < len(asked):
        cause = f"{num_complete} of {len(asked)} trainings on fresh seeds are complete"
        raise TrainingError(Fault("failed jobs", where, cause, hint))


if __name__ == "__main__":
    from hybridnet.launch import call

    sys.argv[1:] = with_folder(sys.argv[1:])
    call("promote")
