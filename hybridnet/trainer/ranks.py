"""The processes that train one model together, each on its part of every batch; usually there is only one."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hybridnet.errors import Fault, FaultsError, InputError, TrainingError

T = TypeVar("T")

# torch >= 2.14 has another name for it, and warns of the old one.
IS_NEW = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
SYNC_BUFFERS = "forward_sync_buffers" if IS_NEW else "broadcast_buffers"

# One that has ended is noticed at once; one whose machine or network has failed does not answer any more.
PATIENCE = timedelta(hours=6)  # another may be decoding pictures
PATIENCE_WHILE_TRAINING = timedelta(minutes=10)
set_timeout = (
    dist.set_timeout if hasattr(dist, "set_timeout") else dist.distributed_c10d._set_pg_timeout
)  # torch < 2.14


@dataclass(frozen=True)
class Ranks:
    """The processes, as one of them sees them. With one process all of it does nothing.

    Attributes:
        rank: number of this process, from 0; the process with number 0 alone writes files.
        num: how many there are, on all machines.
        local_rank: number of this process on its machine, which is that of its GPU.
    """

    rank: int
    num: int
    local_rank: int

    @staticmethod
    def of_environment() -> Ranks:
        """As `torchrun` says it in the environment; without it, this process alone."""
        rank, num, local_rank = (int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return Ranks(rank, num, local_rank) if num > 1 else ALONE

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def join(self) -> None:
        """Wait until all are there: tensors of CPUs travel by Gloo, those of GPUs by NCCL.

        Raises:
            InputError: if the environment does not say where they meet.
        """
        if self.num == 1:
            return
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            dist.init_process_group(backend, timeout=PATIENCE)
        except ValueError as error:
            hint = "start the processes with torchrun, or remove WORLD_SIZE from the environment"
            raise InputError(Fault("no meeting place", f"WORLD_SIZE={self.num}", str(error), hint)) from error

    def leave(self) -> None:
        """From here on every process goes on by itself; does nothing if it has not joined the others."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def wrapped(self, model: nn.Module, device: torch.device) -> nn.Module:
        """A model whose backward pass leaves the mean of all ranks' gradients in the parameters of `model`.

        All ranks begin with the weights of the first, and have their data by then: from here on one that does not
        answer for ten minutes is lost. Buffers are not kept equal: in training nothing reads those of BatchNorm, and
        `share_buffers` hands them on where they are read.
        """
        if self.num == 1:
            return model
        # Of 1×1 convolutions, whose gradients lie in memory as their weights do, whatever the strides are called.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        wrapped = DistributedDataParallel(
            model,
            device_ids=None if device.type == "cpu" else [device],
            gradient_as_bucket_view=True,
            **{SYNC_BUFFERS: False},
        )
        set_timeout(PATIENCE_WHILE_TRAINING)
        return wrapped

    def share_weights(self, model: nn.Module) -> None:
        """Give every rank the weights and buffers of the first, which alone may have read initial ones."""
        if self.num > 1:
            for tensor in model.state_dict().values():
                found = tensor.contiguous()  # not every backend takes other orders in memory
                dist.broadcast(found, src=0)
                tensor.copy_(found)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank the buffers of the first, which are those that are saved."""
        if self.num > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def largest(self, number: float) -> float:
        """The largest of all ranks' numbers: how they agree on what happens next."""
        if self.num == 1:
            return number
        found = torch.tensor(number, dtype=torch.float64)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return found.item()

    def in_step(self, items: Iterable[T]) -> Iterator[T | None]:
        """This rank's items, and None as long as only others have any left: all come equally often to what follows."""
        source = iter(items)
        while True:
            item = next(source, None)
            if not self.largest(item is not None):
                return
            yield item

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Each number, added up over the ranks."""
        if self.num == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(found)
        return found.tolist()

    def gathered(self, part: T) -> list[T]:
        """What every rank has, by its number; must be picklable."""
        if self.num == 1:
            return [part]
        parts: list[Any] = [None] * self.num
        dist.all_gather_object(parts, part)
        return parts

    def of_first(self, content: T) -> T:
        """What the first rank has; must be picklable.

        Raises:
            TrainingError: if it has ended: where its input is wrong, the others wait for it here.
        """
        if self.num == 1:
            return content
        found = [content]
        try:
            dist.broadcast_object_list(found, src=0)
        except Exception as error:
            if explained := self.explained(error):
                raise explained from error
            raise
        return found[0]

    def explained(self, error: Exception) -> TrainingError | None:
        """What to say in place of the error of a communication that another process does not take part in."""
        words = str(error)
        signs = ("gloo", "NCCL", "pair closure")  # the last one is Gloo's, which does not say so
        is_of_communication = isinstance(error, dist.DistError) or any(sign in words for sign in signs)
        if self.num == 1 or isinstance(error, FaultsError) or not is_of_communication:
            return None
        cause = (
            f"another of the {self.num} processes has ended, or cannot be reached ({words.partition(chr(10))[0][:200]})"
        )
        return TrainingError(Fault("lost process", f"rank {self.rank}", cause, "what it printed says why"))

    def share(self, num_here: int, num_in_all: int) -> float:
        """What the mean over a rank's pictures counts in the mean of all ranks' gradients."""
        return self.num * num_here / num_in_all


ALONE = Ranks(rank=0, num=1, local_rank=0)


def never_empty(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The batch; for a rank that has no picture of it a black one, which counts nothing: all take part in each step.

    Only BatchNorm sees it; with statistics over all ranks they all do, in a batch of fewer pictures than ranks. PyTorch
    would take an empty batch, but sends that rank's statistics in bf16 where the others' are float32.
    """
    if len(inputs):
        return inputs, targets
    return inputs.new_zeros(1, *inputs.shape[1:]), targets.new_zeros(1, *targets.shape[1:])
