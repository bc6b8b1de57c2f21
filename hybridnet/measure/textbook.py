"""The training loop of the tutorials, to be compared with."""

from __future__ import annotations

import copy
import multiprocessing
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import resnet

from hybridnet.errors import Fault, TrainingError
from hybridnet.model.backbone import resnet as ours

NUM_WORKERS = 2
WARM_UPS = 5  # steps: in a pause the workers make two batches each


class Textbook:
    """Files read anew in each epoch by two worker processes, torchvision's transforms, float32, AdamW.

    In a process of its own, where nothing helps it that this project has set up in this one: a context manager, within
    which it waits to be asked. On the CPU.

    Args:
        files: of the training pictures.
        labels: class indices of them.
        model: (B, 3, H, W) -> (B, num_classes), on the CPU; it is copied.
        image_size: height and width of the model's input.
        batch_size: pictures per step.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int],
        model: nn.Module,
        *,
        image_size: tuple[int, int],
        batch_size: int,
    ) -> None:
        context = multiprocessing.get_context("spawn")  # a forked one would have this one's memory settings
        self._connection, theirs = context.Pipe()
        # Copied, because another process is given the same memory, not its content.
        arguments = (theirs, ImageFiles(files, labels, image_size), copy.deepcopy(model), batch_size)
        self._process = context.Process(target=serve, args=arguments)
        self._theirs = theirs

    def __enter__(self) -> Textbook:
        self._process.start()
        self._theirs.close()  # or its end would not be seen
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()
        if error is None:
            self._process.join(timeout=10)
        self._process.kill()
        self._process.join()

    def seconds_per_image(self, steps: int) -> float:
        """Of so many steps, after a few that do not count.

        Raises:
            TrainingError: if its process has ended.
        """
        try:
            self._connection.send(steps)
            return self._connection.recv()
        except (EOFError, OSError) as error:
            fault = Fault("ended process", "textbook=true", "the textbook loop did not go on", "textbook=false")
            raise TrainingError(fault) from error


def published(model: nn.Module, backbone: Mapping[str, Any], *, num_classes: int) -> nn.Module:
    """torchvision's network of the same architecture, which the tutorials train; `model` itself where it has none.

    Args:
        model: plain.
        backbone: its settings.
        num_classes: of the network.
    """
    if not isinstance(model.backbone, ours.ResNet) or backbone["stem"] != "imagenet":
        return model
    block = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}[backbone["block"]]
    return resnet.ResNet(block, list(backbone["layers"]), num_classes=num_classes)


class ImageFiles(Dataset):
    """As torchvision's `ImageFolder` reads them, with the transforms of its ImageNet example."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int], image_size: tuple[int, int]) -> None:
        self.files, self.labels = files, labels
        normalise = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        crop = transforms.RandomResizedCrop(image_size)
        self.transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB")), self.labels[index]


def serve(connection: Connection, pictures: ImageFiles, model: nn.Module, batch_size: int) -> None:
    """Answer every number of steps with the seconds per picture that they took, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the asking process ends this one
    loader = DataLoader(pictures, batch_size, shuffle=True, num_workers=NUM_WORKERS, persistent_workers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    batches = _endless(loader)
    try:
        while True:
            steps = connection.recv()
            for _ in range(WARM_UPS):
                _step(model, optimizer, *next(batches))
            start, num_images = time.perf_counter(), 0
            for _ in range(steps):
                images, labels = next(batches)
                _step(model, optimizer, images, labels)
                num_images += len(labels)
            connection.send((time.perf_counter() - start) / num_images)
    except (EOFError, OSError):  # the asking process has ended
        return


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def _endless(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader
