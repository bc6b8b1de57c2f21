from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from hybridnet.checkpoint import best_model_file, load_checkpoint, save_checkpoint
from hybridnet.errors import InputError


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    content = {"weights": {"a": torch.arange(6.0).reshape(2, 3)}, "epoch": 3, "history": [{"loss": 0.5}]}
    save_checkpoint(path, content)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded["weights"]["a"], content["weights"]["a"])
    assert loaded["epoch"] == 3
    assert loaded["history"] == [{"loss": 0.5}]


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"weights": torch.zeros(1000)})
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"damaged checkpoint in .*a\.pt: the checksum"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint", b"x" * 100])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"unusable checkpoint in .*a\.pt"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing checkpoint in .*nowhere\.pt: no such file"):
        load_checkpoint(tmp_path / "nowhere.pt")


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


def test_a_checkpoint_is_a_dictionary(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    with pytest.raises(InputError, match="holds a Tensor, not a dictionary"):
        load_checkpoint(tmp_path / "a.pt")


def test_the_best_model_of_a_run_folder(tmp_path: Path) -> None:
    assert best_model_file(tmp_path) == tmp_path / "best_model.pt"
    assert best_model_file(tmp_path / "a.pt") == tmp_path / "a.pt"
