"""`python -m hybridnet.benchmark`: the speed, memory and size of the models on this machine."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from hybridnet import config, environment, experiment
from hybridnet.console import show, track, wide_console
from hybridnet.errors import Fault, InputError
from hybridnet.files import csv_text, output_folder, shortened, write_json, write_text
from hybridnet.measure import report
from hybridnet.measure.claims import Claim, claims
from hybridnet.measure.comparison import Comparison, Key, Measurement, Subject
from hybridnet.measure.feed import Feed, measure_feed
from hybridnet.measure.goals import Goal, goals
from hybridnet.measure.report import Size
from hybridnet.measure.startup import NUM_PARTS, Startup, measure_startup
from hybridnet.measure.works import SIZED, TASKS, Case, Task, count_macs, count_parameters
from hybridnet.settings import Count, Positive, Seed, checked
from hybridnet.trainer.compilation import CompileMode
from hybridnet.trainer.protocols import Data
from hybridnet.trainer.randomness import seed_everything
from hybridnet.trainer.supervised import Trainer

AUTO_BATCH_SIZES = {"cuda": [1, 32, 256], "mps": [1, 32, 256]}
OF_CLAIMS = 32  # the batch size, where it is among those that are measured


@checked
def benchmark(
    *,
    models: Sequence[str],
    sizes: Sequence[Literal["lite", "full"]],
    image_size: Count,
    batch_sizes: Literal["auto"] | Sequence[Count],
    num_classes: Count,
    overrides: Sequence[str],
    rounds: Count,
    seconds: Positive,
    trainer: Mapping[str, Any],
    compile: Sequence[CompileMode],
    claims: bool,
    data: Data | None,
    textbook: bool,
    startup: bool,
    seed: Seed,
    out: str,
) -> None:
    """Measure every model beside plain ResNet-18, in interleaved rounds; print tables, write them and a picture.

    A training step is the trainer's own, on a batch that lies on the device; inference is as in its evaluation.
    Into `out` go `benchmark.csv`, `benchmark.json` (with the environment) and `benchmark.png`.

    Args:
        models: names in conf/model.
        sizes: of those models that have two.
        image_size: height and width.
        batch_sizes: `auto` for 1 and 32, and 256 on a GPU.
        num_classes: of the models.
        overrides: further settings of every model, as in training.
        rounds: of every comparison.
        seconds: that one measurement lasts at least.
        trainer: other settings than those of conf/trainer.
        compile: modes of the trainer's step. Everything is relative to plain in the first of them; inference, which
            is never compiled, is measured once.
        claims: also compare what the guide compares.
        data: also train on these and compare with the same loop on one batch of them.
        textbook: also compare with the training loop of the tutorials, on the files of the data; on a CPU.
        startup: also time how a training begins, and the jobs of a sweep.
        seed: of weights and pictures.
        out: folder for the results; it is made if it is missing.

    Raises:
        InputError: for a model, mode, table or folder that cannot be used, before anything is measured.
    """
    seed_everything(seed)
    extra = tuple(overrides)
    cases = list(_cases(models, sizes, image_size, extra))
    trainers = {mode: _trainer(mode, trainer) for mode in _required(compile, "compile")}
    first = trainers[compile[0]]
    if textbook and (data is None or first.device.type != "cpu"):
        cause = "the textbook loop trains on data, on a CPU"
        raise InputError(Fault("missing setting", "textbook=true", cause, "data=synthetic trainer.device=cpu"))
    if data is not None:
        experiment.require_files_of(data)
    script = config.train_script(hint="startup=true needs a checkout of the project") if startup else None
    if batch_sizes == "auto":
        batch_sizes = AUTO_BATCH_SIZES.get(first.device.type, [1, 32])
    bench = Benchmark(
        Comparison(trainers, num_classes=num_classes, rounds=rounds, seconds=seconds),
        cases,
        sorted(set(_required(batch_sizes, "batch_sizes"))),
        checks=_claims(image_size, extra) if claims else [],
    )
    folder = output_folder(out).resolve()
    described = environment.describe(device=first.device, precision=first.precision.name, seed=seed, processes=1)
    gc.freeze()  # what is there already need not be looked through before every measurement, for 0.2 s
    try:
        bench.measure()
        if data is not None:
            bench.feed(data, cases[0], textbook=textbook)
        if script is not None:
            own = {**trainer, "compile": compile[0], "epochs": 1}
            bench.start(script, [f"trainer.{key}={value}" for key, value in own.items()])
    finally:  # also what was complete at Ctrl-C
        gc.unfreeze()
        if bench.results:
            bench.write(folder, described)


class Benchmark:
    """What is measured, and what was found so far.

    Args:
        comparison: measures.
        cases: the reference first.
        batch_sizes: of every case.
        checks: claims to be measured as well.
    """

    def __init__(
        self, comparison: Comparison, cases: Sequence[Case], batch_sizes: Sequence[int], *, checks: Sequence[Claim]
    ) -> None:
        self.comparison = comparison
        self.cases = cases
        self.batch_sizes = batch_sizes
        self.checks = checks
        self.modes = list(comparison.trainers)
        self.results: dict[Key, dict[Task, Measurement]] = {}
        self.claims: dict[tuple[Claim, int], dict[Task, Measurement]] = {}
        self.feeds: dict[str, Feed] = {}
        self.startup: Startup | None = None
        self.sizes: dict[Case, Size] = {}

    def measure(self) -> None:
        """Every case at every task and batch size, then the claims."""
        num_training = len(self.cases) * len(self.modes)
        total = len(self.batch_sizes) * (num_training + len(self.cases)) + len(TASKS) * len(self.checks)
        for _ in track(self._measured(), "measuring", total):
            pass

    def _measured(self) -> Iterator[None]:
        for case in self.cases:
            numbers = (count(case, num_classes=self.comparison.num_classes) for count in (count_parameters, count_macs))
            self.sizes[case] = Size(*numbers)
        for batch_size in self.batch_sizes:
            for task in TASKS:
                modes = self.modes if task == "training" else self.modes[:1]
                subjects = [Subject(case, mode) for case in self.cases for mode in modes]
                for subject, found in self.comparison.measured(subjects, task, batch_size):
                    self.results.setdefault(Key(subject, batch_size), {})[task] = found
                    if subject is not subjects[0]:
                        yield
        batch_size = OF_CLAIMS if OF_CLAIMS in self.batch_sizes else self.batch_sizes[-1]
        for claim in self.checks:
            for task in TASKS:
                pair = [Subject(case, self.modes[0]) for case in (claim.other, claim.model)]
                *_, (_, found) = self.comparison.measured(pair, task, batch_size)
                self.claims.setdefault((claim, batch_size), {})[task] = found
                yield

    def feed(self, data: Data, case: Case, *, textbook: bool) -> None:
        """Train on data, with a model that is hard to feed."""
        first = next(iter(self.comparison.trainers.values()))
        data.setup(device=first.device, track=track)
        for mode, trainer in self.comparison.trainers.items():
            model = case.build(trainer, num_classes=len(data.classes))
            rounds, seconds = self.comparison.rounds, 10 * self.comparison.seconds
            cfg = case.configuration()
            with _textbook(data, case) if textbook else nullcontext() as timed:
                self.feeds[mode] = measure_feed(
                    trainer, model, data, cfg, rounds=rounds, seconds=seconds, textbook=timed
                )

    def start(self, script: Path, overrides: Sequence[str]) -> None:
        """Begin a training in new processes, and train many models in one, on the embedded data."""
        rounds = self.comparison.rounds
        parts = measure_startup(script, overrides, rounds=rounds)
        *_, self.startup = track(parts, "starting", rounds + NUM_PARTS)

    def write(self, folder: Path, described: Mapping[str, Any]) -> None:
        """Print and write what was found."""
        size = self.cases[0].image_size
        where = f"{size}×{size}, {described['device']} in {described['precision']}"
        show(*self._tables(where), console=wide_console())
        rows = [report.columns(), *report.csv_rows(self.results, self.sizes)]
        write_text(folder / "benchmark.csv", csv_text(rows))
        content = {
            "environment": described,
            "rounds": self.comparison.rounds,
            "results": [dict(zip(rows[0], row, strict=True)) for row in rows[1:]],
            "claims": [
                {"claim": claim.text, "model": asdict(claim.model), "other": asdict(claim.other), "batch_size": number}
                | {
                    task: {"speed": found.speed, "memory": found.memory, "note": found.note}
                    for task, found in of.items()
                }
                for (claim, number), of in self.claims.items()
            ],
            "feed": {mode: feed._asdict() for mode, feed in self.feeds.items()},
            "startup": self.startup and self.startup._asdict(),
            "goals": [goal._asdict() for goal in self.goals()],
        }
        write_json(folder / "benchmark.json", content)
        name = described["device_name"]
        report.draw(folder / "benchmark.png", self.results, self.sizes, title=f"{where} ({name})")
        names = [str(shortened(folder / f"benchmark.{kind}")) for kind in ("csv", "json", "png")]
        show(f"wrote {', '.join(names)}")

    def goals(self) -> list[Goal]:
        """What this kind of device is to reach, and does."""
        return goals(self.results, self.feeds, self.startup, modes=self.modes, device=self.comparison.device.type)

    def _tables(self, where: str) -> Iterator[Table]:
        yield from report.tables(self.results, self.sizes, where=where)
        if self.claims:
            yield report.claims_table(self.claims)
        if self.feeds:
            yield report.feed_table(self.feeds)
        if found := self.goals():
            yield report.goals_table(found)


@contextmanager
def _textbook(data: Data, case: Case) -> Iterator[Callable[[int], float]]:
    """The seconds per picture of so many steps on the data's files, with torchvision's network of the architecture.

    Raises:
        InputError: for data that are no files.
    """
    from hybridnet.measure.textbook import Textbook, published  # torchvision is not needed to find a fault

    if not hasattr(data.train, "files"):
        hint = "leave textbook out"
        raise InputError(Fault("data without files", "textbook=true", "the textbook loop reads files", hint))
    num_classes = len(data.classes)
    backbone = case.configuration().model.backbone
    model = published(case.blueprint(num_classes=num_classes), backbone, num_classes=num_classes)
    files, labels = data.train.files, data.train.labels.tolist()
    with Textbook(files, labels, model, image_size=data.image_size, batch_size=data.batch_size) as textbook:
        yield textbook.seconds_per_image


def _cases(models: Sequence[str], sizes: Sequence[str], image_size: int, overrides: tuple[str, ...]) -> Iterator[Case]:
    """The reference, and every model in every size that it has.

    Raises:
        InputError: if a model cannot be built.
    """
    sizes = _required(sizes, "sizes")
    for model in dict.fromkeys(["plain", *models]):
        of_model = sizes if model in SIZED else [None]
        for size in dict.fromkeys(of_model):
            case = Case(model, size, image_size, overrides=overrides)
            case.configuration()
            yield case


def _claims(image_size: int, overrides: tuple[str, ...]) -> list[Claim]:
    found = claims(image_size, overrides=overrides)
    for claim in found:
        claim.model.configuration(), claim.other.configuration()
    return found


def _trainer(mode: str, settings: Mapping[str, Any]) -> Trainer:
    own = {f"trainer.{key}": value for key, value in {**settings, "compile": mode}.items()}
    try:
        return config.build(config.with_values(config.compose("train"), own).trainer)
    except InputError:
        raise
    except ValueError as error:
        cause, _, hint = str(error).partition("; ")
        raise InputError(Fault("wrong value", f"compile={mode} with trainer={dict(settings)}", cause, hint)) from error


def _required(values: Sequence[Any], name: str) -> Sequence[Any]:
    if not values:
        raise InputError(
            Fault("missing value", f"{name}=[]", "nothing to measure", f"leave out {name} for the default")
        )
    return values


if __name__ == "__main__":
    from hybridnet.launch import call

    call("benchmark")
