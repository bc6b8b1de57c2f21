"""A file that was written is read again and tried beside the network that it was made of."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hybridnet.data.progress import Track, silently
from hybridnet.errors import Fault, TrainingError
from hybridnet.inference.agreement import Agreement, compare
from hybridnet.inference.formats import Exported
from hybridnet.inference.trained import TrainedModel
from hybridnet.measure.rounds import Stopwatch, interleaved, num_calls

BATCH_SIZES = (16, 1)
ROUNDS, SECONDS = 7, 0.05  # of timing, and of one round of each


class Trial(NamedTuple):
    """How a file's program compares with the network.

    Attributes:
        program: of the file.
        smallest: height and width that it takes; None if it has no limit of its own.
        agreements: for each image and batch size; the first one is for the run's own image size.
    """

    program: Exported
    smallest: tuple[int, int] | None
    agreements: list[Agreement]

    @property
    def max_error(self) -> float:
        """The largest difference of a probability."""
        return max(agreement.max_error for agreement in self.agreements)


def tried(
    program: Exported,
    model: TrainedModel,
    pictures: Sequence[Path | np.ndarray],
    *,
    smallest: tuple[int, int] | None,
    tolerance: float,
    track: Track = silently,
) -> Trial:
    """Show a program and the network the same pictures: in the run's own size, in one of another shape, in two batch
    sizes each; and one picture in the smallest size.

    Args:
        program: of the file.
        model: on the CPU; its memory becomes channels_last.
        pictures: files, or arrays uint8 (H, W, 3).
        smallest: see `Trial`.
        tolerance: largest difference of a probability. With 1 only a result that is no number is refused.
        track: called with an iterable, a description and a length; shows the progress.

    Raises:
        InputError: if no picture can be decoded.
        TrainingError: if they do not agree.
    """
    height, width = own = model.preprocessing.image_size
    least_height, least_width = smallest or (1, 1)
    other = (max(least_height, 3 * height // 4), max(least_width, 5 * width // 4))
    agreements = []
    for size in (own, other):
        preprocessing = model.preprocessing.with_size(size)
        agreements += compare(model.network, program, pictures, preprocessing, batch_sizes=BATCH_SIZES, track=track)
    if smallest:
        readable = [pictures[agreements[0].indices[0]]]
        agreements += compare(
            model.network, program, readable, model.preprocessing.with_size(smallest), batch_sizes=(1,)
        )
    faults = [_fault(agreement, tolerance) for agreement in agreements if not agreement.holds(tolerance)]
    if faults:
        raise TrainingError(*faults)
    return Trial(program, smallest, agreements)


def _fault(agreement: Agreement, tolerance: float) -> Fault:
    height, width = agreement.image_size
    where = f"the exported model at {height}×{width}, batch size {agreement.batch_size}"
    cause = (
        f"probabilities differ by up to {agreement.max_error:.2g} (tolerance={tolerance:g}), "
        f"{agreement.num_other} of {len(agreement.indices)} labels are others"
    )
    return Fault("wrong result", where, cause, "the file was not kept")


def seconds_of(model: TrainedModel, programs: Sequence[Exported]) -> list[float]:
    """For one picture of the run's own size, of the network and of each program; medians of interleaved rounds."""
    inputs = torch.rand(1, 3, *model.preprocessing.image_size)
    as_trained = inputs.contiguous(memory_format=torch.channels_last)
    network = model.network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def call_network() -> None:
        network(as_trained)

    stopwatch = Stopwatch(torch.device("cpu"))
    calls = [call_network, *(functools.partial(program, inputs) for program in programs)]
    counted = [(call, num_calls(call, stopwatch, warm_ups=2, seconds=SECONDS)) for call in calls]
    return [float(np.median(one.singles)) for one in interleaved(counted, rounds=ROUNDS, stopwatch=stopwatch)]
