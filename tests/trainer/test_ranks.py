"""Several processes that train one model; on the CPU, where they talk by Gloo."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from hybridnet.checkpoint import load_checkpoint
from hybridnet.errors import InputError
from hybridnet.files import read_json
from hybridnet.trainer import ranks
from hybridnet.trainer.ranks import ALONE, Ranks, never_empty
from hybridnet.trainer.supervised import Trainer
from tests.conftest import ROOT, SECONDS, Command, Run, Starter, outcome, require_whole_files, wait_until, write_stripes
from tests.trainer.conftest import TinyBatch

CPU = torch.device("cpu")
SECONDS_UNTIL_ALL_HAVE_ENDED = 10.0


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def start_together(starter: Starter, tmp_path: Path) -> Callable[..., list[Command]]:
    """Starts as many processes with the same arguments as `torchrun` does; `hold` and `folder` are the first one's."""

    def start_all(
        num: int, *arguments: str, hold: tuple[str, int] | None = None, folder: Path = tmp_path
    ) -> list[Command]:
        port, commands = free_port(), []
        for rank in range(num):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num)}
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            own = {"folder": tmp_path, "hold": None} if rank else {"folder": folder, "hold": hold}
            commands.append(starter.start(*arguments, **own, **place, **meeting))
        return commands

    return start_all


StartTogether = Callable[..., list[Command]]


def require_success(commands: list[Command]) -> None:
    for command in commands:
        assert command.wait() == 0, command.stderr
        assert command.session() == {}


def nearly(rows: list[dict[str, float]]) -> list[Any]:
    return [pytest.approx(row, rel=1e-5) for row in rows]


# The same training


def test_two_processes_train_what_one_does(
    start_together: StartTogether, run: Callable, tiny: list[str], tmp_path: Path
) -> None:
    """Mixed pictures, unequal shares of a batch, parts, frozen stages, an average of weights that the first has read.

    Only BatchNorm and dropout see one's part.
    """
    options = [*tiny, "model/backbone=still", "model.dropout=0", "data.batch_size=7", "trainer.precision=float32"]
    options += ["trainer.freeze_epochs=1", "trainer.freeze_stages=1", "trainer.accumulate=2"]
    options += [
        "data.augment.mixup=0.4",
        "data.augment.cutmix=1",
        "data.class_weights=balanced",
        "trainer.clip_norm=0.5",
        "logger=notes",
    ]
    assert run(*options, "hydra.run.dir=alone")[0] == 0
    require_success(start_together(2, *options, "hydra.run.dir=together"))
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "together"}, "one run folder"
    alone, together = outcome(tmp_path / "alone"), outcome(tmp_path / "together")
    assert together["files"] == alone["files"]
    notes = (tmp_path / "together" / "notes.jsonl").read_text().splitlines()
    assert [json.loads(note)["what"] for note in notes] == ["begin", "epoch", "epoch", "epoch", "end"], "of one process"
    histories = [read_json(tmp_path / name / "history.json") for name in ("together", "alone")]
    assert histories[0] == nearly(histories[1])
    weights = [load_checkpoint(tmp_path / name / "last.pt")["model"] for name in ("together", "alone")]
    for name, tensor in weights[1].items():
        torch.testing.assert_close(weights[0][name], tensor, rtol=1e-4, atol=1e-5)
    assert together["metrics"]["valid_acc"] == alone["metrics"]["valid_acc"]
    assert "2 processes" in (tmp_path / "together" / "train.log").read_text()


@pytest.mark.parametrize("num", [1, 2, 3])
def test_an_interrupted_training_goes_on_with_any_number_of_processes(
    start_together: StartTogether, tiny: list[str], tmp_path: Path, num: int
) -> None:
    """With as many as before bit for bit, dropout and BatchNorm included."""
    if num == 2:
        require_success(start_together(2, *tiny, "hydra.run.dir=whole"))
    first, second = start_together(2, *tiny, "hydra.run.dir=run", hold=("step", 6))
    first.wait_until_held()
    second.send(signal.SIGTERM)  # one of them is enough: they agree
    first.go_on()
    assert (first.wait(), second.wait()) == (143, 143), first.stderr
    assert read_json(tmp_path / "run" / "status.json")["status"] == "stopped"
    require_success(start_together(num, *tiny, "hydra.run.dir=run", "resume=auto"))
    assert re.search(r"of the next one \(step [67]\)", (tmp_path / "run" / "train.log").read_text())
    require_whole_files(tmp_path / "run")
    if num == 2:
        assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    else:
        rows = read_json(tmp_path / "run" / "history.json")
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        assert all(0 <= row["train_acc"] <= 1 for row in rows)


