from __future__ import annotations

from hybridnet.errors import Fault, InputError


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
