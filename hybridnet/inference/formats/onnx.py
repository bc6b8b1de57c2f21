"""ONNX: a graph that onnxruntime runs, on many kinds of machines and from many languages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.export import ExportedProgram

from hybridnet.inference.formats import INPUT, OUTPUT, Exported
from hybridnet.inference.formats.about import texts
from hybridnet.inference.formats.program import exported_program
from hybridnet.inference.trained import TrainedModel

SUFFIX = ".onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")

# torch writes it without converting; a higher one has nothing that these models need, and fewer runtimes take it.
OPSET = 18


def write(stream: BinaryIO, model: TrainedModel, *, about: Mapping[str, Any]) -> tuple[int, int]:
    """Write the network as a graph; see `Format.write`. The metadata are texts of JSON."""
    program, smallest = exported_program(model.network)
    graph = _graph(program)
    _name_sides(graph)
    _forget_origin(graph)
    forget_unused_operators(graph)
    describe(graph, {**about, "smallest_size": list(smallest)})
    stream.write(graph.SerializeToString())
    return smallest


def load(path: str, *, extra_targets: Sequence[str] = ()) -> Exported:
    """The graph in onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def exported(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    return exported


def _graph(program: ExportedProgram) -> Any:
    """An `onnx.ModelProto`, without what does not depend on the images.

    The exporter's own optimisation is left out: for it a number below 1e-8 is zero, and linear attention's quotients
    lose the 1e-12 that keeps them finite. What else it would do, onnxruntime does when it loads a graph.
    """
    from onnxscript import optimizer

    names = {"input_names": [INPUT], "output_names": [OUTPUT]}
    exported = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, optimize=False, verbose=False, **names)
    optimizer.inline(exported.model)
    optimizer.fold_constants(exported.model, onnx_shape_inference=True)
    optimizer.remove_unused_nodes(exported.model)
    return exported.model_proto


def describe(graph: Any, about: Mapping[str, Any]) -> None:
    """Put what is known of the model into the metadata of an `onnx.ModelProto`, in place of what is there."""
    import onnx

    onnx.helper.set_model_props(graph, texts(about))


def forget_unused_operators(graph: Any) -> None:
    """Else an `onnx.ModelProto` asks for sets of operators that only some tools have."""
    used = {node.domain for node in graph.graph.node}
    kept = [operators for operators in graph.opset_import if operators.domain in used]
    del graph.opset_import[:]
    graph.opset_import.extend(kept)


def _name_sides(graph: Any) -> None:
    """`batch`, `height` and `width` instead of the tracer's `s34`, also where other sizes are computed from them."""
    sides = graph.graph.input[0].type.tensor_type.shape.dim
    names = {sides[place].dim_param: name for place, name in ((0, "batch"), (2, "height"), (3, "width"))}
    pattern = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names))
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = pattern.sub(lambda match: names[match.group()], side.dim_param)


def _forget_origin(graph: Any) -> None:
    """Leave out the tracer's notes to every node."""
    parts = (*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.value_info)
    for part in (*parts, *graph.graph.initializer, graph.graph):
        part.ClearField("metadata_props")
