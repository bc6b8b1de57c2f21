"""Which table is whose, of those that were made of one folder of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.data.editions import change, next_place, note_use, own_table, tables
from hybridnet.files import write_json

DIGESTS = {"valid": "b2", "train": "a1"}


def table(folder: Path, *rows: str, root: str | None = "/photos") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    if root:
        write_json(folder / "source.json", {"root": root})
    return folder / "metadata.csv"


def test_tables_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    first = tmp_path / "metadata.csv"
    assert tables(first) == [first] and next_place(first, name="photos") == tmp_path / "photos_2" / "metadata.csv"
    later = [table(tmp_path / name) for name in ("a_b_10", "photos_2", "c_3")]
    for name in ("mine_4", "photos", ".photos_5.x.tmp_6"):
        table(tmp_path / name, root=None if name == "mine_4" else "/photos")
    assert tables(first) == [first, later[1], later[2], later[0]]
    assert next_place(first, name="d") == tmp_path / "d_11" / "metadata.csv"


def test_a_run_s_own_table(tmp_path: Path) -> None:
    first, second = table(tmp_path), table(tmp_path / "photos_2")
    assert own_table(first, DIGESTS, root="/photos") is None
    note_use(second, DIGESTS)
    note_use(second, dict(reversed(DIGESTS.items())))
    assert own_table(first, DIGESTS, root="/photos") == second
    note_use(first, DIGESTS)
    assert own_table(first, DIGESTS, root="/photos") == first, "which has the same pictures"
    assert own_table(first, {**DIGESTS, "train": "a2"}, root="/photos") is None


def test_the_same_pictures_elsewhere(tmp_path: Path) -> None:
    first, copy = table(tmp_path), table(tmp_path / "copy_2", root="/copy")
    for one in (first, copy):
        note_use(one, DIGESTS)
    assert [own_table(first, DIGESTS, root=root) for root in ("/copy", "/photos", "/moved")] == [copy, first, first]
    first.unlink()
    assert own_table(first, DIGESTS, root="/photos") == copy


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "used").write_text("a file of somebody's")
    note_use(first := table(tmp_path), DIGESTS)
    assert own_table(first, DIGESTS, root="/photos") is None


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["/a,x,train", "/b,x,valid"], "0 new pictures, 0 gone; the 2 others stay in their splits"),
        (["/a,x,train", "/c,x,train"], "1 new picture, 1 gone; the other stays in its split"),
        (["/a,x,valid", "/b,x,valid"], "0 new pictures, 0 gone; 1 of the 2 others are in another split"),
    ],
)
def test_what_has_changed(rows: list[str], told: str, tmp_path: Path) -> None:
    first = table(tmp_path, "/a,x,train", "/b,x,valid")
    assert change(first, table(tmp_path / "photos_2", *rows)) == told
