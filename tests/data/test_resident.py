"""Pictures in the device's memory: cut there as on the host, within a grey level."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybridnet.data.batch import Batch, Crops
from hybridnet.data.metadata import MetadataImages
from hybridnet.data.resident import ResidentPictures, keep_pictures
from hybridnet.data.samples import resized
from hybridnet.errors import InputError
from hybridnet.trainer import batch_function
from hybridnet.trainer.compilation import Compilation
from hybridnet.trainer.inputs import Inputs
from tests.trainer.replaying import CpuGraphs

CPU = torch.device("cpu")
TRAIN, VALID = [(20, 30), (64, 48), (1, 1), (33, 90)], [(90, 17), (5, 60)]


def random_crops(sizes: np.ndarray, size: tuple[int, int], *, num: int) -> Crops:
    """Boxes of all places and shapes, some of one pixel; all four flips."""
    rng = np.random.default_rng(0)
    rows = rng.integers(len(sizes), size=num)
    ends = [[np.sort(rng.choice(side + 1, 2, replace=False)) for side in sizes[row]] for row in rows]
    boxes = [[left, top, right, bottom] for (top, bottom), (left, right) in ends]
    flips = torch.from_numpy(rng.random((num, 2)) < 0.5)
    return Crops(torch.from_numpy(rows), torch.tensor(np.array(boxes)), flips, size)


def host_cuts(parts: list[Any], crops: Crops) -> np.ndarray:
    pictures = [part[index] for part in parts for index in range(len(part.sizes))]
    cuts = []
    for row, box, (horizontal, vertical) in zip(
        crops.rows.tolist(), crops.boxes.tolist(), crops.flips.tolist(), strict=True
    ):
        cut = resized(pictures[row], box, crops.size)
        cuts.append(cut[:: -1 if vertical else 1, :: -1 if horizontal else 1])
    return np.stack(cuts)


@pytest.mark.parametrize("size", [(12, 16), (40, 24), (1, 7)], ids=str)
def test_cut_equals_the_hosts(size: tuple[int, int], in_memory: Callable) -> None:
    """Pictures of several sizes in two parts, reduced and enlarged; the padding is never seen."""
    parts = [in_memory(*TRAIN), in_memory(*VALID)]
    resident = ResidentPictures(parts, device=CPU)
    crops = random_crops(np.array(TRAIN + VALID), size, num=200)
    found = resident.cut(crops)
    assert (found.shape, found.dtype) == ((200, *size, 3), torch.uint8)
    difference = np.abs(found.numpy().astype(int) - host_cuts(parts, crops))
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.75, "the host rounds in between; more than that would be another filter"


def test_a_box_of_the_wanted_size_is_not_resampled(in_memory: Callable) -> None:
    parts = [in_memory(*TRAIN)]
    boxes = torch.tensor([[3, 5, 19, 17], [30, 52, 46, 64]])
    crops = Crops(torch.tensor([0, 1]), boxes, torch.tensor([[False, False], [True, True]]), (12, 16))
    found = ResidentPictures(parts, device=CPU).cut(crops).numpy()
    np.testing.assert_array_equal(found[0], parts[0][0][5:17, 3:19])
    np.testing.assert_array_equal(found[1], parts[0][1][52:64, 30:46][::-1, ::-1])


def test_values_by_hand() -> None:
    """Two pixels made three: the middle is their mean, the ends are theirs."""

    class Two:
        sizes = np.array([[1, 2]])

        def __getitem__(self, index: int) -> np.ndarray:
            return np.array([[[0, 10, 200], [100, 30, 100]]], dtype=np.uint8)

    crops = Crops(torch.tensor([0]), torch.tensor([[0, 0, 2, 1]]), torch.tensor([[False, False]]), (1, 3))
    found = ResidentPictures([Two()], device=CPU).cut(crops)
    assert found.tolist() == [[[[0, 10, 200], [50, 20, 150], [100, 30, 100]]]]


def test_memory_that_is_needed(in_memory: Callable) -> None:
    """The largest height and the largest width, up to a multiple of 8, for every picture."""
    parts = [in_memory(*TRAIN), in_memory(*VALID)]
    assert ResidentPictures.num_bytes(parts) == 6 * 96 * 96 * 3
    assert ResidentPictures(parts, device=CPU).pixels.nbytes == 6 * 96 * 96 * 3


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(12, 16), (40, 24)], ids=str)
def test_gpu_equals_the_host(size: tuple[int, int], in_memory: Callable) -> None:
    """In half precision there: weights of 11 bits, and a sum that is rounded once more."""
    parts = [in_memory(*TRAIN), in_memory(*VALID)]
    crops = random_crops(np.array(TRAIN + VALID), size, num=200)
    there = Crops(crops.rows.cuda(), crops.boxes.cuda(), crops.flips.cuda(), size)
    found = ResidentPictures(parts, device=torch.device("cuda")).cut(there)
    assert found.is_cuda
    assert np.abs(found.cpu().numpy().astype(int) - host_cuts(parts, crops)).max() <= 1


# As the data uses them


def in_grey_levels(data: MetadataImages, batch: Batch) -> torch.Tensor:
    return data.to_input(batch, torch.float32) * data.normalize.std.view(3, 1, 1) * 255


@pytest.mark.parametrize("workers", ["auto", "0"])
@pytest.mark.parametrize("cache", ["store", "none"])
def test_resident_batches_are_the_hosts(
    cache: str, workers: str, make_folder: Callable[..., Path], build: Callable[..., MetadataImages]
) -> None:
    """Two epochs of training with mirrored crops, smaller ones first, and validation behind them."""
    folder = make_folder()
    settings = [
        "data.image_size=[12,16]",
        "data.progressive=[[6,8]]",
        "trainer.epochs=2",
        "data.batch_size=4",
        "data.augment.brightness=0",
        "data.augment.contrast=0",
        "data.augment.saturation=0",
        f"data.cache={cache}",
        f"data.num_workers={workers}",
    ]
    host = build(folder, *settings, "data.resident=false")
    resident = build(folder, *settings, "data.resident=true")
    for read in (lambda d: d.train_batches(1), lambda d: d.train_batches(2), lambda d: d.valid_batches()):
        ours, theirs = list(read(resident)), list(read(host))
        assert len(ours) == len(theirs) > 1
        for one, other in zip(ours, theirs, strict=True):
            assert one.images is None and other.crops is None
            assert torch.equal(one.labels, other.labels) and torch.equal(one.colour, other.colour)
            difference = (in_grey_levels(resident, one) - in_grey_levels(host, other)).abs()
            assert difference.max() < 1.01 and difference.mean() < 0.4


def test_resident_with_rotation_and_mixing(make_folder: Callable, build: Callable) -> None:
    """Where no picture is resized, the host's pixels come out exactly, whatever is done to them afterwards."""
    settings = ["data.image_size=[20,30]", "data.center_crop=1", "data/augment=none", "data.augment.rotation=30"]
    settings += ["data.augment.mixup=0.4", "data.augment.cutmix=1", "data.augment.brightness=0.3"]
    folder = make_folder()
    host = build(folder, *settings, "data.resident=false")
    resident = build(folder, *settings, "data.resident=true")
    one, other = resident.first_train_batch(), host.first_train_batch()
    assert one.mixing is not None and one.angles is not None
    assert torch.equal(resident.to_input(one, torch.float32), host.to_input(other, torch.float32))
    assert torch.equal(resident.targets(one), host.targets(other))


