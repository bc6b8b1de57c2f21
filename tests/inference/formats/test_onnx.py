from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx

from hybridnet.inference.formats.onnx import OPSET, load, write
from hybridnet.inference.trained import TrainedModel
from tests.inference.formats.models import ABOUT, assert_same, trained, variants


def test_the_flagship_gives_its_logits(flagship: tuple[TrainedModel, Path]) -> None:
    model, path = flagship
    assert_same(load(str(path)), model, smallest=(5, 5))


@pytest.mark.parametrize(("name", "overrides"), variants("bot"))
def test_every_model_gives_its_logits(name: str, overrides: tuple[str, ...], tmp_path: Path) -> None:
    model = trained(name, overrides)
    with (tmp_path / "model.onnx").open("wb") as stream:
        smallest = write(stream, model, about={})
    assert_same(load(str(tmp_path / "model.onnx")), model, smallest=smallest)


def test_the_graph_says_what_it_takes(flagship: tuple[TrainedModel, Path]) -> None:
    graph = onnx.load(flagship[1])
    onnx.checker.check_model(graph, full_check=True)
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert shapes == {"images": ["batch", 3, "height", "width"], "logits": ["batch", 3]}
    computed = {side.dim_param for v in graph.graph.value_info for side in v.type.tensor_type.shape.dim}
    assert any("height" in text for text in computed) and not any(text.startswith("s") for text in computed)
    assert [(operators.domain, operators.version) for operators in graph.opset_import] == [("", OPSET)]
    assert {prop.key: json.loads(prop.value) for prop in graph.metadata_props} == {**ABOUT, "smallest_size": [5, 5]}


def test_the_graph_says_nothing_of_this_machine(flagship: tuple[TrainedModel, Path], root: Path) -> None:
    assert not any(node.metadata_props for node in onnx.load(flagship[1]).graph.node)
    assert str(root).encode() not in flagship[1].read_bytes()


def test_no_runtime_is_asked_for_sequences(flagship: tuple[TrainedModel, Path]) -> None:
    """Which onnxruntime has, and others do not."""
    operators = {node.op_type for node in onnx.load(flagship[1]).graph.node}
    assert "Split" in operators and not any("Sequence" in name for name in operators)
