from __future__ import annotations

from omegaconf import OmegaConf

from hybridnet import config, resume


def test_two_configurations_are_identical_if_all_their_values_are() -> None:
    texts = [["seed=1"], ["seed=1"], ["seed=2"], ["seed=1", "+extra=1"], ["seed=1", "model.dropout=0"]]
    one, same, *others = [config.identity(config.compose("train", overrides)) for overrides in texts]
    assert one == same
    assert len({one, *others}) == 4


def test_every_setting_has_its_value_and_knows_which_it_repeats() -> None:
    cfg = OmegaConf.create(
        {
            "seed": 3,
            "monitor": "valid_acc",
            "model": {"heads": 4, "attention": {"_target_": "x", "heads": "${model.heads}", "sizes": [7, 14]}},
            "trainer": {"monitor": "${monitor}", "clip_norm": float("inf"), "plot": False, "empty": None},
            "parts": [{"heads": "${model.heads}"}, 5],
            "text": "${seed} of ${monitor}",
            "copy": "${model.attention}",
            "copies": "${parts}",
        }
    )
    values, references = config.flat(cfg)
    assert values == {
        "seed": 3,
        "monitor": "valid_acc",
        "model.heads": 4,
        "model.attention._target_": "x",
        "model.attention.heads": 4,
        "model.attention.sizes": [7, 14],
        "trainer.monitor": "valid_acc",
        "trainer.clip_norm": float("inf"),
        "trainer.plot": False,
        "trainer.empty": None,
        "parts[0].heads": 4,
        "parts[1]": 5,
        "text": "3 of valid_acc",
        "copy._target_": "x",
        "copy.heads": 4,
        "copy.sizes": [7, 14],
        "copies[0].heads": 4,
        "copies[1]": 5,
    }
    assert references == {
        "model.attention.heads": "model.heads",
        "trainer.monitor": "monitor",
        "parts[0].heads": "model.heads",
        "copy._target_": "model.attention._target_",
        "copy.heads": "model.attention.heads",
        "copy.sizes": "model.attention.sizes",
        "copies[0].heads": "parts[0].heads",
        "copies[1]": "parts[1]",
    }
    assert type(values["model.attention.sizes"]) is list


def test_the_settings_of_an_experiment_are_flat() -> None:
    cfg = config.compose("train", ["optimizer.base_lr=1e-3"])
    values, references = config.flat(cfg)
    assert values["optimizer.base_lr"] == 1e-3
    assert references["trainer.monitor"] == "monitor"
    assert all(values[key] == values[owner] for key, owner in references.items())


def test_blocks_in_another_order_are_another_job() -> None:
    ca = "{_target_: hybridnet.model.ca.CoordinateAttention, _partial_: true, reduction: 32, identity_init: true}"
    usual = config.compose("train", ["model=hybrid"])
    turned = config.compose("train", ["model=hybrid", "~model.blocks.ca", f"+model.blocks.ca={ca}"])
    settings = [config.flat(cfg)[0] for cfg in (usual, turned)]
    assert [found["model.blocks"] for found in settings] == [["ca", "botlinear"], ["botlinear", "ca"]]
    identities = {resume.identity(found, swept=()) for found in settings}
    assert len(identities) == 2


def test_other_values_are_set_in_a_copy() -> None:
    cfg = OmegaConf.create({"a": {"b": 1, "c": "${a.b}"}, "d": 2})
    OmegaConf.set_struct(cfg, True)
    changed = config.with_values(cfg, {"a.b": 5, "a.new": [1], "d": None})
    assert config.plain(changed) == {"a": {"b": 5, "c": 5, "new": [1]}, "d": None}
    assert config.plain(cfg) == {"a": {"b": 1, "c": 1}, "d": 2}


def test_values_are_replaced_by_those_of_another_configuration() -> None:
    cfg, other = OmegaConf.create({"a": {"b": 1, "c": 1}, "d": 1}), OmegaConf.create({"a": {"b": 2, "c": 2}, "d": 2})
    assert config.plain(config.replaced(cfg, ["a.b", "d"], by=other)) == {"a": {"b": 2, "c": 1}, "d": 2}
