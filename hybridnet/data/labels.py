"""`label2id.json`: from label to class index."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hybridnet.data.rows import read_text
from hybridnet.errors import Fault, InputError
from hybridnet.wording import listing


def read_label2id(path: Path) -> dict[str, int]:
    """Read the labels, ordered by their class index.

    Raises:
        InputError: if the file is missing, is not a JSON object from label to index, a label is empty or there twice,
            or the indices are not 0 … n-1.
    """
    label2id, faults = examine_label2id(path)
    if faults:
        raise InputError(*faults)
    return dict(sorted(label2id.items(), key=lambda item: item[1]))


def examine_label2id(path: Path) -> tuple[dict[str, int], list[Fault]]:
    """What `read_label2id` reads, in the order of the file, and the faults of labels and indices.

    Raises:
        InputError: if the file holds no JSON object, or one from class index to label.
    """
    where = f"data.label2id={path}"
    text = read_text(path, "data.label2id", hint="save it as UTF-8")
    example = 'write an object from label to class index, such as {"blast": 0, "healthy": 1}'
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)  # a dict would keep the last of two equal keys, silently
    except (ValueError, RecursionError) as error:
        raise InputError(Fault("unreadable file", where, f"not JSON ({error})", example)) from error
    if not isinstance(pairs, _Pairs):
        cause = f"expected an object, got {type(pairs).__name__}"
        raise InputError(Fault("wrong content", where, cause, example))
    if not pairs:
        raise InputError(Fault("wrong content", where, "expected an object with labels, got an empty one", example))
    if all(label.isdecimal() and isinstance(name, str) and not name.isdecimal() for label, name in pairs):
        raise InputError(Fault("wrong content", where, "is from class index to label, the wrong way round", example))
    return dict(pairs), [Fault("wrong content", where, cause, example) for cause in _label_faults(pairs)]


def clean_label(text: str) -> str:
    """Without spaces around it and in Unicode's composed form (NFC): macOS writes é as e and an accent."""
    return unicodedata.normalize("NFC", text.strip())


def folded(label: str) -> str:
    """The same text for labels that one may not tell apart: case, spaces around them and the form of accents aside."""
    return clean_label(label).casefold()


def lookalikes(labels: Iterable[str]) -> list[list[str]]:
    """The groups of labels with one `folded` text, sorted."""
    found: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        found.setdefault(folded(label), []).append(label)
    return [group for group in found.values() if len(group) > 1]


class _Pairs(list):
    """A JSON object as the list of its keys and values."""


def _label_faults(pairs: _Pairs) -> list[str]:
    labels = [label for label, _ in pairs]
    causes = []
    if doubled := [repr(label) for label, count in Counter(labels).items() if count > 1]:
        causes.append(f"labels that are there more than once: {listing(doubled)}")
    if blank := [f"{label!r} with index {index}" for label, index in pairs if not label.strip()]:
        causes.append(f"empty labels: {listing(blank)}")
    if wrong := [f"'{label}' has {index!r}" for label, index in pairs if type(index) is not int]:
        return [*causes, f"every class index must be an integer: {listing(wrong)}"]
    owners: dict[int, list[str]] = {}
    for label, index in dict.fromkeys(pairs):
        owners.setdefault(index, []).append(label)
    num_classes = len(set(labels))
    gaps = [str(index) for index in range(num_classes) if index not in owners]
    doubles = [f"{listing([*map(repr, names)])} have {index}" for index, names in owners.items() if len(names) > 1]
    outside = [f"'{names[0]}' has {index}" for index, names in owners.items() if not 0 <= index < num_classes]
    if gaps:
        details = [f"{listing(gaps)} missing", *doubles, *outside]
        causes.append(f"the class indices must be 0 … {num_classes - 1} without gaps or doubles: {listing(details)}")
    return causes
