"""A trained model from Python: one picture or many, in every form."""

from __future__ import annotations

import copy
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hybridnet
from hybridnet import config
from hybridnet.errors import InputError
from hybridnet.inference.trained import TrainedModel, _of_today, load_trained, trained_of

OWN = ["own_parts."]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(1).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_every_form_of_a_picture_gives_the_same(trained: TrainedModel, picture: Path) -> None:
    image = Image.open(picture)
    forms = [picture, str(picture), np.asarray(image), image, [picture], (np.asarray(image),)]
    answers = [trained.predict(form, precision="float32") for form in forms]
    assert all(answer == answers[0] for answer in answers)
    (prediction,) = answers[0]
    assert next(iter(prediction.probabilities)) == prediction.label
    assert list(prediction.probabilities.values()) == sorted(prediction.probabilities.values(), reverse=True)
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert set(prediction.probabilities) == {"horizontal", "none", "vertical"}


def test_what_it_says_is_the_softmax_of_its_logits(trained: TrainedModel, picture: Path) -> None:
    same = trained.preprocessing
    pixels = torch.from_numpy(same.cropped(same.reduction.load(picture)))[None]
    with torch.inference_mode():
        wanted = trained(same.normalized(pixels)).softmax(dim=1)[0]
    (prediction,) = trained.predict(picture, precision="float32")
    found = torch.tensor([prediction.probabilities[name] for name in trained.classes])
    assert torch.allclose(found, wanted, atol=1e-6)


def test_the_inputs_are_those_of_its_predictions(trained: TrainedModel, picture: Path, tmp_path: Path) -> None:
    pictures = [picture, np.asarray(Image.open(picture).convert("RGB"))[::-1], Image.open(picture)]
    inputs = trained.inputs(pictures)
    assert inputs.shape == (3, 3, *trained.preprocessing.image_size) and inputs.dtype == torch.float32
    with torch.no_grad():
        probabilities = trained(inputs).softmax(dim=1)
    predicted = trained.predict(pictures, precision="float32")
    expected = [[one.probabilities[name] for name in trained.classes] for one in predicted]
    torch.testing.assert_close(probabilities, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert trained.inputs(str(picture)).equal(inputs[:1]) and len(trained.inputs([])) == 0
    with pytest.raises(InputError, match=r"unreadable image in .*nowhere\.png: no such file"):
        trained.inputs([picture, tmp_path / "nowhere.png"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_that_was_converted_predicts_in_its_own_format(
    trained: TrainedModel, picture: Path, dtype: torch.dtype
) -> None:
    wanted = trained.predict(picture, precision="float32")[0].probabilities
    converted = copy.deepcopy(trained).to(dtype)
    inputs = converted.inputs(picture)
    assert inputs.dtype == dtype
    with torch.no_grad():
        probabilities = converted(inputs).float().softmax(dim=1)[0].tolist()
    predicted = converted.predict(picture)[0].probabilities
    assert [predicted[name] for name in trained.classes] == pytest.approx(probabilities, abs=1e-6)
    assert predicted == pytest.approx(wanted, abs=2e-2)


def test_pictures_stay_in_their_order(trained: TrainedModel) -> None:
    shown = list(np.random.default_rng(2).integers(0, 255, (5, 40, 40, 3), dtype=np.uint8))
    alone = [trained.predict(picture, precision="float32")[0].probability for picture in shown]
    together = [p.probability for p in trained.predict(shown, batch_size=2, precision="float32")]
    assert together == pytest.approx(alone, abs=1e-6)
    assert trained.predict([]) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "wrong value in batch_size=0: must be an integer >= 1"),
        ({"batch_size": 2.0}, r"wrong value in batch_size=2\.0: must be an integer >= 1"),
        ({"precision": "half"}, r"precision \('half'\) must be auto, bf16, fp16 or float32"),
    ],
)
def test_wrong_arguments_are_value_errors(
    settings: dict[str, Any], message: str, trained: TrainedModel, picture: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        trained.predict(picture, **settings)


def test_grey_pixels_and_a_turned_photo(trained: TrainedModel, tmp_path: Path) -> None:
    grey = np.random.default_rng(3).integers(0, 255, (40, 60), dtype=np.uint8)
    assert trained.predict(grey) == trained.predict(np.stack([grey] * 3, axis=2))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(grey)).save(tmp_path / "turned.png", exif=exif)
    assert trained.predict(tmp_path / "turned.png") == trained.predict(Image.open(tmp_path / "turned.png"))
    assert trained.predict(tmp_path / "turned.png") == trained.predict(grey)


