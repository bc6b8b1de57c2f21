from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import nn

from hybridnet import checkpoint
from hybridnet.checkpoint import (
    best_model_file,
    largest_sizes,
    load_checkpoint,
    load_last,
    load_weights,
    require_saved,
    save_checkpoint,
    snapshot,
)
from hybridnet.errors import InputError, Stopped, TrainingError
from hybridnet.files import replacing

CONTENT = {"model": {"weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7)}, "state": {"epoch": 3}}


def _is_content(loaded: dict[str, Any]) -> bool:
    weights, saved = loaded["model"], CONTENT["model"]
    same = all(weights[name].dtype == saved[name].dtype and torch.equal(weights[name], saved[name]) for name in saved)
    return same and weights.keys() == saved.keys() and {**loaded, "model": None} == {**CONTENT, "model": None}


@pytest.mark.parametrize("stays_in_file", [False, True])
def test_what_was_saved_is_loaded(tmp_path: Path, stays_in_file: bool) -> None:
    path = tmp_path / "a.pt"
    content = {"weights": {"a": torch.arange(6.0).reshape(2, 3)}, "epoch": 3, "history": [{"loss": 0.5}]}
    save_checkpoint(path, content)
    loaded = load_checkpoint(path, stays_in_file=stays_in_file)
    assert torch.equal(loaded["weights"]["a"], content["weights"]["a"])
    assert loaded["epoch"] == 3
    assert loaded["history"] == [{"loss": 0.5}]


def test_a_snapshot_stays_as_it_is() -> None:
    weight = torch.arange(6.0).reshape(1, 6, 1, 1).to(memory_format=torch.channels_last).requires_grad_()
    content = {"model": {"w": weight, "n": torch.tensor(7)}, "state": {"history": [{"loss": 0.5}], "rates": (0.1, 0.2)}}
    kept = snapshot(content)
    with torch.no_grad():
        weight += 1
    content["model"]["n"] += 1
    content["state"]["history"][0]["loss"] = 0.25
    content["state"]["history"].append({})
    assert torch.equal(kept["model"]["w"], weight - 1) and kept["model"]["w"].stride() == weight.stride()
    assert not kept["model"]["w"].requires_grad and kept["model"]["n"] == 7
    assert kept["state"] == {"history": [{"loss": 0.5}], "rates": (0.1, 0.2)}


def test_what_is_one_tensor_is_one_in_a_snapshot_and_in_its_file(tmp_path: Path) -> None:
    model = {"w": torch.randn(1000)}
    kept = snapshot({"model": model, "best": dict(model)})
    assert kept["model"]["w"] is kept["best"]["w"]
    save_checkpoint(tmp_path / "a.pt", kept)
    assert (tmp_path / "a.pt").stat().st_size < 7000


def test_what_was_there_before_is_kept(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for epoch in (1, 2, 3):
        save_checkpoint(last, {"epoch": epoch}, previous=previous)
    assert (load_checkpoint(last), load_checkpoint(previous)) == ({"epoch": 3}, {"epoch": 2})
    save_checkpoint(last, {"epoch": 4})
    assert (load_checkpoint(last), load_checkpoint(previous)) == ({"epoch": 4}, {"epoch": 2})


class _Full:
    """A stream on a disk that has room for some bytes only."""

    def __init__(self, stream: BinaryIO, room: int) -> None:
        self.stream, self.room = stream, room
        self.number = errno.ENOSPC  # of the first error, which tells what is wrong

    def write(self, data: bytes) -> int:
        if len(data) > self.room:
            number, self.number = self.number, errno.EIO
            raise OSError(number, os.strerror(number))
        self.room -= len(data)
        return self.stream.write(data)

    def flush(self) -> None:
        self.stream.flush()


@pytest.mark.parametrize("share", [0, 1e-5, 1e-3, 0.3, 0.9, 0.99, 0.998, 0.9995, 0.99999])
def test_a_full_disk_is_told_and_leaves_the_old_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """torch writes in many parts; at each of them it says `unexpected pos … vs …`, or nothing at all."""
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    content = {"weights": torch.zeros(200_000)}
    for _ in range(2):
        save_checkpoint(last, content, previous=previous)
    before = last.read_bytes()

    @contextmanager
    def full(path: Path, **options: Any) -> Iterator[_Full]:
        with replacing(path, **options) as stream:
            yield _Full(stream, int(share * len(before)))

    monkeypatch.setattr(checkpoint, "replacing", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_checkpoint(last, {"weights": torch.ones(200_000)}, previous=previous)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(last))
    assert last.read_bytes() == previous.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [last, previous]


class _Interrupted(_Full):
    """A stream in whose writing a signal comes, once."""

    def write(self, data: bytes) -> int:
        room, self.room = self.room, self.room - len(data)
        if room >= 0 > self.room:
            raise Stopped(signal.SIGINT)
        return self.stream.write(data)


@pytest.mark.parametrize("share", [0, 1e-5, 1e-3, 0.3, 0.9, 0.99, 0.998, 0.9995, 0.99999])
def test_a_signal_while_writing_is_that_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"weights": torch.zeros(200_000)})
    before = path.read_bytes()

    @contextmanager
    def interrupted(path: Path, **options: Any) -> Iterator[_Interrupted]:
        with replacing(path, **options) as stream:
            yield _Interrupted(stream, int(share * len(before)))

    monkeypatch.setattr(checkpoint, "replacing", interrupted)
    with pytest.raises(Stopped):
        save_checkpoint(path, {"weights": torch.ones(200_000)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("share", [0, 1e-4, 0.5, 0.99999])
def test_a_limit_of_the_file_size_is_told_and_leaves_the_old_checkpoint(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"weights": torch.zeros(100_000)})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * len(before)), limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            save_checkpoint(path, {"weights": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class _Faulty:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("not picklable")


def test_an_error_of_the_content_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not picklable"):
        save_checkpoint(tmp_path / "a.pt", {"a": _Faulty()})
    assert list(tmp_path.iterdir()) == []


def _refused(path: Path) -> bool:
    """Whether the damage was noticed; if not, nothing is lost."""
    try:
        loaded = load_checkpoint(path)
    except InputError as error:
        (fault,) = error.faults
        assert fault.what in ("damaged checkpoint", "unusable checkpoint") and fault.where == str(path) and fault.cause
        return True
    assert _is_content(loaded)
    return False


def test_a_flipped_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    """Everywhere: in the tensors, in what describes them, in the head of each part, and in the list of the parts."""
    path = tmp_path / "a.pt"
    save_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts, directory = archive.infolist(), archive.start_dir
    heads = [part.header_offset + offset for part in parts for offset in (0, 8, 14, 18, 26, 28, 30)]
    contents = [part.header_offset + 30 + len(part.filename) for part in parts]
    positions = [*range(0, directory, 29), *heads, *contents, *range(directory, len(whole))]
    noticed = {}
    for position in positions:
        for bits in (0x10, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= bits
            path.write_bytes(damaged)
            noticed[position] = _refused(path)
    assert len(noticed) > 600
    assert 0.3 < sum(noticed.values()) / len(noticed) < 0.9


def test_a_flipped_byte_of_a_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"weights": torch.zeros(1000)})
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    cause = "the checksum of its part a/data/0 is wrong"
    assert str(caught.value).replace("archive/", "a/") == f"error: damaged checkpoint in {path}: {cause}"


def test_a_tensor_that_is_marked_as_a_folder_is_named(tmp_path: Path) -> None:
    """One bit. The checksum is right, as Python reads the file; torch would leave the tensor uninitialised."""
    path = tmp_path / "a.pt"
    save_checkpoint(path, CONTENT)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        names = [part.filename for part in archive.infolist()]
    entry = content.rindex(b"PK\1\2", 0, content.rindex(names[-1].encode()) - 46)
    while not content[entry + 46 :].startswith(names[4].encode()):
        entry = content.rindex(b"PK\1\2", 0, entry)
    (attributes,) = struct.unpack_from("<I", content, entry + 38)
    struct.pack_into("<I", content, entry + 38, attributes | 0x10)
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"damaged checkpoint in .*a\.pt: its part {names[4]} is marked as a folder"):
        load_checkpoint(path)


def test_a_truncated_file_is_noticed_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 37), *range(len(whole) - 30, len(whole))]:
        path.write_bytes(whole[:length])
        assert _refused(path), length


