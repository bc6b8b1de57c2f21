from __future__ import annotations

from typing import Any

import pytest

from hybridnet.binding import (
    PLACEHOLDER,
    all_keys,
    leaves,
    missing_keys,
    module_faults,
    nearest,
    setting_faults,
    target_faults,
    without_knobs,
)

ALLOWED = ("hybridnet.", "torch.")
CA = {"_target_": "hybridnet.model.ca.CoordinateAttention", "_partial_": True, "reduction": 32, "identity_init": True}
KEYS = ["model.heads", "model.stem", "model.stage", "trainer.epochs", "trainer.patience", "optimizer.base_lr", "seed"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("trainer.epoch", "trainer.epochs"),
        ("epochs", "trainer.epochs"),
        ("optim.base_lr", "optimizer.base_lr"),
        ("base-lr", "optimizer.base_lr"),
        ("sed", "seed"),
        ("model.head", "model.heads"),
        ("model.hds", "model.heads"),
        ("hds", ""),  # too far for one that may lie anywhere
        ("model.reduction", ""),
        ("zzz", ""),
    ],
)
def test_the_nearest_key(typed: str, meant: str) -> None:
    assert nearest(typed, KEYS) == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("head-lr", "optimizer.head_lr"),
        ("pretrained", "model.pretrained"),
        ("metadata", "data.metadata"),
        ("trainer.head_lr", "optimizer.head_lr"),
        ("lr", "lr"),
    ],
)
def test_the_same_word_elsewhere_is_nearer_than_a_similar_one(typed: str, meant: str) -> None:
    keys = ["scheduler", "trainer", "trainer.head", "data", "model.pretrained", "data.metadata", "optimizer.head_lr"]
    assert nearest(typed, [*keys, "optimizer.lr", "lr"]) == meant


def test_of_keys_that_end_alike_the_first_is_meant() -> None:
    assert nearest("epochs", ["trainer.epochs", "scheduler.epochs"]) == "trainer.epochs"


def test_hyphens_are_no_difference() -> None:
    assert nearest("a-b", ["model.a_b"]) == "model.a_b"


def test_all_keys_are_dotted_and_without_hydras_own() -> None:
    assert list(all_keys({"a": {"_target_": "x", "b": {"c": 1}}})) == ["a", "a.b", "a.b.c"]


def test_leaves_are_the_plain_values_with_their_places() -> None:
    node = {
        "_target_": "x",
        "a": {"b": {"c": 1}, "none": None, "empty": {}},
        "sizes": [1, [2, 3]],
        "nothing": [],
        "parts": [{"w": 1}, 2, {"deep": [{"v": 3}]}],
        7: "number",
    }
    assert list(leaves(node)) == [
        ("_target_", "x"),
        ("a.b.c", 1),
        ("a.none", None),
        ("sizes", [1, [2, 3]]),
        ("nothing", []),
        ("parts[0].w", 1),
        ("parts[1]", 2),
        ("parts[2].deep[0].v", 3),
        ("7", "number"),
    ]


def test_the_order_of_parts_is_a_value() -> None:
    """Attention blocks are applied one after the other: another order is another model."""
    ca, bot = {"_target_": "x", "_partial_": True}, {"_target_": "y"}
    assert dict(leaves({"blocks": {"ca": ca, "bot": bot}}))["blocks"] == ["ca", "bot"]
    assert dict(leaves({"blocks": {"bot": bot, "ca": ca}}))["blocks"] == ["bot", "ca"]
    for blocks in ({"ca": ca}, {"ca": ca, "width": 3}, {}):
        assert "blocks" not in dict(leaves({"blocks": blocks}))


@pytest.mark.parametrize("target", ["os.system", "subprocess.run", "hybridnet_evil.x", None])
def test_a_target_elsewhere_is_not_allowed(target: str | None) -> None:
    (fault,) = target_faults({"model": {"part": {"_target_": target}}}, allowed=ALLOWED)
    assert (fault.what, fault.where) == ("target not allowed", "model.part._target_")
    assert "extra_targets" in fault.hint


def test_a_target_that_does_not_exist_is_named() -> None:
    (fault,) = target_faults([{"_target_": "hybridnet.model.ca.Nothing"}], allowed=ALLOWED)
    assert fault.what == "unknown target"
    assert "hybridnet.model.ca.Nothing" in fault.cause


def _faults(**changes: Any) -> dict[str, str]:
    node = {key: value for key, value in (CA | changes).items() if value != "removed"}
    return {key: fault.cause for key, fault in setting_faults({"ca": node}, {"ca": node}).items()}


def test_a_node_that_fits_has_no_faults() -> None:
    assert _faults() == {}


def test_unknown_missing_and_wrong_keys_are_all_found() -> None:
    assert _faults(reductions=3, identity_init="removed", reduction=0) == {
        "ca.reductions": "hybridnet.model.ca.CoordinateAttention does not take it",
        "ca.identity_init": "must be given",
        "ca.reduction": "must be >= 1, got 0",
    }


