from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybridnet.data.grouping import join_groups, read_groups
from hybridnet.data.pictures import Picture
from hybridnet.errors import InputError

NAMES = ["blast/plant1_a.jpg", "blast/plant1_b.jpg", "spot/plant22_a.jpg", "spot/other.jpg"]


def pictures(folder: Path) -> list[Picture]:
    return [Picture(folder / name, name, "x", b"", 1, np.zeros(0)) for name in NAMES]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (r"plant(\d+)", ["1", "1", "22", None]),
        (r"plant\d+", ["plant1", "plant1", "plant22", None]),
        ("^[^/]*", ["blast", "blast", "spot", "spot"]),
        ("(a)?.jpg$", ["a", None, "a", None]),
        ("(a?)[.]jpg$", ["a", None, "a", None]),
    ],
)
def test_expression(groups: str, expected: list[str | None], tmp_path: Path) -> None:
    assert read_groups(pictures(tmp_path), groups, table=None) == expected


def test_column_of_root_and_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rows = f"{NAMES[2]},A\n{NAMES[0]},B\n{NAMES[3]}, \nnot/there.jpg,A\n"
    (tmp_path / "photos" / "root.csv").write_text("path,plant no\n" + rows)
    found = read_groups(pictures(tmp_path / "photos"), "plant no", table=tmp_path / "photos" / "root.csv")
    assert found == ["B", None, "A", None]
    (tmp_path / "plants.CSV").write_text("plant,path\n" + "".join(f"{n % 2},photos/{NAMES[n]}\n" for n in range(4)))
    for table in (None, tmp_path / "photos" / "root.csv"):
        found = read_groups(pictures(tmp_path / "photos"), f"{tmp_path}/plants.CSV:plant", table=table)
        assert found == ["0", "1", "0", "1"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("plant(", r"wrong value in groups=plant\(: not a regular expression: .*\nhint: forms: 'groups=\"plant"),
        (
            "tree",
            "no groups in groups=tree: the expression is found in no path; the first is 'blast/plant1_a.jpg'\nhint",
        ),
        ("none.csv:plant", "missing file in groups=none.csv: no such file"),
        ("{}/other.csv:tree", "missing columns in .*: no tree; found 'path', 'plant', 'twice'"),
        ("{}/other.csv:plant", "the paths in .*other.csv and in root have no picture in common that has a value"),
        ("{}/other.csv:twice", "line 3: 'x.jpg' has group '2', and in a line above '1'"),
    ],
)
def test_what_is_refused(groups: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("path,plant,twice\nx.jpg,1,1\nx.jpg,1,2\n")
    with pytest.raises(InputError, match=message):
        read_groups(pictures(tmp_path), groups.format(tmp_path), table=None)


def test_columns_are_named_where_a_word_is_none(tmp_path: Path) -> None:
    (tmp_path / "root.csv").write_text("path,label,plant\nx.jpg,leaf,\n")
    with pytest.raises(InputError, match="and root has no such column, only path, label, plant"):
        read_groups(pictures(tmp_path), "tree", table=tmp_path / "root.csv")
    with pytest.raises(InputError, match="no groups in groups=plant: the column is empty"):
        read_groups(pictures(tmp_path), "plant", table=tmp_path / "root.csv")


def test_join() -> None:
    assert join_groups([7, 3, 7, 5]) == [0, 1, 0, 2]
    assert join_groups([0, 1, 2, 3, 4], ["a", None, "b", "a", None]) == [0, 1, 2, 0, 3]
    assert join_groups([0, 0, 1, 1, 2, 2], [None, "a", "a", "b", "b", None]) == [0] * 6
    assert join_groups(["0", "1"], [None, None]) == [0, 1] and join_groups([]) == []


def test_join_keeps_together_what_any_has_together_and_no_more() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = rng.integers(0, 30, 40), [None if x > 20 else int(x) for x in rng.integers(0, 30, 40)]
        together = one[:, None] == one
        together |= np.array([[a is not None and a == b for b in other] for a in other])
        for _ in range(6):  # paths of length 64
            together = together @ together
        found = np.array(join_groups(one.tolist(), other))
        assert np.array_equal(found[:, None] == found, together)
        assert found[np.sort(np.unique(found, return_index=True)[1])].tolist() == list(range(found.max() + 1))
