from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import hybridnet
from hybridnet import config
from hybridnet.checkpoint import save_checkpoint
from hybridnet.errors import InputError


def test_a_model_is_created_with_overrides() -> None:
    model = hybridnet.create_model("hybrid", num_classes=4, overrides=["model.heads=8", "model.size=lite"])
    assert model.blocks.botlinear.attention.heads == 8
    assert model.training
    assert model(torch.rand(2, 3, 64, 96)).shape == (2, 4)


def test_a_model_of_one_s_own_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_conf" / "model").mkdir(parents=True)
    (tmp_path / "my_conf" / "model" / "tiny.yaml").write_text(
        "defaults: [plain, _self_]\nbackbone: {_target_: own_parts.Small}\n"
    )
    monkeypatch.chdir(tmp_path)
    options = {"num_classes": 2, "config_dir": "my_conf"}
    with pytest.raises(InputError, match=r"extra_targets=\[my_package\.\] allows another"):
        hybridnet.create_model("tiny", **options)
    with pytest.raises(InputError, match="missing folder in config_dir=nowhere: no such folder"):
        hybridnet.create_model("tiny", num_classes=2, config_dir="nowhere")
    model = hybridnet.create_model("tiny", **options, overrides=["extra_targets=[own_parts.]"])
    assert type(model.backbone).__name__ == "Small" and model(torch.rand(2, 3, 32, 32)).shape == (2, 2)


def test_what_there_is_is_listed() -> None:
    assert {"create_model", "load_model", "__version__"} <= set(dir(hybridnet))


def test_blocks_do_not_share_parameters() -> None:
    first = hybridnet.create_model("bot", num_classes=2)
    second = hybridnet.create_model("bot", num_classes=2)
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


@pytest.mark.parametrize(
    ("name", "num_classes", "overrides", "message"),
    [
        ("hybird", 4, [], "did you mean model=hybrid?"),
        ("hybrid", 0, [], "num_classes=0: must be an integer >= 1"),
        ("hybrid", 4.0, [], "num_classes=4.0: must be an integer >= 1"),
        ("hybrid", 4, "a=b", "overrides='a=b': is one text\nhint: overrides=['a=b']"),
        ("hybrid", 4, ["model.heads=3"], "must be divisible by heads"),
        ("plain", 4, ["+model.depth=3"], "model.depth: hybridnet.model.plain.PlainClassifier does not take it"),
        ("plain", 4, ["model.backbone.weights=nowhere.pt"], "missing weights in model.backbone.weights=nowhere.pt"),
    ],
)
def test_wrong_arguments_are_value_errors(name: str, num_classes: Any, overrides: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        hybridnet.create_model(name, num_classes=num_classes, overrides=overrides)
    assert message in str(caught.value)


def test_what_was_loaded_of_initial_weights_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(hybridnet.create_model("plain", num_classes=3).backbone.state_dict(), tmp_path / "a.pt")
    with caplog.at_level("INFO"):
        hybridnet.create_model("plain", num_classes=4, overrides=[f"model.backbone.weights={tmp_path / 'a.pt'}"])
    assert caplog.messages == [f"backbone weights from {tmp_path / 'a.pt'}: loaded 120 of 120 tensors"]


def _content(**changes: object) -> dict[str, object]:
    cfg = config.compose("train", ["model=ca"])
    return {
        "model": {},
        "model_config": config.plain(cfg.model),
        "num_classes": 3,
        "label2id": {"b": 1, "a": 0, "c": 2},
        "preprocessing": {"image_size": [40, 48], "center_crop": 0.9, "mean": [0.5] * 3, "std": [0.25] * 3},
    } | changes


def _save(path: Path, module: torch.nn.Module, **changes: object) -> None:
    save_checkpoint(path, _content(model=module.state_dict()) | changes)


def test_a_saved_model_is_loaded_in_eval_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    model = hybridnet.create_model("ca", num_classes=3).eval()
    _save(tmp_path / "best_model.pt", model)
    images = torch.rand(2, 3, 64, 96)
    for source in (tmp_path, tmp_path / "best_model.pt", str(tmp_path), "~", Path("~/best_model.pt")):
        loaded = hybridnet.load_model(source)
        assert not loaded.training
        assert torch.equal(loaded(images), model(images))


def test_loading_needs_no_pretrained_weights_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("asked the network"))
    cfg = config.compose("train", ["model=ca", "model.pretrained=true"])
    _save(tmp_path / "a.pt", hybridnet.create_model("ca", num_classes=3), model_config=config.plain(cfg.model))
    hybridnet.load_model(tmp_path / "a.pt")


def test_a_checkpoint_cannot_name_a_function_to_run(tmp_path: Path) -> None:
    evil = {"_target_": "torch.hub.load", "repo_or_dir": "x/y", "model": "z"}
    _save(tmp_path / "a.pt", hybridnet.create_model("ca", num_classes=3), model_config=evil)
    with pytest.raises(InputError, match=r"'torch\.hub\.load' is not below hybridnet\.model\., torch"):
        hybridnet.load_model(tmp_path / "a.pt")