@pytest.mark.parametrize(
    ("elsewhere", "hint"),
    [
        ({"model": {"block": {"heads": 2}, "heads": 4}}, "did you mean model.heads?"),
        ({"model": {"reduction": 4}}, "choose from channels, reduction, identity_init"),
    ],
)
def test_an_unknown_key_may_mean_one_of_the_same_name_elsewhere(elsewhere: dict[str, Any], hint: str) -> None:
    node = elsewhere | {"ca": CA | {"heads": 8}}
    assert setting_faults(node, node)["ca.heads"].hint == hint


def test_what_is_given_when_building_is_not_missing() -> None:
    assert "ca.channels" not in _faults()


def test_a_value_that_comes_from_a_knob_is_reported_as_the_knob() -> None:
    raw = {"model": {"reduction": 0, "ca": CA | {"reduction": "${model.reduction}"}}}
    resolved = {"model": {"reduction": 0, "ca": CA | {"reduction": 0}}}
    (fault,) = setting_faults(raw, resolved).values()
    assert fault.where == "model.reduction=0"


def test_a_knob_needs_no_place_in_the_signature_but_somebody_must_use_it() -> None:
    unused = {"ca": CA | {"knob": 1}}
    assert list(setting_faults(unused, unused)) == ["ca.knob"]
    used = {"ca": CA | {"knob": 8, "reduction": "${ca.knob}"}}
    assert setting_faults(used, {"ca": CA | {"knob": 8, "reduction": 8}}) == {}
    assert without_knobs({"ca": CA | {"knob": 8}, "more": [CA | {"knob": 8}, 3]}) == {"ca": CA, "more": [CA, 3]}


def test_a_group_of_knobs_is_fine_but_somebody_must_use_each_of_them() -> None:
    raw = CA | {"knobs": {"width": 8}, "reduction": "${knobs.width}"}
    resolved = raw | {"reduction": 8}
    assert setting_faults(raw, resolved) == {}
    assert without_knobs(resolved) == CA | {"reduction": 8}
    more = {"knobs": {"width": 8, "widht": 4, "zzz": 1}}
    found = setting_faults(raw | more, resolved | more)
    assert {key: fault.hint for key, fault in found.items()} == {
        "knobs.widht": "did you mean knobs.width?",
        "knobs.zzz": "choose from width",
    }
    (fault,) = setting_faults(CA | {"knobs": {"width": 8}}, CA | {"knobs": {"width": 8}}).values()
    assert (fault.where, fault.hint) == ("knobs", "choose from channels, reduction, identity_init")


def test_a_wrong_value_of_a_group_of_knobs_is_reported_as_the_knob() -> None:
    raw = {"node": CA | {"knobs": {"width": 0}, "reduction": "${node.knobs.width}"}}
    (fault,) = setting_faults(raw, {"node": CA | {"knobs": {"width": 0}, "reduction": 0}}).values()
    assert fault.where == "node.knobs.width=0"


def test_inside_a_partial_target_every_target_is_partial() -> None:
    """Otherwise Hydra builds it once, and blocks share its parameters."""
    attention = {"_target_": "hybridnet.model.bot.SelfAttention", "heads": 4, "reference_size": [7, 7]}
    block = {
        "_target_": "hybridnet.model.bot.BoTBlock",
        "_partial_": True,
        "size": "lite",
        "identity_init": True,
        "attention": attention,
    }
    (fault,) = setting_faults({"block": block}, {"block": block}).values()
    assert fault.where == "block.attention._partial_=false"
    block["attention"] = [attention]
    (fault,) = setting_faults({"block": block}, {"block": block}).values()
    assert fault.where == "block.attention[0]._partial_=false"


@pytest.mark.parametrize(
    "target", ["torch.hub.load", "torch.load", "hybridnet.launch.launch", "torchvision_.Net", "os.system", 3]
)
def test_from_a_file_only_module_classes_are_built(target: object) -> None:
    (fault,) = module_faults({"backbone": {"_target_": target}})
    assert fault.what == "target not allowed"
    assert fault.where == "backbone._target_"
    (fault,) = module_faults({"_target_": target})
    assert fault.where == "_target_"
    assert list(module_faults({"ca": CA, "linear": {"_target_": "torch.nn.Linear"}})) == []


def test_a_missing_knob_is_named_instead_of_what_it_feeds() -> None:
    raw = {"data": {"root": "???", "ca": CA | {"reduction": "${data.root}"}}}
    resolved = {"data": {"root": PLACEHOLDER, "ca": CA | {"reduction": PLACEHOLDER}}}
    assert list(missing_keys(raw)) == ["data.root"]
    (fault,) = setting_faults(raw, resolved).values()
    assert str(fault) == "error: missing value in data.root: must be given\nhint: data.root=<value>"


def test_a_list_that_comes_from_a_knob_is_judged_where_it_is_used() -> None:
    raw = {"sizes": [1, 2], "ca": CA | {"reduction": "${sizes}"}}
    (fault,) = setting_faults(raw, raw | {"ca": CA | {"reduction": [1, 2]}}).values()
    assert (fault.where, fault.cause) == ("sizes=[1, 2]", "expected an integer, got [1, 2]")
