"""The user's own groups of pictures (a plant, a patient, a field), and groups of several kinds joined."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path

from hybridnet.data.pictures import Named, Picture, read_table
from hybridnet.errors import Fault, InputError

FORMS = r"""'groups="plant(\d+)"' (a regular expression), groups=<column of root>, or groups=<file.csv>:<column>"""


def read_groups(pictures: Sequence[Picture | Named], groups: str, *, table: Path | None) -> list[str | None]:
    """The user's group of each picture, or None where it has none.

    Args:
        pictures: of which names (for an expression) and files (for a column) are used.
        groups: a column of the table; or `<file.csv>:<column>`, with a column path relative to the file's folder; or
            a regular expression that is searched in each name: its first group counts if it has one, else the match.
        table: root, where that is a table.

    Raises:
        InputError: if there is no such file or column, the expression is wrong, or no picture has a group.
    """
    where = f"groups={groups}"
    columns = read_table(table, "root", ())[0] if table else {}
    match = re.fullmatch(r"(.+\.csv):([^:]+)", groups, re.IGNORECASE)
    if match:
        found = _from_column(pictures, Path(match[1]), match[2], where)
        cause = f"the paths in {match[1]} and in root have no picture in common that has a value"
    elif groups in columns:
        found = _from_column(pictures, table, groups, where)
        cause = "the column is empty"
    else:
        found = _from_expression(pictures, groups, where)
        cause = f"the expression is found in no path; the first is '{pictures[0].name}'"
        if table:
            cause += f", and root has no such column, only {', '.join(columns)}"
    if not any(found):
        raise InputError(Fault("no groups", where, cause, f"forms: {FORMS}"))
    return found


def join_groups(*groupings: Sequence[Hashable | None]) -> list[int]:
    """The finest groups that keep together what any grouping has together; numbered by first appearance.

    Args:
        groupings: of the same pictures; None stands for no group.
    """
    parents: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while parents.setdefault(node, node) != node:
            parents[node] = node = parents[parents[node]]
        return node

    for kind, grouping in enumerate(groupings):
        for index, group in enumerate(grouping):
            if group is not None:
                parents[root((kind, group))] = root(index)
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(root(index), len(numbers)) for index in range(len(groupings[0]))]


def _from_expression(pictures: Sequence[Picture | Named], groups: str, where: str) -> list[str | None]:
    try:
        expression = re.compile(groups)
    except re.error as error:
        cause = f"not a regular expression: {error}"
        raise InputError(Fault("wrong value", where, cause, f"forms: {FORMS}")) from error
    matches = [expression.search(picture.name) for picture in pictures]
    return [match[min(1, expression.groups)] or None if match else None for match in matches]


def _from_column(pictures: Sequence[Picture | Named], file: Path, column: str, where: str) -> list[str | None]:
    columns, numbers = read_table(file, "groups", ("path", column))
    groups: dict[Path, str] = {}
    for line, name, group in zip(numbers, columns["path"], columns[column], strict=True):
        path = (file.parent / name).resolve()
        if groups.setdefault(path, group) != group:
            cause = f"line {line}: '{name}' has group '{group}', and in a line above '{groups[path]}'"
            raise InputError(Fault("wrong rows", where, cause, "give every picture one group"))
    return [groups.get(picture.file.resolve(), "").strip() or None for picture in pictures]
