from __future__ import annotations

import pytest

from hybridnet.sweep.settings import by_size, canonical, is_setting, settings_of, shown


def test_overrides_become_keys_and_values() -> None:
    typed = [
        "data=metadata",
        "+x.y=1",
        "++a=b",
        "model/backbone=resnet34",
        "seed=1",
        "~optimizer.eps",
        "a='c d'",
        "~b=1",
    ]
    assert settings_of(typed) == {
        "data": "metadata",
        "x.y": "1",
        "a": "c d",
        "model/backbone": "resnet34",
        "seed": "1",
        "optimizer.eps": "(removed)",
        "b": "(removed)",
    }


@pytest.mark.parametrize(
    "override",
    [
        "hydra.sweep.dir=a",
        "hydra/launcher=joblib",
        "resume=auto",
        "+sweep=a",
        "sweep.on_error=stop",
        "pruner=b",
        "pruner.x=1",
    ],
)
def test_what_decides_nothing_is_left_out(override: str) -> None:
    assert not is_setting(override) and settings_of([override]) == {}
    assert is_setting("sweeper=1") and is_setting("pruner_=1")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("1e-3", "0.001"),
        ("0.10", "0.1"),
        ("2", "2"),
        ("'a'", "a"),
        (r"'an \'a\' of \"b\"'", r"an 'a' of \"b\""),
        ("[1,2]", "[1,2]"),
        ("inf", "inf"),
        ("", ""),
        ("True", "true"),
        ("NULL", "null"),
        ("'True'", "True"),
    ],
)
def test_the_same_value_is_the_same_text(text: str, same: str) -> None:
    assert canonical(text) == same


def test_a_drawn_number_is_shortened() -> None:
    assert [shown(text) for text in ("0.000123456789", "224", "0.15", "a_long_name")] == [
        "0.00012346",
        "224",
        "0.15",
        "a_long_name",
    ]


def test_numbers_come_by_size_before_words() -> None:
    assert sorted(["b", "10", "2", "a", "1e-3"], key=by_size) == ["1e-3", "2", "10", "b", "a"]