CHANGES = ["data.augment.rotation=30", "data.augment.shift=0.2", "data.augment.mixup=0.4", "data.augment.cutmix=1"]


@pytest.mark.parametrize("changes", [[], CHANGES], ids=["plain", "moved and mixed"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_inputs_can_be_captured(
    device: str, changes: list[str], make_folder: Callable, build: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a CUDA graph, over epochs of two sizes with a short last batch each; the stand-in refuses to wait."""
    settings = ["data.progressive=[[6,8]]", "data.image_size=[12,16]", "trainer.epochs=10", "data.batch_size=4"]
    data = build(make_folder(), *settings, *changes, "data.resident=true")
    data.setup(device=torch.device(device))
    if device == "cpu":
        monkeypatch.setattr(batch_function, "CudaGraphs", CpuGraphs)
    work = []

    def make(data: MetadataImages, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        work.append(batch)
        return data.to_input(batch, torch.float32), data.targets(batch)

    captures = Compilation(compiles=False, captures=True, is_optional=False)
    captured = Inputs(make, captures, torch.device(device))
    num_batches = 0
    for epoch in range(1, 11):
        for batch in data.train_batches(epoch):
            there = batch.to(torch.device(device))
            for found, expected in zip(captured(data, there)[1:], make(data, there), strict=True):
                assert torch.equal(found, expected)
            num_batches += 1
    assert len(work) < 2 * num_batches - 10, "it was not captured"


def test_auto_is_off_without_a_gpu(make_folder: Callable, build: Callable) -> None:
    batch = build(make_folder(), "data.image_size=[12,16]").first_train_batch()
    assert batch.images is not None and batch.crops is None


class _Kept(ResidentPictures):
    """Needs no GPU."""

    def __init__(self, *_: object, **__: object) -> None: ...


@pytest.mark.parametrize(
    ("free", "are_stored", "are_kept"), [(9216, True, True), (9215, True, False), (9999, False, False)]
)
def test_auto_needs_a_store_and_half_of_the_free_memory(
    free: int, are_stored: bool, are_kept: bool, in_memory: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10_000))
    monkeypatch.setattr("hybridnet.data.resident.ResidentPictures", _Kept)
    parts = [in_memory((24, 10), (16, 8)), in_memory((4, 16), (4, 4))]  # 4 · 24 · 16 · 3 bytes
    kept = keep_pictures(parts, device=torch.device("cuda"), wanted="auto", are_stored=are_stored)
    assert (kept is not None) is are_kept


def test_what_is_wanted_there_and_does_not_fit_says_how_large_it_is(
    in_memory: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocate(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(ResidentPictures, "__init__", allocate)
    parts = [in_memory((24, 10), (16, 8)), in_memory((4, 16), (4, 4))]
    with pytest.raises(InputError, match=r"in data.resident: the pictures take 5 kB, .* cuda:1 .*\n.*resident=auto"):
        keep_pictures(parts, device=torch.device("cuda:1"), wanted=True, are_stored=False)
