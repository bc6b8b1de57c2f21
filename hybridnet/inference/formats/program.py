"""A network as a program without Python, for any batch and image size."""

from __future__ import annotations

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

# Neither the smallest nor equal: a program keeps apart what is different in the example.
EXAMPLE_SIZE = (2, 3, 224, 256)


def exported_program(network: nn.Module) -> tuple[ExportedProgram, tuple[int, int]]:
    """Trace a network in eval mode.

    Args:
        network: (B, 3, H, W) -> (B, num_classes), contiguous, on the CPU.

    Returns:
        The program, and the smallest height and width that it takes. Its last feature map must have two rows and
        columns: torch makes another program for one, as if nothing were to be repeated along it.

    Raises:
        Exception: of many kinds, where torch cannot trace the network for all sizes.
    """
    dynamic = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.export.export(network.eval(), (torch.randn(EXAMPLE_SIZE),), dynamic_shapes=(dynamic,))
    _forget_origin(program)
    name = program.graph_signature.user_inputs[0]
    shape = next(node for node in program.graph.nodes if node.name == name).meta["val"].shape
    height, width = (int(program.range_constraints[side.node.expr].lower) for side in shape[2:])
    return program, (height, width)


def _forget_origin(program: ExportedProgram) -> None:
    """Leave out what would be written into every file: paths on this machine, and the example's pixels."""
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    program.example_inputs = None