def test_everything_that_is_no_picture_is_named(trained: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(InputError) as caught:
        trained.predict([tmp_path / "a.txt", np.zeros((9, 9, 3), np.uint8), tmp_path / "gone.jpg"])
    assert [fault.where for fault in caught.value.faults] == [str(tmp_path / "a.txt"), str(tmp_path / "gone.jpg")]
    with pytest.raises(InputError, match=r"unreadable image in .*a\.txt: "):
        trained.predict(tmp_path.glob("*.txt"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (np.zeros((9, 9, 3)), r"picture 0: expected a path.* got float64 \(9, 9, 3\)"),
        (np.zeros((3, 9, 9), np.uint8), r"got uint8 \(3, 9, 9\)"),
        (np.zeros((0, 9, 3), np.uint8), r"got uint8 \(0, 9, 3\)"),
        ([7], "got int"),
        (Image.new("F", (9, 9)), "floating-point pixels"),
        (Image.new("RGB", (0, 9)), "got Image"),
        (b"a photo's bytes", "got bytes"),
        (BytesIO(b"a\nfile"), "got BytesIO"),
    ],
)
def test_another_kind_of_thing_is_told(trained: TrainedModel, wrong: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        trained.predict(wrong)


def test_a_damaged_image_of_pillow_is_told(trained: TrainedModel, picture: Path, tmp_path: Path) -> None:
    """It is decoded only when it is asked for its pixels."""
    Image.open(picture).convert("RGB").resize((90, 90)).save(tmp_path / "torn.jpg")
    content = (tmp_path / "torn.jpg").read_bytes()
    (tmp_path / "torn.jpg").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "torn.jpg") as torn, pytest.raises(InputError, match="picture 0: image file is trunc"):
        trained.predict(torn)


def test_prediction_puts_the_whole_model_into_eval_mode(trained: TrainedModel, picture: Path) -> None:
    trained.train().predict(picture)
    assert not any(module.training for module in trained.modules())


@pytest.mark.parametrize(("name", "runtime"), [("model.onnx", "onnxruntime"), ("model.pt2", "torch.export.load")])
def test_a_graph_is_no_model(name: str, runtime: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"missing checkpoint in .*{name}: no such file"):
        load_trained(tmp_path / name)
    (tmp_path / name).write_bytes(b"graph")
    with pytest.raises(InputError, match=rf"{name}: it is a graph for {runtime}\nhint: name the run folder, its best_"):
        load_trained(tmp_path / name)


def test_of_a_folder_of_runs_one_is_suggested(reference: Path, tmp_path: Path) -> None:
    """A sweep's, for instance."""
    with pytest.raises(InputError, match=r"best_model\.pt: no such file$"):
        load_trained(tmp_path)
    for name in ("1_model=plain", "0_model=hybrid"):
        (tmp_path / name).mkdir()
        shutil.copy(reference / "best_model.pt", tmp_path / name)
    with pytest.raises(InputError, match=r"no such file\nhint: it is a folder of runs: .* such as .*/0_model=hybrid$"):
        load_trained(tmp_path)


def test_a_state_is_no_model(reference: Path) -> None:
    """Its weights are those of the latest step, and not those that were averaged or the best."""
    with pytest.raises(InputError, match=r"last\.pt: it is a state that a training .*\nhint: name the run folder"):
        load_trained(reference / "last.pt")


def test_what_a_checkpoint_says_of_a_setting_counts() -> None:
    """Whatever earlier versions did that did not have it."""
    cfg = config.plain(config.compose("train", ["model=plain", "model.backbone.stochastic_depth=0.5"]).model)
    assert _of_today(cfg) == cfg


def test_a_model_of_an_earlier_version_does_what_it_did() -> None:
    """Before some settings existed, whose values of then are filled in."""
    network = hybridnet.create_model("hybrid", num_classes=2, overrides=["model.stem=small", "model.size=lite"])
    cfg = config.plain(config.compose("train", ["model=hybrid", "model.stem=small", "model.size=lite"]).model)
    del cfg["backbone"]["stochastic_depth"], cfg["blocks"]["botlinear"]["identity_init"]
    preprocessing = {"image_size": [32, 32], "center_crop": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3}
    content = {"num_classes": 2, "label2id": {"a": 0, "b": 1}, "model": network.state_dict()}
    content |= {"model_config": cfg, "preprocessing": preprocessing}
    model = trained_of(content, source="some.pt", extra_targets=[])
    assert model.model_config["backbone"]["stochastic_depth"] == 0.0
    assert model.model_config["blocks"]["botlinear"]["identity_init"] is True
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), network.eval()(images))


def test_modules_of_your_own_must_be_allowed(reference: Path) -> None:
    with pytest.raises(InputError, match=r"own_parts\.Small.*\nhint: if you trust it: extra_targets=\[own_parts\.\]"):
        load_trained(reference)
    model = hybridnet.load_model(reference, extra_targets=OWN)
    assert model.classes == ["horizontal", "none", "vertical"]
    assert not model.training
