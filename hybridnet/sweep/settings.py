"""What was typed for a job, as keys and values to compare: `+model.dropout=0.10` is `model.dropout`, `0.1`."""

from __future__ import annotations

from collections.abc import Iterable

SEED, FOLD = "seed", "data.fold"
UNKNOWN = "default"  # a key that was not typed, of a job that has no configuration yet
REPLICATION = (FOLD, SEED)  # runs that differ in these alone are of one setting
# Of Hydra, of a sweep or of one start of a run: nothing that a complete job has computed depends on these.
APART = ("hydra", "sweep", "pruner", "resume", "resume_allow", "verify_resume")
REMOVED = "(removed)"


def settings_of(overrides: Iterable[str]) -> dict[str, str]:
    """The value of each key that decides what a job computes; of those that are typed twice, the last one."""
    found = {}
    for text in overrides:
        key, has_value, value = text.lstrip("+~").partition("=")
        if is_setting(text):
            found[key] = REMOVED if text.startswith("~") or not has_value else canonical(value)
    return found


def is_setting(override: str) -> bool:
    """Whether what a job computes depends on it."""
    key = override.lstrip("+~").partition("=")[0]
    return key.replace("/", ".").partition(".")[0] not in APART


def canonical(text: str) -> str:
    """The same text for what is the same value: `1e-3` and `0.0010`, `'a'` and `a`, `True` and `true`."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace(f"\\{text[0]}", text[0])
    if text.lower() in ("true", "false", "null"):
        return text.lower()
    value = number(text)
    return text if value is None else f"{value:.12g}"


def number(text: str) -> float | None:
    """The finite number that a text is, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def by_size(text: str) -> tuple[bool, float]:
    """A key to sort with: numbers by size, before all else in the order in which it came."""
    value = number(text)
    return (True, 0.0) if value is None else (False, value)


def shown(text: str) -> str:
    """A value for people: a drawn number such as 0.000123456789 is shortened to five digits."""
    value = number(text)
    return text if value is None or len(text) <= 7 else f"{value:.5g}"
