from __future__ import annotations

from pathlib import Path

from hybridnet.comparison.units import file_of, find_table, groups_in, unit_numbers
from tests.comparison.folders import write_run


def test_pictures_of_one_group_are_one_unit() -> None:
    groups = {"a": "1", "b": "2", "c": "1"}
    assert unit_numbers(["a", "b", "c", "1", "2"], groups).tolist() == [0, 1, 0, 2, 3]
    assert unit_numbers(["a", "b", "c"], None).tolist() == [0, 1, 2]


def test_groups_are_those_of_the_table(tmp_path: Path) -> None:
    table = tmp_path / "metadata.csv"
    table.write_text("path,label,split,group\n./a,x,train,7\nb,x,valid,\nc,x,valid, 7\n")
    assert groups_in(table) == {"a": "7", "c": "7"}
    table.write_text("path,label,split\na,x,train\n")
    assert groups_in(table) is None
    table.write_text("no table")
    assert groups_in(table) is None
    assert file_of("a/b.png", table) == tmp_path / "a" / "b.png" and file_of("/a.png", None) == Path("/a.png")


def test_the_table_is_looked_for_with_every_run(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("path,label,split\na,x,train\n")
    gone = write_run(tmp_path / "gone", [0], [0])
    run = write_run(tmp_path / "run", [0], [0], metadata=str(tmp_path / "metadata.csv"))
    assert find_table([gone, run]) == tmp_path / "metadata.csv" and find_table([gone]) is None
