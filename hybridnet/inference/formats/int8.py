"""An ONNX graph whose convolutions and matrix products compute in 8-bit integers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from hybridnet.inference.formats import INPUT
from hybridnet.inference.formats.onnx import describe, forget_unused_operators

# Products of weights: nearly all the work. Attention's products of two activations, its quotients, gates and sums stay
# in float32: they are a hundredth of the time, and doubled the error on rice photos.
QUANTISED = ("Conv", "MatMul", "Gemm")


def write(stream: BinaryIO, graph: Path, calibration: Iterable[Tensor], *, about: Mapping[str, Any]) -> None:
    """Quantise a graph that was written before: static, QDQ, weights per channel, activations by their extremes.

    Args:
        stream: to write to.
        graph: the ONNX file.
        calibration: batches of its input, float32 (B, 3, H, W), which show the ranges of the activations.
        about: put into the file's metadata.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        prepared, quantised = Path(folder, "prepared.onnx"), Path(folder, "quantised.onnx")
        # BatchNorm becomes a part of the convolution before it. The sizes stay unknown, as they are.
        quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantised),
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=_without_weights(onnx.load(prepared)),
        )
        result = onnx.load(quantised)
    forget_unused_operators(result)
    describe(result, about)
    stream.write(result.SerializeToString())


class _Reader:
    """The calibration as onnxruntime asks for it: one batch after the other, then None."""

    def __init__(self, batches: Iterable[Tensor]) -> None:
        self._feeds: Iterator[dict[str, Any]] = ({INPUT: batch.numpy()} for batch in batches)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _without_weights(graph: Any) -> list[str]:
    """The products of two activations."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    return [n.name for n in graph.graph.node if n.op_type in QUANTISED and not weights & set(n.input[1:])]