def test_a_file_that_grew_is_noticed_or_holds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    for more in (b"\0", b"\0" * 512, whole[:100], whole):
        path.write_bytes(whole + more)
        _refused(path)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "it is empty$"),
        (b"PK\x03\x04 not a checkpoint", ".*zip"),
        (b"x" * 100, "it was not written by torch.save, or it is damaged$"),
        (b"hello, these are no weights\n", "it was not written by torch.save, or it is damaged$"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it was not written by torch.save, or it is damaged$"),
        (pickle.dumps({"weight": 1.5}), "it was not written by torch.save, or it is damaged$"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"unusable checkpoint in .*a\.pt: {cause}"):
        load_checkpoint(path)


def test_the_cause_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no central directory\nException raised from valid at inline_container.cc")

    save_checkpoint(tmp_path / "a.pt", CONTENT)
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert str(caught.value) == f"error: unusable checkpoint in {tmp_path / 'a.pt'}: no central directory"


def test_what_the_system_refuses_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a.pt")

    save_checkpoint(tmp_path / "a.pt", CONTENT)
    monkeypatch.setattr(torch, "load", refused)
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert str(caught.value) == f"error: unusable checkpoint in {tmp_path / 'a.pt'}: Permission denied"


@pytest.mark.parametrize("name", ["nowhere.pt", "."])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path / name)
    assert str(caught.value) == f"error: missing checkpoint in {tmp_path / name}: no such file"


