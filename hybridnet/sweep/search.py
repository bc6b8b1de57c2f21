"""A search with Optuna goes on where it was: what is complete counts, what was interrupted comes first."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from hybridnet import config
from hybridnet.errors import Fault, InputError
from hybridnet.monitor import direction
from hybridnet.wording import number_of


def require_direction(sweeper: Mapping[str, Any], *, monitor: str) -> None:
    """Refuse a search that would look for the worst.

    Raises:
        InputError: if the sweeper's direction is not the metric's.
    """
    expected = _direction(monitor)
    if sweeper["direction"] != expected:
        where = f"hydra.sweeper.direction={sweeper['direction']}"
        cause = f"the search would look for the worst {monitor}"
        raise InputError(Fault("wrong value", where, cause, f"hydra.sweeper.direction={expected}"))


def require_trials(sweeper: Mapping[str, Any]) -> None:
    """Refuse a number of trials that is none.

    Raises:
        InputError: if it is no whole number from 1.
    """
    number = sweeper["n_trials"]
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        where = f"hydra.sweeper.n_trials={number}"
        raise InputError(
            Fault("wrong value", where, "it is no number of trials", "for instance hydra.sweeper.n_trials=20")
        )


def _direction(monitor: str) -> str:
    return "maximize" if direction(monitor) > 0 else "minimize"


def prepare(sweeper: Mapping[str, Any], overrides: Sequence[str], *, monitor: str) -> tuple[list[str], str]:
    """Look at the study that lies in the sweep's folder, before Hydra's sweeper does.

    Args:
        sweeper: its settings.
        overrides: what is searched, and the values of all jobs.
        monitor: the metric of all jobs.

    Returns:
        Overrides for this start, none if nothing is left to do; and what will be done, for people.

    Raises:
        InputError: for another list of choices than the study's, which Optuna cannot change.
    """
    num_trials = sweeper["n_trials"]
    if sweeper["storage"] is None:
        what = f"{number_of(num_trials, 'trial')}; without hydra.sweeper.storage they are not kept"
        return [f"hydra.sweeper.n_trials={num_trials}"], what
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from optuna.trial import TrialState

    warnings.simplefilter("ignore", ExperimentalWarning)  # enqueue_trial, and what the sweeper itself uses
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=sweeper["study_name"],
        storage=sweeper["storage"],
        direction=_direction(monitor),
        load_if_exists=True,
    )
    trials = study.trials
    _require_same_choices({key: found for trial in trials for key, found in trial.distributions.items()}, overrides)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    num_left = max(0, num_trials - len(complete))
    if not num_left:
        return [], f"{number_of(num_trials, 'trial')}: all are complete, nothing is left to do"
    known = [trial.params for trial in complete]
    again = []
    for trial in trials:
        if trial.state == TrialState.RUNNING:  # its process is gone
            study.tell(trial.number, state=TrialState.FAIL)
        if trial.state in (TrialState.RUNNING, TrialState.FAIL) and trial.params and trial.params not in known:
            known.append(trial.params)
            again.append(trial.params)
    num_waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    for params in again[: max(0, num_left - num_waiting)]:
        study.enqueue_trial(params)
    of_start = [f"hydra.sweeper.n_trials={num_left}"]
    if (seed := (sweeper["sampler"] or {}).get("seed")) is not None:
        of_start.append(f"hydra.sweeper.sampler.seed={seed + len(trials)}")  # or it would draw the same again
    stand = f"{len(complete)} complete, {len(again)} to be repeated, {num_left} left"
    return of_start, f"{number_of(num_trials, 'trial')}: {stand}"


def _require_same_choices(known: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse what Optuna would raise a ValueError for at the first trial; the ends of an interval may be others."""
    from optuna.distributions import check_distribution_compatibility

    for text, (key, wanted) in config.distributions(overrides).items():
        try:
            check_distribution_compatibility(known.get(key, wanted), wanted)
        except ValueError as error:
            cause = f"the search in this folder has had other choices, {known[key]}, which Optuna cannot change"
            hint = "go on with those, or search in another folder with hydra.sweep.dir=<folder>"
            raise InputError(Fault("other search", text, cause, hint)) from error
