from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx

from hybridnet.inference.formats import int8
from hybridnet.inference.formats.onnx import load
from hybridnet.inference.trained import TrainedModel


@pytest.fixture(scope="module")
def quantised(flagship: tuple[TrainedModel, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "model.int8.onnx"
    generator = torch.Generator().manual_seed(1)
    batches = (torch.randn(4, 3, 24, 40, generator=generator) for _ in range(4))
    with path.open("wb") as stream:
        int8.write(stream, flagship[1], batches, about={"classes": ["a", "ö"]})
    return path


def test_the_logits_stay_near(quantised: Path, flagship: tuple[TrainedModel, Path]) -> None:
    """In other sizes than the calibration's too."""
    plain, program = load(str(flagship[1])), load(str(quantised))
    for shape in ((16, 3, 24, 40), (1, 3, 40, 56)):
        images = torch.randn(shape)
        expected, found = plain(images), program(images)
        assert 0 < (found - expected).abs().max() < 0.15 * expected.std()


def test_products_of_weights_are_quantised_and_those_of_attention_not(quantised: Path) -> None:
    graph = onnx.load(quantised)
    onnx.checker.check_model(graph)
    scaled = {output for node in graph.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    products = [node for node in graph.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    whole = [set(node.input[:2]) <= scaled for node in products]
    assert whole.count(True) > 10
    assert {node.op_type for node, is_quantised in zip(products, whole, strict=True) if not is_quantised} == {"MatMul"}
    kinds = {tensor.data_type for tensor in graph.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}


def test_the_file_is_standard_and_says_what_it_is(quantised: Path) -> None:
    graph = onnx.load(quantised)
    assert [operators.domain for operators in graph.opset_import] == [""]
    assert {prop.key: json.loads(prop.value) for prop in graph.metadata_props} == {"classes": ["a", "ö"]}