def test_what_a_gpu_saved_is_read_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        save_checkpoint(tmp_path / "a.pt", CONTENT)
    assert b"cuda:0" in (tmp_path / "a.pt").read_bytes()
    assert _is_content(load_checkpoint(tmp_path / "a.pt"))


def test_files_of_older_versions_of_torch_are_read(tmp_path: Path) -> None:
    """They are no zip and have no checksums: published weights come as such."""
    torch.save(CONTENT, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "a.pth")
    assert _is_content(load_checkpoint(tmp_path / "a.pth"))


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_loading_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: object) -> None:
    monkeypatch.chdir(tmp_path)
    save({"weights": _Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="unusable checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    ("save", "what"),
    [
        (lambda path: torch.save(nn.Linear(2, 1), path), "torch.nn.modules.linear.Linear"),
        (lambda path: torch.save({"model": Fraction(1, 2)}, path), "fractions.Fraction"),
        (lambda path: torch.save(Fraction(1, 2), path, _use_new_zipfile_serialization=False), "fractions.Fraction"),
        (lambda path: path.write_bytes(pickle.dumps(Fraction(1, 2), protocol=2)), "fractions.Fraction"),
        (lambda path: torch.jit.save(torch.jit.script(nn.Linear(2, 1)), path), "TorchScript"),
    ],
)
def test_what_else_a_file_holds_is_named_and_nobody_is_advised_to_run_it(
    tmp_path: Path, save: Callable[[Path], None], what: str
) -> None:
    save(tmp_path / "a.pt")
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert str(caught.value) == (
        f"error: unusable checkpoint in {tmp_path / 'a.pt'}: it holds more than tensors and plain types ({what}); "
        "nothing of it was run\n"
        "hint: save the weights alone, where the model can be loaded: torch.save(model.state_dict(), …)"
    )


def test_a_checkpoint_is_a_dictionary(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    with pytest.raises(InputError, match="holds a Tensor, not a dictionary"):
        load_checkpoint(tmp_path / "a.pt")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[70] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "flipped": _flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "gone": Path.unlink,
}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    for epoch in (1, 2):
        save_checkpoint(tmp_path / "last.pt", {"epoch": epoch}, previous=tmp_path / "previous.pt")
    return tmp_path


def test_the_last_checkpoint_is_loaded(run_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_last(run_folder) == {"epoch": 2}
    assert load_checkpoint(run_folder / "previous.pt") == {"epoch": 1}
    assert caplog.records == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    run_folder: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    last, previous = run_folder / "last.pt", run_folder / "previous.pt"
    DAMAGE[damage](last)
    with pytest.raises(InputError) as caught:
        load_checkpoint(last)
    assert load_last(run_folder) == {"epoch": 1}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"{caught.value}; continuing from {previous}, which was saved before it"
    assert str(last) in record.getMessage()
    assert load_checkpoint(previous) == {"epoch": 1}, "the command may still be refused"
    with pytest.raises(InputError):
        load_checkpoint(last)


def test_the_fall_back_is_told_in_one_line(run_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"epoch": Fraction(1, 2)}, run_folder / "last.pt")
    assert load_last(run_folder) == {"epoch": 1}
    (record,) = caplog.records
    assert "(fractions.Fraction); nothing of it was run; continuing from" in record.getMessage()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_previous_checkpoint_does_not_matter(run_folder: Path, damage: str) -> None:
    DAMAGE[damage](run_folder / "previous.pt")
    assert load_last(run_folder) == {"epoch": 2}


@pytest.mark.parametrize("older", DAMAGE)
def test_without_any_checkpoint_that_can_be_used_both_are_named(run_folder: Path, older: str) -> None:
    last, previous = run_folder / "last.pt", run_folder / "previous.pt"
    _flip(last)
    DAMAGE[older](previous)
    content = last.read_bytes()
    with pytest.raises(InputError) as caught:
        load_last(run_folder)
    first, second = caught.value.faults
    assert (first.what, first.where, first.hint) == ("damaged checkpoint", str(last), "")
    assert second.where == str(previous)
    kinds = {"flipped": "damaged", "truncated": "unusable", "empty": "unusable", "gone": "missing"}
    assert second.what == f"{kinds[older]} checkpoint"
    assert second.hint == "the run cannot be continued; start it anew in another folder"
    assert last.read_bytes() == content


def test_where_nothing_was_saved_there_is_nothing(tmp_path: Path) -> None:
    assert load_last(tmp_path) is None


def _model(*, hidden: int, extra: int = 0) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 2))
    for number in range(extra):
        model.add_module(f"extra{number}", nn.Linear(1, 1, bias=False))
    return model


