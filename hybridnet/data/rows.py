"""Reading text files that somebody else made: the rows of a table, and an explanation of what is none."""

from __future__ import annotations

import codecs
import csv
import io
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybridnet.errors import Fault, InputError
from hybridnet.wording import listing

COLUMNS = ("path", "label", "split")
OPTIONAL_COLUMNS = ("fold", "group")
PREPARE = "python -m hybridnet.prepare root=<folder of class folders> out=<folder> makes both files"
SAVE = "save it as UTF-8; in Excel: Save As, type 'CSV UTF-8 (Comma delimited)'"
DELIMITERS = (",", ";", "\t", "|")  # Excel writes semicolons where a comma is the decimal sign
HEADER_LENGTH = 100_000  # characters; longer fields are an error of `csv`
UTF16_OR_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # UTF-32-LE begins like UTF-16-LE


class Row(NamedTuple):
    """A line of the table, as text; `fold` and `group` are None where the table has no such column."""

    line: int  # in the file, counted from 1
    path: str
    label: str
    split: str
    fold: str | None
    group: str | None


def require_file(path: Path, option: str, *, hint: str = PREPARE) -> None:
    """Raises InputError, with what to do, if the file that `option` names is not there or is no regular file."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(Fault("missing file", f"{option}={path}", "no such file", hint)) from error
    except (OSError, ValueError) as error:  # no permission, a name that is too long, a NUL in it
        raise InputError(Fault("unreadable file", f"{option}={path}", _reason(error))) from error
    if stat.S_ISDIR(mode):
        names = {"data.metadata": "metadata.csv", "data.label2id": "label2id.json"}
        inside = f"name the file in it: {option}={path / names.get(option, '<file>')}"
        raise InputError(Fault("missing file", f"{option}={path}", "is a folder", inside))
    if not stat.S_ISREG(mode):  # reading a named pipe or a device would wait or fill the memory
        raise InputError(Fault("unreadable file", f"{option}={path}", "is not a regular file", hint))


def read_text(path: Path, option: str, *, hint: str = SAVE, missing: str = PREPARE) -> str:
    """The text of a file in UTF-8; a byte order mark is fine.

    Raises:
        InputError: if the file is missing, empty, or in another encoding.
    """
    require_file(path, option, hint=missing)
    where = f"{option}={path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(Fault("unreadable file", where, _reason(error))) from error
    if not content.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\n\0"):
        raise InputError(Fault("unreadable file", where, f"is empty ({len(content)} bytes)", missing))
    if content.startswith(b"PK\x03\x04"):
        raise InputError(Fault("unreadable file", where, "is not text but an Excel workbook or another archive", hint))
    has_zeros = len(content) > 1 and not (any(content[:20:2]) and any(content[1:20:2]))
    if content.startswith(UTF16_OR_32) or has_zeros:
        raise InputError(Fault("unreadable file", where, "is not UTF-8 but UTF-16 or UTF-32", hint))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        cause = f"is not UTF-8: byte 0x{error.object[error.start]:02x} in line {line}"
        raise InputError(Fault("unreadable file", where, cause, hint)) from error


def read_rows(path: Path, option: str = "data.metadata") -> tuple[list[Row], list[Fault]]:
    """The rows of `metadata.csv`, without blank lines; other columns are ignored.

    Args:
        path: of the table.
        option: that names it, for messages.

    Returns:
        The rows with as many fields as the header, and a fault that lists the others.

    Raises:
        InputError: if the file is no table, or lacks one of the columns path, label, split.
    """
    header, records, faults = read_records(path, option, COLUMNS, hint=PREPARE)
    places = [header.index(name) if name in header else None for name in (*COLUMNS, *OPTIONAL_COLUMNS)]
    rows = [Row(line, *(None if place is None else fields[place] for place in places)) for line, fields in records]
    return rows, faults


def read_records(
    path: Path, option: str, columns: Sequence[str], *, hint: str
) -> tuple[list[str], list[tuple[int, list[str]]], list[Fault]]:
    """The header of a CSV table, and its records with the line of each, without blank lines.

    The fields are separated by the one of `DELIMITERS` that divides the header into most columns.

    Args:
        path: of the table.
        option: that names it, for messages.
        columns: that must be there.
        hint: what to do if there is no table.

    Returns:
        Header and the records with as many fields as it, and a fault that lists the others.

    Raises:
        InputError: if the file is no table, or lacks a column.
    """
    where = f"{option}={path}"
    text = read_text(path, option, missing=hint)
    delimiter = _delimiter(text)
    records = [record for record in _records(text, delimiter, where) if any(map(str.strip, record[1]))]
    if not records:
        raise InputError(Fault("no rows", where, "all its lines are blank", hint))
    _, header = records.pop(0)
    _require_columns(header, columns, where)
    if not records:
        raise InputError(Fault("no rows", where, "the table ends after its first line", hint))
    wrong = [f"line {line} has {len(fields)}" for line, fields in records if len(fields) != len(header)]
    if any(len(fields) > len(header) for _, fields in records):
        hint = f'put a path or label with {delimiter!r} into quotes: "a{delimiter} b.jpg"'
    else:
        hint = f"give every row all of them, empty ones as well: {delimiter.join(header)}"
    cause = f"expected {len(header)} fields: {listing(wrong)}"
    faults = [Fault("wrong rows", where, cause, hint)] if wrong else []
    return header, [record for record in records if len(record[1]) == len(header)], faults


def _delimiter(text: str) -> str:
    header = next(io.StringIO(text.lstrip(" \r\n"), newline=""))[:HEADER_LENGTH]
    return max(DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter))))


def _records(text: str, delimiter: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Every record with the line where it begins."""
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(Fault("unreadable file", where, f"is not text: a zero byte in line {line}"))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        never_ends = "unexpected end" in str(error) or "field limit" in str(error)
        what = (
            'a quote (") that opens in line {} does not close' if never_ends else 'a quote (") in line {} is misplaced'
        )
        hint = 'quotes stand around a whole field; a quote inside is doubled: "5"" pot.jpg"'
        raise InputError(Fault("unreadable file", where, what.format(line), hint)) from error


def _require_columns(header: Sequence[str], columns: Sequence[str], where: str) -> None:
    doubled = [name for name in (*columns, *OPTIONAL_COLUMNS) if header.count(name) > 1]
    if doubled:
        cause = f"{', '.join(doubled)} is there more than once; found {_shown(header)}"
        raise InputError(Fault("doubled columns", where, cause, "remove or rename the others"))
    missing = [name for name in columns if name not in header]
    if not missing:
        return
    cause = f"no {', '.join(missing)}; found {_shown(header)}"
    hint = f"the first line must be: {','.join(columns)}"
    meant = {found.strip().casefold(): found for found in header}
    if all(name in meant for name in missing):
        hint = "rename " + ", ".join(f"{meant[name]!r} to '{name}'" for name in missing)
    raise InputError(Fault("missing columns", where, cause, hint))


def _shown(header: Sequence[str]) -> str:
    return listing([repr(name if len(name) <= 40 else f"{name[:39]}…") for name in header])


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
