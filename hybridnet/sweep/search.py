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


def require_usable(sweeper: Mapping[str, Any]) -> None:
    """Refuse settings of the sweeper with which it would fail, or forget its trials.

    Raises:
        InputError: with all of them.
    """
    faults = []
    for name in ("n_trials", "n_jobs"):
        number = sweeper[name]
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            hint = f"for instance hydra.sweeper.{name}={20 if name == 'n_trials' else 1}"
            faults.append(_fault(name, sweeper, "it is no whole number from 1", hint))
    if not _is_share(sweeper["max_failure_rate"]):
        faults.append(_fault("max_failure_rate", sweeper, "it is no number from 0 to 1"))
    if sweeper["storage"] is not None and not sweeper["study_name"]:
        faults.append(_fault("study_name", sweeper, "without a name the search could not go on"))
    if faults:
        raise InputError(*faults)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _fault(name: str, sweeper: Mapping[str, Any], cause: str, hint: str = "") -> Fault:
    key = f"hydra.sweeper.{name}"
    return Fault("wrong value", f"{key}={config.as_typed(sweeper[name])}", cause, hint or f"leave out {key}")


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
        InputError: for another list of choices than the study's, which Optuna cannot change; and for a storage that
            cannot be opened.
    """
    num_trials = sweeper["n_trials"]
    if sweeper["storage"] is None:
        what = f"{number_of(num_trials, 'trial')}; without hydra.sweeper.storage they are not kept"
        return [f"hydra.sweeper.n_trials={num_trials}"], what
    from optuna.trial import TrialState

    study = _study(sweeper, direction=_direction(monitor))
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


def _study(sweeper: Mapping[str, Any], *, direction: str) -> Any:
    """The study in the storage, or a new one."""
    import optuna
    from optuna.exceptions import ExperimentalWarning

    warnings.simplefilter("ignore", ExperimentalWarning)  # enqueue_trial, and what the sweeper itself uses
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage, name = sweeper["storage"], sweeper["study_name"]
    try:
        return optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    except Exception as error:  # whatever SQLAlchemy and the database's driver make of it
        cause = f"{type(error).__name__}: {error}".partition("\n")[0]
        hint = "leave it out for a file in the sweep's folder; null keeps no trials"
        raise InputError(Fault("unusable storage", "hydra.sweeper.storage", cause, hint)) from error


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
