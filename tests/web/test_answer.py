"""From uploaded bytes to what the page shows: what is true of a file is true of its upload, and no file stays."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from hybridnet.errors import InputError
from hybridnet.inference.trained import TrainedModel
from hybridnet.web.answer import answer, why_unexplained


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where uploads are kept meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def picture() -> Image.Image:
    """Red on the left of blue; 48×30 pixels."""
    pixels = np.zeros((30, 48, 3), np.uint8)
    pixels[:, :24, 0] = pixels[:, 24:, 2] = 220
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def shown(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))).convert("RGB")


@pytest.mark.parametrize("with_maps", [True, False])
def test_it_is_what_the_model_says(hybrid: TrainedModel, folder: Path, with_maps: bool) -> None:
    found = answer(hybrid, encoded(picture()), with_maps=with_maps)
    (expected,) = hybrid.predict(picture(), precision="float32")
    assert found["label"] == expected.label
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-6)
    ranked = list(expected.probabilities.items())
    assert [label for label, _ in found["classes"]] == [label for label, _ in ranked[:10]]
    assert [p for _, p in found["classes"]] == pytest.approx([p for _, p in ranked[:10]], abs=1e-6)
    assert found["num_others"] == 2
    assert found["others"] == pytest.approx(ranked[10][1] + ranked[11][1], abs=1e-6)
    assert bool(found["caveat"]) == with_maps
    assert (len(found["panels"]) > 1) == with_maps
    assert json.loads(json.dumps(found, allow_nan=False))["label"] == expected.label
    assert not list(folder.iterdir())


def test_a_model_without_attention_blocks(plain: TrainedModel) -> None:
    found = answer(plain, encoded(picture()), with_maps=True)
    assert [panel["title"] for panel in found["panels"]] == ["The picture", f"Evidence for “{found['label']}”"]
    assert "This model has no Coordinate Attention and no BoT" in found["caveat"]
    assert found["num_others"] == 0 and len(found["classes"]) == 3


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "BMP", "WEBP"])
def test_formats(plain: TrainedModel, kind: str) -> None:
    assert answer(plain, encoded(picture(), kind), with_maps=False)["label"] in plain.classes


@pytest.mark.parametrize("with_maps", [True, False])
def test_a_phone_s_photo_is_upright(plain: TrainedModel, with_maps: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°, clockwise
    lying = encoded(picture().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    photo = shown(answer(plain, lying, with_maps=with_maps)["panels"][0]["image"])
    assert photo.size == (240, 150)  # five times as large: it is small
    (red, _, _), (_, _, blue) = photo.getpixel((50, 75)), photo.getpixel((190, 75))
    assert red > 150 and blue > 150


@pytest.mark.parametrize("with_maps", [True, False])
@pytest.mark.parametrize(
    ("upload", "cause"),
    [
        (b"some text", "is none of JPEG, PNG, WebP, BMP and TIFF"),
        (b"", r"is empty \(0 bytes\)"),
        (encoded(picture(), "JPEG")[:700], "truncated"),
        (encoded(picture(), "GIF"), "is GIF, which is not read; convert it to JPEG"),
    ],
    ids=["text", "empty", "cut off", "GIF"],
)
def test_what_is_no_picture(plain: TrainedModel, folder: Path, upload: bytes, cause: str, with_maps: bool) -> None:
    with pytest.raises(InputError, match=cause):
        answer(plain, upload, with_maps=with_maps)
    assert not list(folder.iterdir())


def test_too_many_pixels(plain: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="has more than 1,000 pixels"):
        answer(plain, encoded(picture()), with_maps=True)


def test_models_that_cannot_be_explained(plain: TrainedModel) -> None:
    assert why_unexplained(plain) == ""
    other = TrainedModel(nn.Linear(2, 3), model_config={}, classes=plain.classes, preprocessing=plain.preprocessing)
    assert why_unexplained(other).startswith("Linear is no PlainClassifier")