def test_a_signal_within_the_validation_stops_all_there(
    start_together: StartTogether, tiny: list[str], tmp_path: Path
) -> None:
    """Of three batches the second has one: it has none left where it tells the first, which has."""
    options = [*tiny, "data.batch_size=4", "hydra.run.dir=run"]
    first, second = start_together(2, *options, hold=("validation", 1))
    first.wait_until_held()
    second.send(signal.SIGTERM)
    first.go_on()
    assert (first.wait(), second.wait()) == (143, 143), first.stderr
    assert not (tmp_path / "run" / "history.json").exists(), "the epoch has come to its end"
    require_success(start_together(2, *options, "resume=auto"))
    assert "continuing after epoch 0, batch 6 of" in (tmp_path / "run" / "train.log").read_text()


def test_nothing_is_left_to_do_for_several_processes_either(
    start_together: StartTogether, tiny: list[str], tmp_path: Path
) -> None:
    options = [*tiny, "trainer.epochs=1", "hydra.run.dir=run"]
    require_success(start_together(2, *options))
    before = (tmp_path / "run" / "last.pt").stat().st_mtime_ns
    commands = start_together(2, *options, "resume=auto")
    require_success(commands)
    assert "nothing is left to do" in commands[0].stdout
    assert (tmp_path / "run" / "last.pt").stat().st_mtime_ns == before


# One of them fails


def require_early_end(commands: list[Command]) -> list[int]:
    """All end soon, with all that they have started; their exit codes."""
    since = time.monotonic()
    codes = [command.wait() for command in commands]
    for command in commands:
        wait_until(lambda command=command: not command.session(), "no orphans", seconds=SECONDS_UNTIL_ALL_HAVE_ENDED)
    assert time.monotonic() - since < SECONDS_UNTIL_ALL_HAVE_ENDED
    return codes


@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_when_one_is_killed_all_end(
    start_together: StartTogether, tiny: list[str], tmp_path: Path, killed: int
) -> None:
    commands = start_together(2, *tiny, "data.num_workers=1", "hydra.run.dir=run", hold=("step", 6))
    commands[0].wait_until_held()
    commands[killed].send(signal.SIGKILL)
    commands[0].go_on()
    assert sorted(require_early_end(commands)) == [-9, 1]
    other = commands[1 - killed]
    assert "error: lost process in rank" in other.stderr
    assert "another of the 2 processes has ended" in other.stderr
    status = read_json(tmp_path / "run" / "status.json")
    if killed == 1:
        assert status["status"] == "failed" and "lost process" in status["error"]
    require_success(start_together(2, *tiny, "hydra.run.dir=run", "resume=auto"))
    assert read_json(tmp_path / "run" / "status.json")["status"] == "complete"


def test_when_one_raises_all_end_and_it_says_why(
    start_together: StartTogether, tiny: list[str], tmp_path: Path
) -> None:
    commands = start_together(2, *tiny, "model/backbone=faithless", "hydra.run.dir=run")
    assert require_early_end(commands) == [1, 1]
    assert "IndexError" in commands[1].stderr
    assert read_json(tmp_path / "run" / "status.json")["status"] == "failed"


def test_all_stop_at_the_step_whose_loss_is_not_finite(
    start_together: StartTogether, tiny: list[str], tmp_path: Path
) -> None:
    options = ["optimizer.base_lr=1e30", "optimizer.head_lr=1e30", "scheduler.warmup_fraction=0", "hydra.run.dir=run"]
    commands = start_together(2, *tiny, *options)
    assert [command.wait() for command in commands] == [1, 1]
    lines = {command.stderr.splitlines()[-2] for command in commands}
    assert len(lines) == 1 and "error: loss that is not finite in epoch 1, step 2" in lines.pop()


def test_wrong_input_ends_all_with_one_message(start_together: StartTogether, tiny: list[str], tmp_path: Path) -> None:
    first, second = start_together(2, *tiny, "data.metadata=nowhere.csv", "hydra.run.dir=run")
    assert require_early_end([first, second]) == [2, 1]
    assert "nowhere.csv" in first.stderr and "nowhere.csv" not in second.stderr
    assert "error: lost process in rank 1: another of the 2 processes has ended" in second.stderr


