"""A table that is made at first use: once, whole, anew when its source changes, and never over somebody's files."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hybridnet.data import source as module
from hybridnet.data.source import Source, Table, ensure
from hybridnet.errors import InputError


class Leaves(Source):
    """Writes two files and counts how often."""

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.filled = 0

    def state(self) -> dict[str, Any]:
        return {"version": self.version, "size": (3, 4)}

    def fill(self, folder: Path, *, track: Any) -> Table:
        self.filled += 1
        (folder / "images").mkdir()
        for number in track(range(2), "Writing", 2):
            (folder / "images" / f"{number}_{self.version}.txt").write_text("leaf")
        return Table([(f"images/{n}_{self.version}.txt", "leaf", "train") for n in range(2)], {"leaf": 0})


def silent(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    return items


def make(source: Source, folder: Path, *, label2id: Path | None = None) -> None:
    ensure(source, folder / "metadata.csv", label2id or folder / "label2id.json", track=silent)


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


FIRST = {"images/0_1.txt", "images/1_1.txt", "label2id.json", "metadata.csv", "source.json"}


def test_pair_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "leaves"
    make(Leaves(), folder)
    assert names(folder) == FIRST
    assert (folder / "metadata.csv").read_text() == (
        "path,label,split\nimages/0_1.txt,leaf,train\nimages/1_1.txt,leaf,train\n"
    )
    assert json.loads((folder / "label2id.json").read_text()) == {"leaf": 0}
    assert [p.name for p in folder.parent.iterdir() if not p.name.endswith(".lock")] == ["leaves"]


def test_it_is_made_once(tmp_path: Path) -> None:
    first, second = Leaves(), Leaves()
    make(first, tmp_path / "leaves")
    make(second, tmp_path / "leaves")
    assert (first.filled, second.filled) == (1, 0)


def test_another_state_makes_it_anew(tmp_path: Path) -> None:
    make(Leaves(), tmp_path / "leaves")
    (tmp_path / "leaves" / "notes.txt").write_text("mine")
    make(Leaves(version=2), tmp_path / "leaves")
    second = {name.replace("_1", "_2") for name in FIRST}
    assert names(tmp_path / "leaves") == second | {"notes.txt"}
    assert "images/1_2.txt" in (tmp_path / "leaves" / "metadata.csv").read_text()


@pytest.mark.parametrize("lost", ["metadata.csv", "label2id.json"])
def test_half_a_pair_of_ours_is_completed(lost: str, tmp_path: Path) -> None:
    make(Leaves(), tmp_path / "leaves")
    (tmp_path / "leaves" / lost).unlink()
    make(Leaves(), tmp_path / "leaves")
    assert names(tmp_path / "leaves") == FIRST


def test_pair_of_somebody_else_stays(tmp_path: Path) -> None:
    for name in ("metadata.csv", "label2id.json"):
        (tmp_path / name).write_text("mine")
    source = Leaves()
    make(source, tmp_path)
    assert source.filled == 0 and (tmp_path / "metadata.csv").read_text() == "mine"


@pytest.mark.parametrize("taken", ["metadata.csv", "images/mine.jpg"])
def test_files_of_somebody_else_are_not_replaced(taken: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / taken).parent.mkdir(parents=True)
    (folder / taken).write_text("mine")
    with pytest.raises(InputError, match=rf"in {folder}: .*belongs to somebody else.*\nhint: .*data\.metadata="):
        make(Leaves(), folder)
    assert names(folder) == {taken} and (folder / taken).read_text() == "mine"


def test_folder_with_other_files_is_used(tmp_path: Path) -> None:
    (tmp_path / "leaves").mkdir()
    (tmp_path / "leaves" / "notes.txt").write_text("mine")
    make(Leaves(), tmp_path / "leaves")
    assert names(tmp_path / "leaves") == {*FIRST, "notes.txt"}


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(InputError, match="No space left on device"):
        make(Leaves(), tmp_path / "leaves")
    assert not (tmp_path / "leaves").exists() and not list(tmp_path.glob("*.tmp"))


def test_killed_while_replacing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the new pieces are there: the next process makes all of them anew."""
    folder = tmp_path / "leaves"
    make(Leaves(), folder)
    replaced = []
    replace = Path.replace

    def killed(self: Path, target: Path) -> None:
        if self.name == "label2id.json" and "tmp" in str(self.parent.name):
            raise KeyboardInterrupt
        replaced.append(self.name)
        replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            make(Leaves(version=2), folder)
    assert "images" in replaced, "the test must stop in the middle"
    make(Leaves(version=1), folder)
    assert names(folder) == FIRST


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".leaves.abc.tmp").mkdir()
    (tmp_path / ".leaves.abc.tmp" / "x").write_text("half")
    make(Leaves(), tmp_path / "leaves")
    assert not (tmp_path / ".leaves.abc.tmp").exists()


def test_two_at_once_make_one(tmp_path: Path) -> None:
    barrier = threading.Barrier(2)
    sources = [Leaves(), Leaves()]

    def run(source: Leaves) -> None:
        barrier.wait()
        make(source, tmp_path / "leaves")

    threads = [threading.Thread(target=run, args=[source]) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(source.filled for source in sources) == [0, 1]
    assert names(tmp_path / "leaves") == FIRST


def test_pair_in_two_folders_is_not_made(tmp_path: Path) -> None:
    make(Leaves(), tmp_path / "a", label2id=tmp_path / "b" / "label2id.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match="unusable folder"):
        make(Leaves(), tmp_path / "leaves")
