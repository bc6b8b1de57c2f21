"""label2id.json: a right one is read in the order of its indices; of a wrong one every mistake is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hybridnet.data.labels import clean_label, folded, lookalikes, read_label2id
from hybridnet.errors import Fault, InputError


def faults_of(path: Path) -> tuple[Fault, ...]:
    with pytest.raises(InputError) as error:
        read_label2id(path)
    assert all(fault.where == f"data.label2id={path}" for fault in error.value.faults)
    return error.value.faults


def test_a_thousand_labels_of_one_index_are_not_all_named(tmp_path: Path) -> None:
    path = tmp_path / "label2id.json"
    path.write_text(json.dumps({f"class {number}": 0 for number in range(1000)}), encoding="utf-8")
    (fault,) = faults_of(path)
    assert "'class 19' … (1,000 in all) have 0" in fault.cause and len(fault.cause) < 500


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_labels_come_in_the_order_of_their_index(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "label2id.json"
    path.write_text('{"müde": 2, "NA": 0,\r\n "007": 1}', encoding=encoding)
    assert list(read_label2id(path).items()) == [("NA", 0), ("007", 1), ("müde", 2)]


INDICES = "the class indices must be 0 … {} without gaps or doubles: "


@pytest.mark.parametrize(
    ("content", "what", "cause"),
    [
        (b"", "unreadable file", r"is empty \(0 bytes\)"),
        (b"\xef\xbb\xbf \n", "unreadable file", r"is empty \(5 bytes\)"),
        (bytes(64), "unreadable file", r"is empty \(64 bytes\)"),
        (b"leaf: 0", "unreadable file", "not JSON .*line 1 column 1"),
        (b'{"leaf": 0,}', "unreadable file", "not JSON .*line 1 column"),
        (b'{"leaf": 0,\n "root"', "unreadable file", "not JSON .*line 2 column 8"),
        (b"[" * 100_000, "unreadable file", "not JSON"),
        ('{"leaf": 0, \n"müde": 1}'.encode("latin-1"), "unreadable file", "is not UTF-8: byte 0xfc in line 2"),
        ('{"leaf": 0}'.encode("utf-16"), "unreadable file", "is not UTF-8 but UTF-16"),
        ('{"leaf": 0}'.encode("utf-16-be"), "unreadable file", "is not UTF-8 but UTF-16"),
        ('{"leaf": 0}'.encode("utf-32-le"), "unreadable file", "is not UTF-8 but UTF-16 or UTF-32"),
        (b'["leaf", "root"]', "wrong content", "expected an object, got list"),
        (b'"leaf"', "wrong content", "expected an object, got str"),
        (b"{}", "wrong content", "expected an object with labels, got an empty one"),
        (b'{"leaf": true, "root": 0}', "wrong content", "must be an integer: 'leaf' has True$"),
        (b'{"leaf": 0.0, "root": 1}', "wrong content", "must be an integer: 'leaf' has 0.0$"),
        (b'{"0": "leaf", "1": "root"}', "wrong content", "is from class index to label, the wrong way round$"),
        (b'{"leaf": "0", "root": "1"}', "wrong content", "must be an integer: 'leaf' has '0', 'root' has '1'$"),
        (b'{"7": "0", "9": "1"}', "wrong content", "must be an integer: '7' has '0', '9' has '1'$"),
        (b'{"leaf": null}', "wrong content", "must be an integer: 'leaf' has None$"),
        (b'{"leaf": {"id": 0}}', "wrong content", "must be an integer: 'leaf' has "),
        (b'{"leaf": 0, "root": 2}', "wrong content", INDICES.format(1) + "1 missing, 'root' has 2$"),
        (b'{"leaf": 1, "root": 2}', "wrong content", INDICES.format(1) + "0 missing, 'root' has 2$"),
        (b'{"a": 0, "b": 1, "c": 1}', "wrong content", INDICES.format(2) + "2 missing, 'b', 'c' have 1$"),
        (b'{"leaf": -1, "root": 0}', "wrong content", INDICES.format(1) + "1 missing, 'leaf' has -1$"),
        (b'{"leaf": 0, "root": 1, "leaf": 0}', "wrong content", "labels that are there more than once: 'leaf'$"),
        (b'{"leaf": 0, "leaf": 1}', "wrong content", "labels that are there more than once: 'leaf'$"),
        (b'{"leaf": 0, "": 1}', "wrong content", "empty labels: '' with index 1$"),
        (b'{"leaf": 0, " ": 1}', "wrong content", "empty labels: ' ' with index 1$"),
    ],
)
def test_wrong_labels(content: bytes, what: str, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "label2id.json"
    path.write_bytes(content)
    (fault,) = faults_of(path)
    assert fault.what == what
    assert re.search(cause, fault.cause)
    assert fault.hint or "not JSON" in fault.cause


def test_every_kind_of_mistake_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "label2id.json"
    path.write_text('{"leaf": 0, "leaf": 0, "": 5}')
    assert [fault.cause for fault in faults_of(path)] == [
        "labels that are there more than once: 'leaf'",
        "empty labels: '' with index 5",
        INDICES.format(1) + "1 missing, '' has 5",
    ]


def test_first_twenty_gaps_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "label2id.json"
    path.write_text(str({str(index): 1000 + index for index in range(30)}).replace("'", '"'))
    (fault,) = faults_of(path)
    assert "18, 19 … (30 in all) missing, '0' has 1000" in fault.cause


def test_spaces_and_the_form_of_accents_do_not_make_another_label() -> None:
    assert clean_label("  gru\u0308n\t") == clean_label("gr\xfcn") == "gr\xfcn"
    assert clean_label("brown spot") == "brown spot" != clean_label("Brown spot")
    assert folded(" GRU\u0308N") == folded("gr\xfcn")
    assert lookalikes(["blast", "Blast", "rust", "Blast", "BLAST"]) == [["BLAST", "Blast", "blast"]]