def test_machines_must_have_the_same_data(start_together: StartTogether, tiny: list[str], tmp_path: Path) -> None:
    """The second finds another table where the first says that it is."""
    (tmp_path / "first").mkdir()
    for folder in (tmp_path / "first", tmp_path):
        write_stripes(folder / "photos")
    table = tmp_path / "photos" / "metadata.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    data = ["data.metadata=photos/metadata.csv", "data.label2id=photos/label2id.json"]
    options = [text for text in tiny if not text.startswith(("data.metadata", "data.label2id"))]
    commands = start_together(2, *options, *data, "hydra.run.dir=run", folder=tmp_path / "first")
    assert require_early_end(commands) == [1, 2]
    assert commands[1].stderr.startswith("error: other data in rank 1: its pictures or labels are not those of rank 0")


# What they cannot do


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "seed=1,2"], "error: wrong option in -m with torchrun: several processes train one model together\n"),
        (["verify_resume=true"], "error: wrong option in verify_resume with torchrun: it compares runs of one process"),
        (["trainer.oom=accumulate"], "error: wrong value in trainer: oom ('accumulate') works in one process only\n"),
        ([], "error: no meeting place in WORLD_SIZE=2: "),
    ],
)
def test_what_several_processes_cannot_do_is_refused(
    run: Callable, tiny: list[str], arguments: list[str], message: str
) -> None:
    code, _, error = run(*tiny[:2], *arguments, *tiny[2:], RANK="0", WORLD_SIZE="2", LOCAL_RANK="0")
    assert code == 2 and error.startswith(message), error


def test_statistics_over_all_gpus_need_gpus(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs GPUs, not cpu; set trainer.sync_batchnorm=false"):
        Trainer(**settings | {"sync_batchnorm": True})


def test_statistics_over_all_gpus_need_whole_batches(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    wanted = settings | {"device": "cuda", "sync_batchnorm": True, "accumulate": 4}
    Trainer(**wanted)  # one process alone waits for nobody
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"accumulate \(4\) exclude .*; set trainer.accumulate=1 or trainer.sync_b"):
        Trainer(**wanted)
    assert Trainer(**wanted | {"accumulate": 1}).sync_batchnorm


# As one of them sees it


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.of_environment() == ALONE
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert Ranks.of_environment() == ALONE
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Ranks.of_environment() == Ranks(rank=3, num=4, local_rank=1)
    assert not Ranks.of_environment().is_first


def test_alone_nothing_is_done() -> None:
    model = nn.Linear(2, 2)
    assert ALONE.wrapped(model, CPU) is model
    assert (ALONE.largest(3), ALONE.sums([1.5, 2.0]), ALONE.gathered("a"), ALONE.of_first("b")) == (
        *(3, [1.5, 2.0], ["a"], "b"),
    )
    ALONE.join()
    ALONE.share_weights(model)
    ALONE.share_buffers(model)
    ALONE.leave()
    assert ALONE.explained(RuntimeError("gloo: Connection closed by peer")) is None


def test_joining_the_others_takes_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known yet of what trains: on a machine with GPUs it may be the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: pytest.fail(f"{device} was set up"))
    backends: list[str] = []
    monkeypatch.setattr(ranks.dist, "init_process_group", lambda backend, **_: backends.append(backend))
    Ranks(rank=1, num=2, local_rank=1).join()
    assert backends == ["cpu:gloo,cuda:nccl"]


def test_as_long_as_one_has_items_all_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(ALONE.in_step("ab")) == ["a", "b"]
    others = iter([True, True, True, False])
    monkeypatch.setattr(Ranks, "largest", lambda self, number: max(number, next(others)))
    assert list(Ranks(1, 2, 1).in_step("ab")) == ["a", "b", None]


def test_the_first_weights_come_in_every_order_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broadcast(tensor: torch.Tensor, *, src: int) -> None:
        assert tensor.is_contiguous() and src == 0
        tensor.fill_(5)

    monkeypatch.setattr(ranks.dist, "broadcast", broadcast)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    Ranks(rank=1, num=2, local_rank=1).share_weights(model)
    assert all((tensor == 5).all() for tensor in model.state_dict().values())
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_each_part_weighs_what_it_has_of_the_batch() -> None:
    """DistributedDataParallel takes the mean of the ranks' gradients; each is that of a mean over its part."""
    ranks, sizes = Ranks(rank=0, num=3, local_rank=0), (3, 2, 0)
    shares = [ranks.share(size, sum(sizes)) for size in sizes]
    means = [2.0, 7.0, 99.0]
    assert sum(share * mean for share, mean in zip(shares, means, strict=True)) / 3 == (3 * 2.0 + 2 * 7.0) / 5


