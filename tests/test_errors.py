from __future__ import annotations

import pickle
import signal

import pytest

from hybridnet.errors import (
    EXIT_FAILED,
    EXIT_WRONG_INPUT,
    Fault,
    FaultsError,
    InputError,
    Stopped,
    TrainingError,
    collected,
)


def test_the_exit_codes_are_those_of_the_design() -> None:
    assert (EXIT_FAILED, EXIT_WRONG_INPUT) == (1, 2)


def test_a_fault_is_one_line_and_a_hint() -> None:
    fault = Fault("unknown key", "trainer.epoch", "trainer has no 'epoch'", "did you mean trainer.epochs?")
    assert str(fault) == (
        "error: unknown key in trainer.epoch: trainer has no 'epoch'\nhint: did you mean trainer.epochs?"
    )


def test_without_a_hint_there_is_no_second_line() -> None:
    assert str(Fault("missing file", "x.csv", "no such file")) == "error: missing file in x.csv: no such file"


def test_an_input_error_is_a_value_error_that_says_all_faults() -> None:
    error = InputError(Fault("a", "b", "c"), Fault("d", "e", "f"))
    assert isinstance(error, ValueError)
    assert str(error) == "error: a in b: c\nerror: d in e: f"


def test_of_very_many_faults_the_first_are_told() -> None:
    error = InputError(*(Fault("a", str(number), "c", "d") for number in range(1234)))
    assert len(error.faults) == 1234
    lines = str(error).splitlines()
    assert len(lines) == 41 and lines[38] == "error: a in 19: c" and lines[40] == "… and 1,214 more"
    assert "more" not in str(InputError(*error.faults[:20]))


def test_a_failure_while_training_is_no_wrong_input() -> None:
    error = TrainingError(Fault("a", "b", "c", "d"))
    assert isinstance(error, RuntimeError) and isinstance(error, FaultsError)
    assert not isinstance(error, InputError | ValueError)
    assert not issubclass(InputError, RuntimeError)
    assert str(error) == "error: a in b: c\nhint: d"
    assert error.faults == (Fault("a", "b", "c", "d"),)


@pytest.mark.parametrize("kind", [InputError, TrainingError])
def test_an_error_travels_between_processes(kind: type[FaultsError]) -> None:
    faults = (Fault("a", "b", "c", "d"), Fault("e", "f", "g"))
    copy = pickle.loads(pickle.dumps(kind(*faults)))
    assert (type(copy), copy.faults) == (kind, faults)


def test_an_error_without_a_fault_is_impossible() -> None:
    with pytest.raises(AssertionError, match="says nothing"):
        InputError()


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "SIGINT"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_stop_has_the_exit_code_of_its_signal(number: int, code: int, name: str) -> None:
    error = Stopped(int(number))
    assert (error.exit_code, str(error)) == (code, f"stopped by {name}")
    assert isinstance(error, KeyboardInterrupt)
    assert not isinstance(error, Exception), "or a handler of failures would take it for one"


def test_faults_are_collected_and_other_errors_pass() -> None:
    faults: list[Fault] = []
    with collected(faults):
        raise InputError(Fault("a", "b", "c"), Fault("d", "e", "f"))
    with collected(faults):
        raise InputError(Fault("g", "h", "i"))
    assert [fault.what for fault in faults] == ["a", "d", "g"]
    with pytest.raises(KeyError), collected(faults):
        raise KeyError
