from __future__ import annotations

import pytest
import torch

from hybridnet.trainer.device import find_device, find_precision

CPU = torch.device("cpu")


def test_auto_is_the_best_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("auto") == torch.device("cuda")
    assert find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"'cuda:2' is not .*: the last GPU is cuda:1; set trainer.device=cuda:1"):
        find_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", r"'cuda' is not available: PyTorch .* sees no GPU; set trainer\.device=cpu"),
        ("gpu", "'gpu' is unknown; set trainer.device to auto"),
        ("meta", "'meta' is not supported"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        find_device(name)


@pytest.mark.parametrize(("capabilities", "expected"), [({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "float32")])
def test_auto_on_a_cpu_is_bf16_only_where_it_computes_in_it(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert find_precision("auto", CPU).name == expected


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_a_gpu(has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert find_precision("auto", torch.device("cuda")).name == expected


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="precision 'fp16' needs a GPU; set trainer.precision"):
        find_precision("fp16", CPU)


def test_the_scaler_is_on_only_for_fp16() -> None:
    assert not find_precision("bf16", CPU).grad_scaler().is_enabled()
    assert not find_precision("float32", CPU).grad_scaler().is_enabled()


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_precision(name: str, dtype: torch.dtype) -> None:
    precision = find_precision(name, CPU)
    with precision.autocast():
        assert torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == dtype
    assert precision.dtype == dtype