def test_a_rank_without_a_picture_takes_part_and_counts_nothing() -> None:
    inputs, targets = never_empty(torch.ones(0, 3, 4, 5).bfloat16(), torch.ones(0, 7))
    assert (inputs.shape, inputs.dtype, targets.shape) == ((1, 3, 4, 5), torch.bfloat16, (1, 7))
    assert not targets.any()
    full = torch.ones(2, 3, 4, 5), torch.ones(2, 7)
    assert all(one is other for one, other in zip(never_empty(*full), full, strict=True))


def test_only_errors_of_communication_are_explained() -> None:
    ranks = Ranks(rank=2, num=4, local_rank=2)
    error = RuntimeError("[…/gloo/transport/tcp/pair.cc:561] Connection closed by peer\nand more")
    explained = ranks.explained(error)
    assert str(explained).startswith("error: lost process in rank 2: another of the 4 processes has ended")
    assert "and more" not in str(explained)
    assert ranks.explained(RuntimeError("Application timeout caused pair closure"))
    assert ranks.explained(RuntimeError("shapes do not fit")) is None
    assert ranks.explained(InputError(*explained.faults)) is None


SILENT = """
import sys
from datetime import timedelta
import torch
from hybridnet.trainer import ranks
ranks.PATIENCE_WHILE_TRAINING = timedelta(seconds=1)
own = ranks.Ranks.of_environment()
own.join()
own.wrapped(torch.nn.Linear(2, 2), torch.device("cpu"))
if own.rank == 1:
    sys.stdin.read()
    sys.exit()
try:
    own.sums([1.0])
except Exception as error:
    print(own.explained(error))
"""


def test_one_that_does_not_answer_any_more_is_given_up() -> None:
    """As where a machine has lost its network: nothing closes the connection."""
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", SILENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    )
    try:
        told, _ = first.communicate(timeout=SECONDS)
        assert second.poll() is None
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert "error: lost process in rank 0: another of the 2 processes has ended, or cannot be reached" in told
    assert "Timed out waiting 1000ms" in told


class Listening(Ranks):
    """One of several ranks, without the others: `parts` has what each has given so far."""

    parts: ClassVar[dict[int, Any]] = {}

    def largest(self, number: float) -> float:
        return number

    def gathered(self, part: Any) -> list[Any]:
        self.parts[self.rank] = part
        return [self.parts[rank] for rank in sorted(self.parts)]


class Share:
    """17 pictures in batches of 4, of which a rank has every so-many-th."""

    def __init__(self, rank: int, num: int) -> None:
        self.rank, self.num = rank, num
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(17, 3, 8, 10, generator=generator)
        self.labels = torch.randint(3, (17,), generator=generator)

    def valid_batches(self) -> list[TinyBatch]:
        batches = map(TinyBatch, self.images.split(4), self.labels.split(4))
        return list(batches)[self.rank :: self.num]

    def to_input(self, batch: TinyBatch, dtype: torch.dtype) -> torch.Tensor:
        return batch.images.to(dtype)


@pytest.mark.parametrize("num", [2, 3, 5])
def test_validation_is_exact_for_any_number_of_ranks(settings: dict[str, Any], num: int) -> None:
    """Each batch is computed as by one process, none is padded, the order stays."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    trainer = Trainer(**settings)
    expected = trainer.make_evaluator(model)(Share(0, 1))
    Listening.parts.clear()
    for rank in range(num):
        trainer.ranks = Listening(rank, num, rank)
        found = trainer.make_evaluator(model)(Share(rank, num))
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.labels, expected.labels)
    assert len(found.labels) == 17 and found.summary() == expected.summary()


def test_a_false_alarm_about_pointwise_convolutions_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "DistributedDataParallel", lambda model, **_: model)
    monkeypatch.setattr(ranks, "set_timeout", lambda timeout: None)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        Ranks(0, 2, 0).wrapped(nn.Conv2d(2, 2, 1), CPU)
        warnings.warn("Grad strides do not match bucket view strides. This may indicate …", stacklevel=1)
        warnings.warn("another", stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["another"]


# The command


def test_torchrun(process: Run, tiny: list[str], tmp_path: Path) -> None:
    """As the README has it."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py")
    done = process(*torchrun, *tiny, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "run" / "status.json")["status"] == "complete"
    assert done.stdout.count("epoch 1/3") == 1, "one process speaks"