EVIL = {"_target_": "os.mkdir", "path": "made"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": EVIL}, "target not allowed in dropout._target_: 'os.mkdir' is not below"),
        ({"layers": [1, (EVIL, 1)]}, r"target not allowed in layers\[1\]\[0\]._target_: 'os.mkdir'"),
        (
            {"dropout": "${oc.create:{_target_: os.mkdir, path: made}}"},
            r"reference in a file in model.dropout: '\$\{oc.create:.*; a saved model has values only",
        ),
        ({"dropout": "${oc.env:HOME}"}, "reference in a file in model.dropout"),
        ({"backbone": {"_target_": "torch.load"}}, "'torch.load' is not below"),
        (
            {"backbone": {"_target_": "torch.nn.init.normal_"}},
            "'torch.nn.init.normal_' is not a class of torch modules",
        ),
        ({"backbone": {"_target_": "torch.nn.Missing"}}, r"cannot import .* \(torch.nn has no Missing\)"),
        ({"dropout": torch.zeros(1)}, "wrong value in model.dropout: it is a Tensor; a saved model has values only"),
    ],
)
def test_nothing_in_a_checkpoint_is_run(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a tuple, nor in text that Hydra would resolve into something else after it was judged."""
    monkeypatch.chdir(tmp_path)
    content = _content(model=hybridnet.create_model("ca", num_classes=3).state_dict())
    save_checkpoint(tmp_path / "a.pt", content | {"model_config": content["model_config"] | change})
    with pytest.raises(InputError, match=message):
        hybridnet.load_model("a.pt")
    assert not Path("made").exists()


@pytest.mark.parametrize("num_classes", [EVIL, "${oc.create:{_target_: os.mkdir, path: made}}"])
def test_nor_is_the_number_of_classes(num_classes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _save(tmp_path / "a.pt", hybridnet.create_model("ca", num_classes=3), num_classes=num_classes)
    with pytest.raises(InputError, match="unusable checkpoint in a.pt: it has .* classes, and label2id names 3"):
        hybridnet.load_model("a.pt")
    assert not Path("made").exists()


def test_a_prefix_is_a_name_and_not_its_letters(tmp_path: Path) -> None:
    """`"own_parts."` as a sequence would trust every module that begins with o, w, n …"""
    evil = {"_target_": "os.mkdir", "path": str(tmp_path / "made")}
    _save(tmp_path / "a.pt", hybridnet.create_model("ca", num_classes=3), model_config=evil)
    for extra_targets in ("own_parts.", ["own_parts."]):
        with pytest.raises(InputError, match="'os.mkdir' is not below .*, own_parts., and nothing else"):
            hybridnet.load_model(tmp_path / "a.pt", extra_targets=extra_targets)
    with pytest.raises(InputError, match=r"wrong value in extra_targets=\[''\]: needs names such as my_package"):
        hybridnet.load_model(tmp_path / "a.pt", extra_targets=[""])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": [1, 2]}, r"unusable checkpoint in .*a\.pt: AttributeError: 'list' object has no attribute"),
        ({"num_classes": "five"}, r"unusable checkpoint in .*a\.pt: it has 'five' classes, and label2id names 3"),
        ({"label2id": {"a": 0, "b": 2}}, r"unusable checkpoint in .*a\.pt: label2id has the indices \[0, 2\]"),
        (
            {"model_config": {"_target_": "hybridnet.model.plain.PlainClassifier"}},
            r"unusable checkpoint in .*a\.pt: .*missing a required argument: 'backbone'",
        ),
    ],
)
def test_a_content_that_cannot_be_used_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    _save(tmp_path / "a.pt", hybridnet.create_model("ca", num_classes=3), **changes)
    with pytest.raises(InputError, match=message):
        hybridnet.load_model(tmp_path / "a.pt")


def test_the_weights_of_another_model_are_named_in_three_lines(tmp_path: Path) -> None:
    model = hybridnet.create_model("ca", num_classes=3)
    weights = model.state_dict() | {"extra.bias": torch.zeros(2)}
    (head_weight, head_bias) = [name for name, tensor in weights.items() if tensor.shape[:1] == (3,)]
    del weights[head_bias]
    five = {name: index for index, name in enumerate("abcde")}
    _save(tmp_path / "best_model.pt", model, num_classes=5, label2id=five, model=weights)
    with pytest.raises(InputError) as caught:
        hybridnet.load_model(tmp_path)
    assert str(caught.value) == (
        f"error: wrong checkpoint in {tmp_path / 'best_model.pt'}: it was saved by another model\n"
        f"  missing in the file: {head_bias}\n"
        "  not in this model:   extra.bias\n"
        f"  of another shape:    {head_weight} 3×512 for 5×512\n"
        "hint: use the model settings that it was trained with"
    )


@pytest.mark.parametrize("name", ["model", "model_config", "num_classes", "label2id", "preprocessing"])
def test_a_missing_entry_is_named(tmp_path: Path, name: str) -> None:
    content = _content(model=hybridnet.create_model("ca", num_classes=3).state_dict())
    del content[name]
    save_checkpoint(tmp_path / "a.pt", content)
    with pytest.raises(InputError) as caught:
        hybridnet.load_model(tmp_path / "a.pt")
    assert str(caught.value) == f"error: unusable checkpoint in {tmp_path / 'a.pt'}: has no entry '{name}'"


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", {"something": 1})
    with pytest.raises(InputError, match="has no entry 'model_config'"):
        hybridnet.load_model(tmp_path / "a.pt")


def test_the_package_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="no attribute 'create_models'"):
        _ = hybridnet.create_models
