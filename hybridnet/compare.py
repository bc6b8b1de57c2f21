"""`python -m hybridnet.compare runs=[…]`: which differences between trained runs are more than chance."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hybridnet import config
from hybridnet.comparison import tables, trained, units, wording
from hybridnet.comparison.by_class import by_class
from hybridnet.comparison.costs import cost_notes, costs, read_benchmark
from hybridnet.comparison.differences import Comparison, Pairs, compared
from hybridnet.comparison.disagreement import Disputed, disputed
from hybridnet.comparison.findings import Findings, class_rows, csv_rows, disputed_rows, pair_rows, run_rows
from hybridnet.comparison.groups import baseline_of, grouped
from hybridnet.comparison.paired import paired
from hybridnet.console import show, wide_console
from hybridnet.errors import InputError
from hybridnet.files import csv_text, output_folder, shortened, write_text
from hybridnet.report import with_folder
from hybridnet.settings import Count, Seed, checked

MOST_PICTURES = 6  # of pairs
TILE = 160  # pixels


@checked
def compare(
    *,
    runs: str | Sequence[str] | None,
    folder: str | Sequence[str] | None,
    split: str | None,
    benchmark: str | None,
    baseline: str | None,
    pairs: Pairs,
    num_bootstrap: Count,
    seed: Seed,
    out: str,
) -> None:
    """Compare groups of runs on the same pictures; print what was found, and write tables and pictures into `out`.

    Of one group over several folds there is nothing to compare: its own figures are written.

    `compare.md` has it all, `compare.csv` a row for each group, `pairs.csv` for each comparison, `runs.csv` for each
    run, `classes.csv` for each class, `only_one.csv` for each picture that only one of two groups gets right;
    `compare.png` shows accuracy against cost, `only_one_<number>.png` such pictures, where they can be found.

    Args:
        runs: run folders.
        folder: of a sweep, or several, whose complete jobs are compared.
        split: of the pictures; null is the runs' own validation.
        benchmark: file of `python -m hybridnet.benchmark`.
        baseline: name of a group, or a run's folder; null is plain, else the first group.
        pairs: `all` compares every two groups.
        num_bootstrap: draws; 100 for each comparison if that is more.
        seed: of the draws.
        out: folder for the files; it is made if it is missing.

    Raises:
        InputError: for runs without predictions, of other pictures, labels or classes, and files that cannot be used.
    """
    measured = None if benchmark is None else read_benchmark(Path(benchmark))
    named, incomplete = trained.folders(runs, folder)
    groups, notes = grouped(trained.read_all(named, split))
    first = groups.pop(baseline_of(groups, baseline))
    groups = [first, *groups]
    table = units.find_table(run.folder for group in groups for run in group.runs)
    of_table = units.groups_in(table) if table else None
    all_runs, more_notes = paired(groups, of_table)
    target = output_folder(out)
    comparison = compared(all_runs, baseline=0, pairs=pairs, num_draws=num_bootstrap, seed=seed)
    of_groups, cost_causes = costs(all_runs.groups, measured)
    where = None if table is None else str(table)
    if incomplete:
        notes.append(wording.left_out(incomplete))
    findings = Findings(
        comparison,
        of_groups,
        [by_class(all_runs, group) for group in range(len(all_runs.groups))],
        [disputed(all_runs, pair) for pair in comparison.pairs],
        subject=wording.pictures(comparison, split),
        notes=[
            *wording.notes(comparison, table=where, has_groups=of_table is not None),
            *notes,
            *more_notes,
            *cost_notes(all_runs.groups, measured),
            *cost_causes,
        ],
        command=_command(
            *(runs, folder),
            split=split,
            benchmark=benchmark,
            baseline=baseline,
            pairs=pairs,
            num_bootstrap=num_bootstrap,
            seed=seed,
        ),
    )
    _write(findings, target, table)
    written = f"comparison: {shortened(target.resolve() / 'compare.md')}"
    show(*tables.terminal(findings), written, console=wide_console())


def _write(findings: Findings, out: Path, table: Path | None) -> None:
    from hybridnet.comparison import figures  # matplotlib is not needed to find a fault

    for file in (*out.glob("only_one_*.png"), *out.glob("compare.png")):  # of an earlier comparison in the same folder
        file.unlink()
    shown = {}
    if findings.comparison.pairs:
        shown["compare.png"] = f"Differences to {findings.baseline}, and accuracy against cost"
        figures.plot_comparison(
            out / "compare.png",
            findings.comparison,
            findings.costs,
            title=f"{findings.subject}; bars: {wording.PERCENT} intervals",
        )
    for number, (pair, found) in enumerate(zip(findings.comparison.pairs, findings.disputed, strict=True), start=1):
        sections = _sections(findings.comparison, (pair.first, pair.second), found, table)
        if number <= MOST_PICTURES and any(sections.values()):
            name = f"only_one_{number}.png"
            shown[name] = f"Right with only one of {findings.names[pair.first]} and {findings.names[pair.second]}"
            title = "Below each picture: its label, and what the other one said"
            figures.plot_only_one(out / name, sections, title=title)
    for name, rows in (
        ("compare.csv", csv_rows(findings)),
        ("pairs.csv", pair_rows(findings)),
        ("runs.csv", run_rows(findings)),
        ("classes.csv", class_rows(findings)),
        ("only_one.csv", disputed_rows(findings)),
    ):
        write_text(out / name, csv_text(rows))
    write_text(out / "compare.md", tables.markdown(findings, shown))


def _sections(
    comparison: Comparison, pair: tuple[int, int], found: Sequence[Disputed], table: Path | None
) -> dict[str, list]:
    """Of a pair, thumbnails of the pictures that only the first, and only the second gets right."""
    from hybridnet.comparison import figures
    from hybridnet.data.image import thumbnail

    sections = {}
    for place, group in enumerate(pair):
        own = [one for one in found if one.is_first == (place == 0)]
        tiles: list = []
        for one in own:
            if len(tiles) == figures.COLUMNS * figures.MOST_ROWS:
                break
            try:
                picture = thumbnail(units.file_of(one.path, table), TILE)
            except InputError:  # it is gone, or no picture any more
                continue
            tiles.append((picture, figures.lines(one.label, one.wrong)))
        sections[figures.heading(comparison.name(group), len(own), len(tiles))] = tiles
    return sections


def _command(runs: str | Sequence[str] | None, folder: str | Sequence[str] | None, **options: str | int | None) -> str:
    """The command that makes it again."""
    given = {"runs": runs, "sweep": folder, **options}
    words = [f"{key}={_typed(value)}" for key, value in given.items() if value not in (None, [])]
    return shlex.join(["python", "-m", "hybridnet.compare", *words])


def _typed(value: str | int | Sequence[str]) -> str:
    return str(value) if isinstance(value, str | int) else config.as_typed(list(value))


if __name__ == "__main__":
    from hybridnet.launch import call

    sys.argv[1:] = with_folder(sys.argv[1:])
    call("compare")