def test_weights_and_buffers_are_loaded() -> None:
    source, model = _model(hidden=5), _model(hidden=5)
    nn.init.normal_(source[1].running_mean)
    load_weights(model, source.state_dict(), source="a.pt")
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_the_weights_of_another_model_are_refused_in_three_lines() -> None:
    model = _model(hidden=5, extra=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = _model(hidden=7).state_dict()
    weights |= {"1.num_batches_tracked": torch.zeros(2, 3), "head.bias": torch.zeros(2), "0.bias": torch.tensor(1.0)}
    del weights["2.bias"]
    with pytest.raises(InputError) as caught:
        load_weights(model, weights, source="run/last.pt")
    assert str(caught.value) == (
        "error: wrong checkpoint in run/last.pt: it was saved by another model\n"
        "  missing in the file: 2.bias, extra0.weight, extra1.weight and 2 more\n"
        "  not in this model:   head.bias\n"
        "  of another shape:    0.weight 7×3 for 5×3, 0.bias () for 5, 1.weight 7 for 5 and 5 more\n"
        "hint: use the model settings that it was trained with"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"2.bias": None}, ("2.bias", "none", "none")),
        ({"more": torch.zeros(3)}, ("none", "more", "none")),
        ({"2.bias": torch.zeros(1, 2)}, ("none", "none", "2.bias 1×2 for 2")),
        ({f"more{number}": torch.zeros(3) for number in range(3)}, ("none", "more0, more1, more2", "none")),
    ],
)
def test_a_line_without_a_difference_says_none(change: dict[str, Any], lines: tuple[str, str, str]) -> None:
    weights = {name: tensor for name, tensor in (_model(hidden=5).state_dict() | change).items() if tensor is not None}
    with pytest.raises(InputError) as caught:
        load_weights(_model(hidden=5), weights, source="a.pt")
    assert caught.value.faults[0].cause == (
        f"it was saved by another model\n  missing in the file: {lines[0]}"
        f"\n  not in this model:   {lines[1]}\n  of another shape:    {lines[2]}"
    )


def test_what_was_saved_is_compared_with_the_model(tmp_path: Path) -> None:
    path, model = tmp_path / "best_model.pt", nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    save_checkpoint(path, {"model": model.state_dict()})
    require_saved(model, path)
    model[1].running_var[1] = 1.0000001
    with pytest.raises(TrainingError, match="does not hold the weights that were evaluated"):
        require_saved(model, path)
    with pytest.raises(TrainingError, match="does not hold the weights"):
        require_saved(model[0], path)
    with pytest.raises(InputError, match="missing checkpoint"):
        require_saved(model, tmp_path / "other.pt")


def test_the_best_model_of_a_run_folder(tmp_path: Path) -> None:
    assert best_model_file(tmp_path) == tmp_path / "best_model.pt"
    assert best_model_file(tmp_path / "a.pt") == tmp_path / "a.pt"


def test_a_state_is_never_larger_than_is_told() -> None:
    """Buffers count as well."""
    model = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5))
    num_bytes = 4 * (7 * 5 + 5 + 4 * 5) + 8
    assert largest_sizes(model, has_average=False) == (num_bytes, 4 * num_bytes)
    assert largest_sizes(model, has_average=True) == (num_bytes, 5 * num_bytes)
