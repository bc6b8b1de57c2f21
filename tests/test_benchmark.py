"""`python -m hybridnet.benchmark`: measures, prints and writes; wrong options are answered before."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import hybridnet
from hybridnet import benchmark as command_module
from hybridnet import config
from hybridnet.errors import InputError
from hybridnet.files import read_json
from hybridnet.measure.rounds import Spread
from hybridnet.measure.startup import Startup

TINY = ["image_size=64", "batch_sizes=[2]", "rounds=1", "seconds=1e-6", "out=out"]
TINY += ["trainer.device=cpu", "trainer.precision=float32"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "benchmark.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written in the working directory."""
    monkeypatch.chdir(tmp_path)


def start(*overrides: str) -> None:
    cfg = config.compose("benchmark", [*TINY, "claims=false", *overrides])
    assert config.find_faults(cfg) == {}
    config.build(cfg)


def test_command_measures_prints_and_writes(command: Callable[..., Any], stripes: Path, tmp_path: Path) -> None:
    pair = [f"data.metadata={stripes / 'metadata.csv'}", f"data.label2id={stripes / 'label2id.json'}"]
    small = ["data=metadata", *pair, "data.image_size=64", "data.batch_size=6", "textbook=true"]
    result = command("-m", "hybridnet.benchmark", *TINY, "models=[hybrid]", "sizes=[lite]", *small)
    assert (result.returncode, result.stderr) == (0, "")
    for words in (
        "training, batch 2, 64×64, cpu in float32",
        "BoTLinear is faster than BoT",
        "the training loop, images/s",
        "textbook loop",
        "what the project wants to reach",
    ):
        assert words in result.stdout
    assert result.stdout.splitlines()[-1] == "wrote out/benchmark.csv, out/benchmark.json, out/benchmark.png"
    plain, hybrid = rows(tmp_path / "out")
    assert (plain["model"], hybrid["model"], hybrid["size"], hybrid["image_size"]) == ("plain", "hybrid", "lite", "64")
    model = hybridnet.create_model("hybrid", num_classes=4, overrides=["model.size=lite"])
    assert int(hybrid["parameters"]) == sum(parameter.numel() for parameter in model.parameters())
    assert float(plain["training_images_per_second"]) > 0 and plain["training_speed"] == ""
    assert float(hybrid["inference_speed"]) > 0 and float(hybrid["inference_p95_ms"]) > 0
    content = read_json(tmp_path / "out" / "benchmark.json")
    assert content["environment"]["precision"] == "float32" and content["environment"]["device"] == "cpu"
    assert len(content["results"]) == 2 and len(content["claims"]) == 6 and content["feed"]["auto"]["steps"] == 3
    textbook = content["goals"][1]
    assert textbook["text"] == "training on the data, × the textbook loop" and textbook["found"][0] > 0
    assert textbook["found"] == content["feed"]["auto"]["against_textbook"]
    with Image.open(tmp_path / "out" / "benchmark.png") as image:
        assert image.width > 1200 and image.height > 400


def test_what_is_complete_is_kept_when_the_user_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    measured = command_module.Comparison.measured

    def stopping(self: Any, subjects: Any, task: str, batch_size: int) -> Any:
        if task == "inference":
            raise KeyboardInterrupt
        return measured(self, subjects, task, batch_size)

    monkeypatch.setattr(command_module.Comparison, "measured", stopping)
    with pytest.raises(KeyboardInterrupt):
        start("models=[eca]")
    found = rows(tmp_path / "out")
    assert [row["model"] for row in found] == ["plain", "eca"]
    assert found[1]["training_speed"] and not found[1]["inference_speed"]
    assert "training, batch 2" in capsys.readouterr().out


def test_a_start_needs_train_py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "conf").symlink_to(config.CONF_DIR)
    monkeypatch.setattr(config.session, "CONF_DIR", tmp_path / "conf")
    monkeypatch.setattr(command_module.Benchmark, "measure", lambda self: pytest.fail("it was not told"))
    with pytest.raises(InputError, match="no train.py in (.|\n)*startup=true needs a checkout"):
        start("models=[plain]", "startup=true")


def test_the_start_is_measured_on_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def measured(script: Path, overrides: list[str], *, rounds: int) -> Iterator[Startup | None]:
        asked.update(script=script, overrides=overrides, rounds=rounds)
        yield None
        yield Startup(Spread(3, 2, 4), Spread(0.3, 0.2, 0.4))

    monkeypatch.setattr(command_module, "measure_startup", measured)
    start("models=[plain]", "startup=true", "rounds=2", "compile=[off]", "trainer.epochs=7")
    assert asked["script"].name == "train.py" and asked["script"].is_file()
    assert (asked["overrides"], asked["rounds"]) == (
        [
            *("trainer.device=cpu", "trainer.precision=float32", "trainer.channels_last=True"),
            *("trainer.epochs=1", "trainer.compile=off"),
        ],
        2,
    )
    content = read_json(tmp_path / "out" / "benchmark.json")
    assert content["startup"] == {"first_step": [3, 2, 4], "job": [0.3, 0.2, 0.4]}
    assert [goal["found"] for goal in content["goals"]][-2:] == [[3, 2, 4], [0.3, 0.2, 0.4]]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models=[hybird]", "did you mean model=hybrid"),
        ("sizes=[]", "missing value in sizes=[]"),
        ("batch_sizes=[]", "missing value in batch_sizes=[]"),
        ("compile=[]", "missing value in compile=[]"),
        ("compile=[graph]", "a CUDA graph needs a CUDA GPU, not cpu"),
        ("image_size=16", "image too small"),
        ("out=/dev/null/here", "unusable folder in out=/dev/null/here"),
        ("overrides=[model.heads=8]", "model.heads"),
        ("textbook=true", "missing setting in textbook=true: the textbook loop trains on data, on a CPU"),
        ("data=metadata", "missing file in data.metadata="),
    ],
)
def test_what_cannot_be_measured_is_told_before(override: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module.Benchmark, "measure", lambda self: pytest.fail("it was not told"))
    with pytest.raises(InputError) as error:
        start("models=[plain]", override)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("rounds=0", "rounds=0"),
        ("sizes=[huge]", "sizes=['huge']"),
        ("batch_sizes=[0]", "batch_sizes=[0]"),
        ("compile=[fast]", "compile=['fast']"),
    ],
)
def test_wrong_values_are_refused(override: str, where: str) -> None:
    (fault,) = config.find_faults(config.compose("benchmark", [override])).values()
    assert fault.where == where


def test_misspelt_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean rounds\?"):
        config.compose("benchmark", ["round=3"])


def test_defaults_fit_the_signature() -> None:
    assert config.find_faults(config.compose("benchmark")) == {}
    assert config.find_faults(config.compose("benchmark", ["data=synthetic"])) == {}
