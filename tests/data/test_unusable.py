from __future__ import annotations

from pathlib import Path

import pytest

from hybridnet.data.unusable import told, unusable_images

TABLE = Path("a.csv")


@pytest.mark.parametrize(("number", "more"), [(20, None), (23, "  … and 3 more")])
def test_first_twenty_pictures_are_listed(number: int, more: str | None) -> None:
    fault = unusable_images([(line, "a.png", "is cut") for line in range(number)], TABLE, number)
    assert (fault.what, fault.where) == ("unusable images", "data.metadata=a.csv")
    count, *lines = fault.cause.splitlines()
    assert count == f"{number} of them" and lines[0] == "  line 0 'a.png': is cut"
    assert len([line for line in lines if line.endswith(": is cut")]) == 20
    assert lines[20:] == ([more] if more else [])
    assert "data.on_bad_image=skip" in fault.hint and "python -m hybridnet.doctor" in fault.hint


def test_pictures_are_listed_in_the_order_of_the_table_with_any_cause_and_hint() -> None:
    bad = [(9, "b", "is cut"), (3, "a", "is dark")]
    cause = "2 of them\n  line 3 'a': is dark\n  line 9 'b': is cut"
    assert told(bad) == cause
    assert unusable_images(bad, TABLE, 2, repair="light") == ("unusable images", "data.metadata=a.csv", cause, "light")


def test_where_most_pictures_are_missing_their_paths_are_explained(tmp_path: Path) -> None:
    folder = f"relative paths are relative to the table's folder, {tmp_path}"

    def hint(*paths: str, num_pictures: int = 3) -> str:
        bad = [(line, path, "no such file") for line, path in enumerate(paths)]
        return unusable_images([*bad, (9, "z", "is cut")], tmp_path / "a.csv", num_pictures, repair="mend").hint

    assert hint("a.jpg", "b.jpg") == folder
    assert hint("a.jpg", "b.jpg", num_pictures=4) == hint("/a.jpg", "/b.jpg", num_pictures=4) == "mend"
    assert hint("/a.jpg", "/b.jpg").startswith("if the pictures have moved, change the paths, or make the table again")
    assert hint("p\\a.jpg", "b.jpg") == f"{folder}; folders are separated by /, not by \\"
    assert hint("C:/a.jpg", "b.jpg") == f"{folder}; a drive such as C: is Windows's: make the paths relative"
    assert hint("~/a.jpg", "b.jpg") == f"{folder}; ~ does not stand for the home folder: write it out"
