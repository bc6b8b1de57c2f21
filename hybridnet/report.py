"""`python -m hybridnet.report sweep=<folder>`: what a sweep, or several together, has found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hybridnet.console import show
from hybridnet.errors import Fault, InputError
from hybridnet.files import csv_text, named, output_folder, shortened, write_text
from hybridnet.settings import checked
from hybridnet.sweep.study import Study, read_study

PICTURES = "report"  # folder of the PNGs


@checked
def report(*, folder: str | Sequence[str] | None, out: str | None) -> None:
    """Print what was found; write `sweep.csv`, `sweep.md`, `report.html` and its figures (`report/*.png`) into `out`.

    Args:
        folder: of a sweep, or several of them, whose jobs are then compared with each other.
        out: folder for the files, which is made if it is missing; null is the sweep's own.

    Raises:
        InputError: for a folder without a sweep, sweeps that cannot be compared, and several without `out`.
    """
    folders = sweeps_of(folder)
    if len(folders) > 1 and out is None:
        cause = "several sweeps have no folder in common"
        raise InputError(Fault("missing value", "out", cause, "add out=outputs/<name>: the files go there"))
    try:
        write_report(folders, out=folders[0] if out is None else output_folder(out))
    except OSError as error:
        hint = "choose another one with out=<folder>"
        raise InputError(
            Fault("unusable folder", out or str(folders[0]), error.strerror or str(error), hint)
        ) from error


def sweeps_of(folder: str | Sequence[str] | None) -> list[Path]:
    """The sweeps' folders, as they were given.

    Raises:
        InputError: if there is none.
    """
    hint = "sweep=outputs/sweeps/<time>, the folder that python train.py -m … has written"
    return [Path(name) for name in named(folder, kind="sweep", hint=hint)]


def with_folder(words: Sequence[str]) -> list[str]:
    """A command line with `folder=` for `sweep=`, which Hydra would take for the name of a file in conf/sweep."""
    return [f"folder={word.removeprefix('sweep=')}" if word.startswith("sweep=") else word for word in words]


def write_report(folders: Sequence[Path], *, out: Path) -> Path:
    """Print and write the report of one or several sweeps, whatever has become of their jobs.

    Args:
        folders: of the sweeps.
        out: folder for the files; it must be there.

    Returns:
        The path of `report.html`.

    Raises:
        InputError: for a folder without a sweep, a damaged record, and sweeps that cannot be compared.
        OSError: if a file cannot be written.
    """
    from hybridnet.sweep import page, tables  # matplotlib is not needed to find a fault

    study = read_study(folders)
    write_text(out / "sweep.csv", csv_text(tables.csv_rows(study)))
    write_text(out / "sweep.md", tables.markdown(study))
    write_text(out / "report.html", page.page(study, drawn(study, out / PICTURES)))
    show(*tables.terminal(study), f"report: {shortened(out.resolve() / 'report.html')}")
    return out / "report.html"


def drawn(study: Study, folder: Path) -> list:
    """Draw the figures into a folder, from which those of an earlier report that are no longer made are removed.

    Returns:
        The figures, each with its PNG.
    """
    from hybridnet.sweep.figures import figures

    found = figures(study)
    if found:
        folder.mkdir(exist_ok=True)
    for file in folder.glob("*.png"):
        file.unlink()
    for figure in found:
        figure.draw(folder / figure.name)
    return [(figure, (folder / figure.name).read_bytes()) for figure in found]


if __name__ == "__main__":
    from hybridnet.launch import call

    sys.argv[1:] = with_folder(sys.argv[1:])
    call("report")
