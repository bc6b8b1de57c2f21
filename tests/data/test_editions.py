"""Which table is whose, of those that were made of one folder of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.data.editions import change, next_place, tables
from hybridnet.files import write_json


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
