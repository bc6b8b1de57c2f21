"""Batches of a user's pictures: which, in what order, and with which pixels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hybridnet.data.augment import Augment
from hybridnet.data.batch import Batch, erased, mixed, rotated, shifted
from hybridnet.data.image import ORIENTATION
from hybridnet.data.metadata import MetadataImages
from hybridnet.errors import InputError
from hybridnet.files import write_json

MakeFolder = Callable[..., Path]
Build = Callable[..., MetadataImages]

# The pictures of make_folder unchanged, so that each is known by its pixels.
UNCHANGED = ["data/augment=none", "data.image_size=[20,30]", "data.center_crop=1"]


def settings(**changes: Any) -> dict[str, Any]:
    scalars = (
        "horizontal_flip",
        "vertical_flip",
        "rotation",
        "shift",
        "brightness",
        "contrast",
        "saturation",
        "erase",
        "mixup",
        "cutmix",
    )
    defaults = {
        "source": None,
        "metadata": "nowhere/metadata.csv",
        "label2id": "nowhere/label2id.json",
        "fold": None,
        "image_size": 224,
        "progressive": [],
        "num_epochs": 4,
        "center_crop": 0.875,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "batch_size": 4,
        "num_workers": "auto",
        "pin_memory": False,
        "train_limit": None,
        "valid_limit": None,
        "on_bad_image": "error",
        "on_leak": "error",
        "cache": "store",
        "cache_dir": None,
        "resident": "auto",
        "sampler": "shuffle",
        "class_weights": "none",
        "augment": Augment(
            scale=(1.0, 1.0),
            ratio=(1.0, 1.0),
            erase_area=(0.1, 0.2),
            mix_probability=1.0,
            **dict.fromkeys(scalars, 0.0),
        ),
        "seed": 0,
    }
    return defaults | changes


def numbers(batches: Iterable[Batch], folder: Path) -> list[int]:
    """Which files the unchanged pictures are from."""
    known = {np.asarray(Image.open(file)).tobytes(): int(file.stem) for file in folder.glob("*.png")}
    return [known[image.numpy().tobytes()] for batch in batches for image in batch.images]


def joined(batches: Iterable[Batch]) -> list[torch.Tensor]:
    """Pixels, colour changes and labels of an epoch as if it were one batch."""
    parts = [(batch.images, batch.colour, batch.labels) for batch in batches]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def same(one: list[torch.Tensor], other: list[torch.Tensor], *, first: int | None = None) -> bool:
    return all(torch.equal(a[:first], b[:first]) for a, b in zip(one, other, strict=True))


# Which pictures


@pytest.mark.parametrize(
    ("num_train", "batch_size", "sizes"),
    [
        (12, 4, [4, 4, 4]),
        (14, 4, [4, 4, 4, 2]),
        (13, 4, [4, 4, 4]),  # BatchNorm cannot learn from one picture
        (5, 1, [1, 1, 1, 1, 1]),
        (1, 4, [1]),
        (3, 8, [3]),
        (9, 8, [8]),
    ],
)
def test_training_batches(
    num_train: int, batch_size: int, sizes: list[int], make_folder: MakeFolder, build: Build
) -> None:
    folder = make_folder(train=num_train, valid=1)
    data = build(folder, *UNCHANGED, f"data.batch_size={batch_size}")
    assert data.steps_per_epoch == len(sizes)
    seen = set()
    for epoch in range(1, 20):
        batches = list(data.train_batches(epoch))
        assert [len(batch) for batch in batches] == sizes
        files = numbers(batches, folder)
        assert len(set(files)) == len(files) and set(files) <= set(range(num_train))
        labels = [label for batch in batches for label in batch.labels.tolist()]
        assert labels == [file % min(3, num_train) for file in files]
        seen |= set(files)
    assert seen == set(range(num_train)), "the picture left out of one epoch must come in another"


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 3, 1]), (7, [7]), (32, [7])]
)
def test_validation_is_every_picture_once_in_the_order_of_the_table(
    batch_size: int, sizes: list[int], make_folder: MakeFolder, build: Build
) -> None:
    folder = make_folder(train=4, valid=7)
    data = build(folder, *UNCHANGED, f"data.batch_size={batch_size}", "data/augment=photo")
    for _ in range(2):
        batches = list(data.valid_batches())
        assert [len(batch) for batch in batches] == sizes
        assert numbers(batches, folder) == list(range(4, 11))
        assert torch.cat([batch.labels for batch in batches]).tolist() == [file % 3 for file in range(4, 11)]
        assert all(torch.equal(matrix, torch.eye(3, 4)) for batch in batches for matrix in batch.colour)


def test_limits(make_folder: MakeFolder, build: Build) -> None:
    folder = make_folder(train=30, valid=9)
    data = build(folder, *UNCHANGED, "data.train_limit=12", "data.valid_limit=3", "data.batch_size=5")
    assert data.steps_per_epoch == 3
    train, valid = numbers(data.train_batches(1), folder), numbers(data.valid_batches(), folder)
    assert np.bincount([file % 3 for file in train]).tolist() == [4, 4, 4]
    assert np.bincount([file % 3 for file in valid]).tolist() == [1, 1, 1]
    assert valid == sorted(valid) and set(valid) < set(range(30, 39))
    assert set(train) == set(numbers(data.train_batches(2), folder))
    unlimited = build(folder, *UNCHANGED, "data.train_limit=100")
    assert sorted(numbers(unlimited.train_batches(1), folder)) == list(range(30))


def test_a_limit_that_leaves_classes_out_is_told(
    make_folder: MakeFolder, build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_folder(train=30, valid=9)
    build(folder, *UNCHANGED, "data.train_limit=3")
    assert caplog.messages == []
    data = build(folder, *UNCHANGED, "data.train_limit=1")
    lost = [repr(name) for name in data.classes if data.label2id[name] != data.train.labels[0]]
    assert caplog.messages == [f"data.train_limit=1 leaves no training picture of {', '.join(lost)}"]


def test_a_file_in_several_rows_of_a_split_is_told(
    write_pair: Callable[..., Path], noise: Callable, build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["0.png,leaf,train", "1.png,root,train", "./0.png,leaf,train", "2.png,leaf,valid", "0.png,leaf,train"]
    folder = write_pair(rows, ["leaf", "root"])
    for number in range(3):
        Image.fromarray(noise(20, 30, seed=number)).save(folder / f"{number}.png")
    build(folder, *UNCHANGED)
    told = "2 training rows with the file of an earlier row, which counts as often: line 4 = line 2, line 6 = line 2"
    assert caplog.messages == [told]


def test_test_split_is_left_alone(write_pair: Callable[..., Path], noise: Callable, build: Build) -> None:
    rows = ["0.png,leaf,test", "1.png,leaf,train", "2.png,root,valid", "3.png,root,train"]
    folder = write_pair(rows, ["leaf", "root"])
    for number in range(4):
        Image.fromarray(noise(20, 30, seed=number)).save(folder / f"{number}.png")
    data = build(folder, *UNCHANGED)
    assert sorted(numbers(data.train_batches(1), folder)) == [1, 3]
    assert numbers(data.valid_batches(), folder) == [2]


@pytest.mark.parametrize(("fold", "train", "valid"), [(0, {1, 2, 4, 5}, [0, 3]), (2, {0, 1, 3, 4}, [2, 5])])
def test_a_fold_is_for_validation_and_the_others_for_training(
    fold: int, train: set[int], valid: list[int], write_pair: Callable[..., Path], noise: Callable, build: Build
) -> None:
    """Whatever the column `split` says; the test rows have no fold."""
    rows = [f"{number}.png,leaf,{'train' if number else 'valid'},{number % 3}" for number in range(6)]
    folder = write_pair([*rows, "6.png,leaf,test,"], ["leaf"], heading="path,label,split,fold")
    for number in range(7):
        Image.fromarray(noise(20, 30, seed=number)).save(folder / f"{number}.png")
    data = build(folder, *UNCHANGED, f"data.fold={fold}")
    assert set(numbers(data.train_batches(1), folder)) == train
    assert numbers(data.valid_batches(), folder) == valid


def test_classes_come_in_the_order_of_their_index(make_folder: MakeFolder, build: Build) -> None:
    folder = make_folder()
    (folder / "label2id.json").write_text('{"stem": 0, "leaf": 2, "root": 1}')
    data = build(folder, *UNCHANGED)
    assert data.classes == ["stem", "root", "leaf"]
    assert next(data.valid_batches()).labels.tolist() == [0, 2, 1, 0, 2]


# In what order, and with which random changes: a pure function of (seed, epoch, index)

RANDOM = ["data.image_size=[12,16]"]  # with the crops, flips and colours of augment/photo


def test_epoch_can_be_repeated(make_folder: MakeFolder, build: Build) -> None:
    folder = make_folder()
    data, again = build(folder, *RANDOM), build(folder, *RANDOM)
    first = joined(data.train_batches(2))
    np.random.seed(5)
    torch.manual_seed(5)
    assert same(joined(data.train_batches(2)), first)
    assert same(joined(again.train_batches(2)), first), "epoch 2 must not depend on epoch 1 having been read"


def test_batch_size_changes_nothing(make_folder: MakeFolder, build: Build) -> None:
    folder = make_folder(train=14)
    by_size = [joined(build(folder, *RANDOM, f"data.batch_size={size}").train_batches(1)) for size in (4, 5, 14)]
    assert same(by_size[0], by_size[1]) and same(by_size[0], by_size[2])
    one_left_over = joined(build(folder, *RANDOM, "data.batch_size=13").train_batches(1))
    assert len(one_left_over[0]) == 13 and same(by_size[0], one_left_over, first=13)


def test_seeds_are_judged_on_the_same_pictures(make_folder: MakeFolder, build: Build) -> None:
    """Or runs of a sweep over seeds could not be compared picture by picture."""
    folder = make_folder(train=12, valid=40)
    builds = [build(folder, *UNCHANGED, "data.valid_limit=9", "data.train_limit=6", f"seed={seed}") for seed in (1, 2)]
    first, second = ((data.valid.paths, data.train.paths) for data in builds)
    assert first[0] == second[0] and first[1] != second[1]


def test_epochs_and_seeds_differ(make_folder: MakeFolder, build: Build) -> None:
    folder = make_folder()
    orders, pixels = set(), set()
    for seed in (42, 43):
        data = build(folder, *UNCHANGED, f"seed={seed}")
        random = build(folder, *RANDOM, f"seed={seed}")
        for epoch in (1, 2, 3):
            orders.add(tuple(numbers(data.train_batches(epoch), folder)))
            pixels |= {image.numpy().tobytes() for image in joined(random.train_batches(epoch))[0]}
    assert len(orders) == 6
    assert len(pixels) == 6 * 14, "every picture must be changed in another way in every epoch"


def test_copies_of_a_picture_are_changed_differently(
    write_pair: Callable[..., Path], noise: Callable[..., np.ndarray], build: Build
) -> None:
    folder = write_pair(["a.png,leaf,train"] * 14 + ["b.png,leaf,valid"], ["leaf"])
    for number, name in enumerate("ab"):
        Image.fromarray(noise(20, 30, seed=number)).save(folder / f"{name}.png")
    images, colour, _ = joined(build(folder, *RANDOM).train_batches(1))
    assert len({image.numpy().tobytes() for image in images}) == 14
    assert len({matrix.numpy().tobytes() for matrix in colour}) == 14


def test_an_epoch_can_begin_with_any_batch(make_folder: MakeFolder, build: Build) -> None:
    data = build(make_folder(train=14), *RANDOM, "data.batch_size=4", "data.sampler=balanced")
    whole = list(data.train_batches(2))
    for first in range(data.steps_per_epoch):
        assert same(joined(data.train_batches(2, first=first)), joined(whole[first:]))
    assert list(data.train_batches(2, first=data.steps_per_epoch)) == []


def test_first_train_batch(make_folder: MakeFolder, build: Build) -> None:
    data = build(make_folder(), *RANDOM, "data.batch_size=4")
    assert same(joined([data.first_train_batch()]), joined([next(data.train_batches(1))]))


# Smaller ones in the first epochs

PROGRESSIVE = [*RANDOM, "data.progressive=[6,[8,12]]", "trainer.epochs=4", "data.batch_size=4"]


def test_progressive_pictures(make_folder: MakeFolder, build: Build) -> None:
    """What is in the early epochs differs from a training without in the number of pixels only, the rest not at all."""
    folder = make_folder()
    plain = build(folder, *RANDOM, "data.batch_size=4")
    data, live = (build(folder, *PROGRESSIVE, f"data.cache={cache}") for cache in ("store", "none"))
    for epoch, size in {1: (6, 6), 2: (8, 12), 3: (12, 16), 4: (12, 16)}.items():
        images, colour, labels = joined(data.train_batches(epoch))
        assert images.shape == (14, *size, 3)
        assert same([images, colour, labels], joined(live.train_batches(epoch)))
        expected = joined(plain.train_batches(epoch))
        assert same([colour, labels], expected[1:])
        assert size != (12, 16) or torch.equal(images, expected[0])
    assert same(joined([data.first_train_batch()]), joined([next(data.train_batches(1))]))
    assert same(joined(data.train_batches(2, first=2)), joined(list(data.train_batches(2))[2:]))
    assert same(joined(data.valid_batches()), joined(plain.valid_batches()))
    assert data.preprocessing()["image_size"] == [12, 16]


def test_the_model_gets_progressive_pictures_at_their_size(make_folder: MakeFolder, build: Build) -> None:
    """Also where the training device turns, mixes and cuts them itself."""
    settings = [*PROGRESSIVE, "data.augment.rotation=30", "data.augment.mixup=0.4", "data.augment.cutmix=1"]
    folder = make_folder()
    for resident in ("true", "false"):
        data = build(folder, *settings, f"data.resident={resident}")
        for epoch, size in {1: (6, 6), 2: (8, 12), 3: (12, 16)}.items():
            batch = next(data.train_batches(epoch))
            assert batch.angles is not None and batch.mixing is not None
            images = data.to_input(batch, torch.float32)
            assert images.shape == (4, 3, *size) and images.isfinite().all()
            torch.testing.assert_close(data.targets(batch).sum(dim=1), torch.ones(4))


def test_there_is_one_store_for_all_sizes(make_folder: MakeFolder, build: Build, tmp_path: Path) -> None:
    def stores() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("pixels.bin")}

    folder = make_folder()
    build(folder, *RANDOM, f"data.cache_dir={tmp_path / 'cache'}")
    before = stores()
    build(folder, *PROGRESSIVE, f"data.cache_dir={tmp_path / 'cache'}")
    assert len(before) == 1 and stores() == before


def test_the_sizes_are_told(make_folder: MakeFolder, build: Build, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folder = make_folder()
    build(folder, *RANDOM)
    assert "training pictures of" not in caplog.text
    build(folder, *PROGRESSIVE)
    assert "training pictures of 6×6 in epoch 1, 8×12 in epoch 2, 12×16 in epochs 3-4" in caplog.text


def test_one_class_only_is_told(make_folder: MakeFolder, build: Build, caplog: pytest.LogCaptureFixture) -> None:
    build(make_folder(train=2, valid=1))
    assert "one class only" not in caplog.text
    build(make_folder(train=1, valid=1))
    assert "one class only ('leaf'): there is nothing to tell apart" in caplog.text


# Classes of different size


@pytest.fixture
def unequal(write_pair: Callable[..., Path], noise: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Writes training pictures of three classes with the given numbers of them, and one for validation."""

    def make(*counts: int) -> Path:
        labels = [label for label, count in zip(("leaf", "root", "stem"), counts, strict=True) for _ in range(count)]
        rows = [f"{number:02d}.png,{label},train" for number, label in enumerate(labels)]
        folder = write_pair([*rows, f"{len(rows):02d}.png,leaf,valid"])
        for number in range(len(rows) + 1):
            Image.fromarray(noise(20, 30, seed=number)).save(folder / f"{number:02d}.png")
        return folder

    return make


def test_a_picture_that_comes_twice_in_an_epoch_is_changed_differently(
    unequal: Callable[..., Path], build: Build
) -> None:
    """The third class has one picture, for six of the eighteen places."""
    data = build(unequal(13, 4, 1), *RANDOM, "data.sampler=balanced", "data.batch_size=4")
    images, colour, labels = joined(data.train_batches(1))
    assert (labels == 2).sum() == 6
    assert len({image.numpy().tobytes() for image in images[labels == 2]}) == 6
    assert len({matrix.numpy().tobytes() for matrix in colour[labels == 2]}) == 6


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((12, 4, 2), [0.5, 1.5, 3.0]), ((1, 1, 10), [4.0, 4.0, 0.4]), ((5, 5, 5), [1.0, 1.0, 1.0])],
)
def test_class_weights(
    counts: tuple[int, ...], expected: list[float], unequal: Callable[..., Path], build: Build
) -> None:
    folder = unequal(*counts)
    weights = build(folder, *UNCHANGED, "data.class_weights=balanced").loss_weights()
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected)
    assert np.repeat(weights.numpy(), counts).mean() == pytest.approx(1)
    assert build(folder, *UNCHANGED).loss_weights().tolist() == [1, 1, 1]


# With which pixels


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_a_store_changes_nothing(
    extension: str, write_pair: Callable[..., Path], noise: Callable[..., np.ndarray], build: Build
) -> None:
    """Pictures much larger than the input, one of them a photo that stands on its side: bit for bit the same."""
    rows = [f"{n}.{extension},leaf,{'train' if n < 6 else 'valid'}" for n in range(9)]
    folder = write_pair(rows, ["leaf"])
    for number in range(9):
        exif = Image.Exif()
        exif[ORIENTATION] = 6 if number in (2, 7) else 1
        Image.fromarray(noise(150 + 9 * number, 203)).save(folder / f"{number}.{extension}", exif=exif)
    store, none = (build(folder, *RANDOM, f"data.cache={cache}") for cache in ("store", "none"))
    for read in (lambda data: data.train_batches(1), lambda data: data.valid_batches()):
        assert same(joined(read(store)), joined(read(none)))


@pytest.mark.parametrize(
    ("image_size", "center_crop", "rows", "columns"),
    [
        ("32", 0.5, slice(16, 48), slice(32, 64)),
        ("[32,32]", 0.5, slice(16, 48), slice(32, 64)),
        ("[16,24]", 0.25, slice(24, 40), slice(36, 60)),
        ("[64,16]", 1.0, slice(0, 64), slice(40, 56)),
        ("[32,48]", 0.5, slice(16, 48), slice(24, 72)),
        ("[16,96]", 1.0, slice(24, 40), slice(0, 96)),
    ],
)
def test_evaluation_sees_the_centre(
    image_size: str,
    center_crop: float,
    rows: slice,
    columns: slice,
    make_folder: MakeFolder,
    noise: Callable[..., np.ndarray],
    build: Build,
) -> None:
    folder = make_folder(train=2, valid=1, height=64, width=96)
    data = build(folder, f"data.image_size={image_size}", f"data.center_crop={center_crop}")
    batch = next(data.valid_batches())
    np.testing.assert_array_equal(batch.images[0], noise(64, 96, seed=2)[rows, columns])


COLOURS = np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 250]]], dtype=np.uint8)


def quarters(height: int, width: int, colours: np.ndarray = COLOURS) -> np.ndarray:
    """Red, green above blue, white; a black frame an eighth wide."""
    picture = colours.repeat(height // 2, axis=0).repeat(width // 2, axis=1)
    frame = np.ones((height, width), dtype=bool)
    frame[height // 8 : -(height // 8), width // 8 : -(width // 8)] = False
    picture[frame] = 0
    return picture


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_evaluation_of_a_large_picture(extension: str, write_pair: Callable[..., Path], build: Build) -> None:
    """Reduced by four, without the frame, each quarter where it belongs."""
    folder = write_pair([f"a.{extension},leaf,train", f"b.{extension},leaf,valid"], ["leaf"])
    options = {"quality": 95, "subsampling": 0} if extension == "jpg" else {}
    Image.fromarray(quarters(512, 768, COLOURS[::-1] // 2)).save(folder / f"a.{extension}", **options)
    Image.fromarray(quarters(512, 768)).save(folder / f"b.{extension}", **options)
    data = build(folder, "data.image_size=[96,144]", "data.center_crop=0.75")
    image = next(data.valid_batches()).images[0].int()
    inner = {(r, c): image[48 * r + 4 : 48 * r + 44, 72 * c + 4 : 72 * c + 68] for r in (0, 1) for c in (0, 1)}
    expected = {(0, 0): [250, 0, 0], (0, 1): [0, 250, 0], (1, 0): [0, 0, 250], (1, 1): [250, 250, 250]}
    for place, colour in expected.items():
        assert (inner[place] - torch.tensor(colour, dtype=torch.int32)).abs().max() <= 4
    assert (image[2:-2, 2:-2].sum(dim=-1) > 225).all(), "the black frame must not be seen"


@pytest.mark.parametrize(
    ("horizontal", "vertical", "change"),
    [(0, 0, lambda a: a), (1, 0, np.fliplr), (0, 1, np.flipud), (1, 1, lambda a: np.fliplr(np.flipud(a)))],
)
def test_flips(
    horizontal: int, vertical: int, change: Callable, make_folder: MakeFolder, noise: Callable, build: Build
) -> None:
    flips = [f"data.augment.horizontal_flip={horizontal}", f"data.augment.vertical_flip={vertical}"]
    data = build(make_folder(train=1, valid=1), *UNCHANGED, *flips)
    found = next(data.train_batches(1)).images[0]
    np.testing.assert_array_equal(found, change(noise(20, 30, seed=0)))


def test_random_crops_are_parts_of_the_picture(write_pair: Callable[..., Path], build: Build) -> None:
    """Red grows to the right and green downwards by 4 a pixel: the corners of a crop show where it was taken."""
    folder = write_pair(["a.png,leaf,train", "b.png,leaf,valid"], ["leaf"])
    rows, columns = np.mgrid[:64, :64] * 4
    Image.fromarray(np.stack([columns, rows, rows * 0], axis=-1).astype(np.uint8)).save(folder / "a.png")
    Image.fromarray(np.stack([rows * 0, rows, columns], axis=-1).astype(np.uint8)).save(folder / "b.png")
    limits = ["data.augment.scale=[0.2,0.5]", "data.augment.horizontal_flip=0", "data.augment.vertical_flip=0"]
    data = build(folder, "data.image_size=[32,32]", "data.center_crop=0.5", *limits)
    shares, lefts = [], []
    for epoch in range(200):
        image = next(data.train_batches(epoch)).images[0].double()
        steps = image.diff(dim=1)[:, 4:-4, 0].mean(), image.diff(dim=0)[4:-4, :, 1].mean()
        width, height = (float(step) * 32 / 4 for step in steps)
        shares.append(width * height / 64**2)
        lefts.append(float(image[:, 0, 0].mean()) / 4)
    assert 0.18 < min(shares) < 0.25 and 0.45 < max(shares) < 0.53
    assert min(lefts) < 3 and max(lefts) > 20


def test_colour_changes_reach_the_input(make_folder: MakeFolder, noise: Callable, build: Build) -> None:
    amounts = [f"data.augment.{name}=0.5" for name in ("brightness", "contrast", "saturation")]
    data = build(make_folder(train=1, valid=1), *UNCHANGED, *amounts)
    batch = next(data.train_batches(1))
    np.testing.assert_array_equal(batch.images[0], noise(20, 30, seed=0))
    assert not torch.equal(batch.colour[0], torch.eye(3, 4))
    matrix = batch.colour[0].numpy().astype(float)
    changed = np.clip(batch.images[0].numpy() / 255 @ matrix[:, :3].T + matrix[:, 3], 0, 1)
    expected = (changed - data.normalize.mean.numpy()) / data.normalize.std.numpy()
    np.testing.assert_allclose(data.to_input(batch, torch.float32)[0].permute(1, 2, 0), expected, atol=2e-6)


def test_shift_rotation_erasing_and_mixing_reach_the_input(make_folder: MakeFolder, build: Build) -> None:
    """In this order: shifted and rotated on its own, normalised, erased in part, mixed."""
    changes = ["data.augment.rotation=40", "data.augment.mixup=0.5", "data.augment.cutmix=1", "data.augment.shift=0.2"]
    changes += ["data.augment.erase=0.5"]
    data = build(make_folder(), *UNCHANGED, *changes)
    batch = data.first_train_batch()
    turned = rotated(shifted(batch.images, batch.shifts), batch.angles)
    assert not torch.equal(turned, rotated(batch.images, batch.angles))
    alone = data.normalize(turned, batch.colour, torch.float32)
    found = data.to_input(batch, torch.float32)
    rest = erased(alone, batch.holes)
    assert torch.equal(found, mixed(rest, batch.mixing))
    assert not torch.equal(found, rest) and not torch.equal(rest, alone)
    assert not torch.equal(alone, data.normalize(batch.images, batch.colour, torch.float32))
    targets = data.targets(batch)
    assert targets.shape == (14, 3) and torch.equal(targets, batch.targets(3))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(14))


def test_validation_is_neither_moved_nor_erased_nor_mixed(make_folder: MakeFolder, build: Build) -> None:
    changes = ["data.augment.rotation=40", "data.augment.mixup=0.5", "data.augment.cutmix=1", "data.augment.shift=0.2"]
    changes += ["data.augment.erase=1"]
    data = build(make_folder(), *RANDOM, *changes)
    batch = next(data.valid_batches())
    assert [batch.angles, batch.shifts, batch.holes, batch.mixing] == [None] * 4
    assert data.targets(batch).tolist() == torch.eye(3)[batch.labels].tolist()


def test_input_of_the_model(make_folder: MakeFolder, build: Build) -> None:
    data = build(make_folder(), "data.image_size=[12,16]", "data.batch_size=4")
    batch = next(data.train_batches(1))
    assert (batch.images.shape, batch.images.dtype) == ((4, 12, 16, 3), torch.uint8)
    images = data.to_input(batch, torch.bfloat16)
    assert (images.shape, images.dtype) == ((4, 3, 12, 16), torch.bfloat16)


def test_preprocessing_is_plain(make_folder: MakeFolder, build: Build) -> None:
    assert build(make_folder()).preprocessing() == {
        "image_size": [224, 224],
        "center_crop": 0.875,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    found = build(make_folder(), "data.image_size=[12,16]", "data.mean=[0,0.5,1]").preprocessing()
    assert found["image_size"] == [12, 16] and type(found["image_size"]) is list
    assert found["mean"] == [0, 0.5, 1] and type(found["mean"]) is list


# What identifies it


FILES = range(6)


@pytest.fixture
def write_table(noise: Callable[..., np.ndarray], tmp_path: Path) -> Callable[..., Path]:
    """Writes six pictures and the pair, in the folder of that name; `rows` are the number and the label of each row."""

    def write(
        name: str = "photos", *, rows: Sequence[tuple[int, str]], labels: str = "leaf root", names: str = "{}.png"
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for number in FILES:
            Image.fromarray(noise(20, 30, seed=number)).save(folder / names.format(number))
        lines = [f"{names.format(number)},{label},{'train' if number < 4 else 'valid'}" for number, label in rows]
        (folder / "metadata.csv").write_text("\n".join(["path,label,split", *lines, ""]))
        write_json(folder / "label2id.json", {label: index for index, label in enumerate(labels.split())})
        return folder

    return write


ROWS = [(0, "leaf"), (1, "root"), (2, "leaf"), (3, "root"), (4, "leaf"), (5, "root")]


@pytest.fixture
def expected(write_table: Callable[..., Path], build: Build) -> dict[str, str]:
    return build(write_table(rows=ROWS), *UNCHANGED).fingerprint()


def test_the_same_content_elsewhere_has_the_same_fingerprint(
    expected: dict[str, str], write_table: Callable[..., Path], build: Build, tmp_path: Path
) -> None:
    """In other files, with other settings."""
    folder = write_table("moved", rows=ROWS, names="other{}.png")
    settings = ["data.cache=none", f"data.cache_dir={tmp_path / 'cache'}", "data.batch_size=2", "seed=7"]
    assert build(folder, *settings).fingerprint() == expected
    assert list(expected) == ["train", "valid"]
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in expected.values())
    assert expected["train"] != expected["valid"]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"rows": [(1, "root"), (0, "leaf"), *ROWS[2:]]}, {"train"}),
        ({"rows": [*ROWS[:4], (5, "root"), (4, "leaf")]}, {"valid"}),
        ({"rows": [*ROWS[1:]]}, {"train"}),
        ({"rows": [*ROWS[:-1]]}, {"valid"}),
        ({"rows": [*ROWS[:3], *ROWS[2:]]}, {"train"}),
        ({"rows": [*ROWS[:3], (3, "leaf"), *ROWS[4:]]}, {"train"}),
        ({"rows": [*ROWS[:5], (5, "leaf")]}, {"valid"}),
        (
            {"rows": [(number, label.replace("root", "stem")) for number, label in ROWS], "labels": "leaf stem"},
            {"train", "valid"},
        ),
        ({"rows": ROWS, "labels": "root leaf"}, {"train", "valid"}),
        ({"rows": [ROWS[2], ROWS[1], ROWS[0], *ROWS[3:]]}, {"train"}),
        ({"rows": [(0, "root"), (1, "leaf"), *ROWS[2:]]}, {"train"}),
        (
            {
                "rows": [(number, {"leaf": "root", "root": "leaf"}[label]) for number, label in ROWS],
                "labels": "root leaf",
            },
            {"train", "valid"},
        ),
    ],
    ids=[
        "order",
        "order of valid",
        "less",
        "less of valid",
        "twice",
        "label",
        "label of valid",
        "name",
        "classes",
        "order of a class",
        "two labels",
        "all labels and classes",
    ],
)
def test_another_table_has_another_fingerprint(
    change: dict[str, Any],
    changed: set[str],
    expected: dict[str, str],
    write_table: Callable[..., Path],
    build: Build,
) -> None:
    found = build(write_table("other", **change), *UNCHANGED).fingerprint()
    assert {split for split in expected if found[split] != expected[split]} == changed


@pytest.mark.parametrize(("number", "changed"), [(2, {"train"}), (5, {"valid"})])
@pytest.mark.parametrize("cache", ["store", "none"])
def test_a_byte_of_a_picture_changes_the_fingerprint(
    number: int,
    changed: set[str],
    cache: str,
    expected: dict[str, str],
    write_table: Callable[..., Path],
    build: Build,
) -> None:
    """Also one that no decoder looks at."""
    folder = write_table("other", rows=ROWS)
    with (folder / f"{number}.png").open("ab") as stream:
        stream.write(b"0")
    found = build(folder, *UNCHANGED, f"data.cache={cache}").fingerprint()
    assert {split for split in expected if found[split] != expected[split]} == changed


@pytest.mark.parametrize("cache", ["store", "none"])
def test_the_fingerprint_is_of_the_rows_in_use(cache: str, write_table: Callable[..., Path], build: Build) -> None:
    folder = write_table(rows=ROWS)
    (folder / "1.png").write_text("no picture")
    found = build(folder, *UNCHANGED, f"data.cache={cache}", "data.on_bad_image=skip").fingerprint()
    rest = write_table("rest", rows=[ROWS[0], *ROWS[2:]])
    assert found == build(rest, *UNCHANGED).fingerprint()
    limited = build(rest, *UNCHANGED, "data.train_limit=2").fingerprint()
    assert limited["train"] != found["train"] and limited["valid"] == found["valid"]


# What is refused


def test_nothing_is_read_before_setup() -> None:
    data = MetadataImages(**settings())
    with pytest.raises(InputError, match=r"data\.metadata=nowhere/metadata\.csv: no such file") as caught:
        data.setup()
    first, second = caught.value.faults
    assert second.where == "data.label2id=nowhere/label2id.json", "a run that is continued has both elsewhere"
    assert first.hint.endswith("; or say where yours is: data.metadata=<file>")


def test_bad_pictures_are_told_before_training(make_folder: MakeFolder, build: Build) -> None:
    folder = make_folder(train=4, valid=2)
    (folder / "02.png").unlink()
    (folder / "05.png").write_text("no picture")
    with pytest.raises(InputError) as error:
        build(folder)
    text = str(error.value)
    assert text.startswith(f"error: unusable images in data.metadata={folder / 'metadata.csv'}: 2 of them\n")
    assert "line 4 '02.png': no such file" in text and "line 7 '05.png': is none of" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 0}, "image_size: expected .*, got 0"),
        ({"image_size": (12, 16, 3)}, "image_size: expected"),
        ({"image_size": True}, "image_size: expected .*, got True"),
        ({"image_size": 12.5}, "image_size: expected .*, got 12.5"),
        ({"progressive": 12}, "progressive: expected a list of .*, got 12"),
        ({"progressive": [12, 0]}, "progressive: expected .*, got 0"),
        ({"progressive": [(12, 16, 3)]}, "progressive: expected"),
        ({"progressive": [12, 225]}, r"data\.progressive=\[12,225\]: 225×225 is larger than .*, 224×224"),
        ({"num_epochs": 0}, "num_epochs: must be >= 1, got 0"),
        ({"center_crop": 0}, "center_crop: must be .*, got 0"),
        ({"center_crop": 1.5}, "center_crop: must be .*, got 1.5"),
        ({"mean": (0.5, 0.5)}, "mean: expected .*, got 2 values"),
        ({"mean": (124, 116, 104)}, "mean: must be >= 0 and <= 1, got 124"),
        ({"std": (0.0, 0.2, 0.2)}, "std: must be > 0, got 0.0"),
        ({"batch_size": 0}, "batch_size: must be >= 1, got 0"),
        ({"batch_size": "auto"}, "batch_size: expected an integer, got 'auto'"),
        ({"num_workers": -1}, "num_workers: expected .*, got -1"),
        ({"num_workers": "many"}, "num_workers: expected .* or auto, got 'many'"),
        ({"pin_memory": "yes"}, "pin_memory: expected true or false or auto, got 'yes'"),
        ({"train_limit": 0}, "train_limit: expected .* or null, got 0"),
        ({"valid_limit": 1.5}, "valid_limit: expected .* or null, got 1.5"),
        ({"fold": -1}, "fold: expected .* or null, got -1"),
        ({"on_bad_image": "ignore"}, "on_bad_image: expected error or skip, got 'ignore'"),
        ({"on_leak": True}, "on_leak: expected error or skip or keep, got True"),
        ({"cache": "memory"}, "cache: expected store or none, got 'memory'"),
        ({"cache_dir": 3}, "cache_dir: expected text or null, got 3"),
        ({"resident": "always"}, "resident: expected true or false or auto, got 'always'"),
        ({"sampler": "random"}, "sampler: expected shuffle or balanced, got 'random'"),
        ({"class_weights": (1.0, 2.0, 3.0)}, "class_weights: expected none or balanced, got"),
        (
            {"sampler": "balanced", "class_weights": "balanced"},
            r"would make up for rare classes twice; set data\.class_",
        ),
        ({"seed": -1}, "seed: must be >= 0 and <= 9223372036854775807, got -1"),
        ({"seed": -1, "batch_size": 0}, "batch_size: .*; seed: "),
    ],
)
def test_wrong_setting_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetadataImages(**settings(**change))


def test_constructor_has_no_defaults() -> None:
    """Defaults live in conf/data/metadata.yaml only."""
    with pytest.raises(TypeError, match="missing a required .*argument: 'seed'"):
        MetadataImages(**{name: value for name, value in settings().items() if name != "seed"})


def test_cache_is_the_users_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert MetadataImages(**settings()).cache_dir == tmp_path / "cache" / "hybridnet"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert MetadataImages(**settings(cache_dir="~/mine")).cache_dir == tmp_path / "mine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert MetadataImages(**settings()).cache_dir == tmp_path / ".cache" / "hybridnet"


@pytest.mark.parametrize("asked", [True, False, "auto"])
def test_memory_is_pinned_only_for_a_gpu(asked: bool | str, monkeypatch: pytest.MonkeyPatch) -> None:
    for has_gpu in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        assert MetadataImages(**settings(pin_memory=asked)).pin_memory is (bool(asked) and has_gpu)


# Several processes


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("num_ranks", [2, 3, 5])
def test_the_parts_of_all_processes_are_the_batches_of_one(
    num_ranks: int, resident: bool, make_folder: MakeFolder, build: Build
) -> None:
    """Pixels, targets and weights, mixed with the same partners; the last batch has fewer pictures than processes."""
    changes = ["data.augment.mixup=0.5", "data.augment.cutmix=1", "data.augment.rotation=20"]
    folder = make_folder(train=16, valid=9)
    options = [*RANDOM, *changes, "data.batch_size=7", f"data.resident={str(resident).lower()}"]
    whole, parts = build(folder, *options), [build(folder, *options) for _ in range(num_ranks)]
    for rank, part in enumerate(parts):
        part.setup(rank=rank, num_ranks=num_ranks)
        assert part.steps_per_epoch == whole.steps_per_epoch == 3

    def rows(data: MetadataImages, batch: Batch) -> set[bytes]:
        pixels, targets = data.to_input(batch, torch.float32), data.targets(batch)
        return {
            image.numpy().tobytes() + target.numpy().tobytes() for image, target in zip(pixels, targets, strict=True)
        }

    for first in (0, 1):
        epochs = [list(data.train_batches(2, first=first)) for data in (whole, *parts)]
        for batch, *shares in zip(*epochs, strict=True):
            expected = rows(whole, batch)
            found = [rows(data, share) for data, share in zip(parts, shares, strict=True)]
            assert set.union(*found) == expected and sum(map(len, found)) == len(expected) == len(batch)
            assert {share.num_images for share in shares} == {len(batch)}
    validated = sorted(label for data in parts for batch in data.valid_batches() for label in batch.labels.tolist())
    assert validated == sorted(whole.valid.labels.tolist())
    assert torch.equal(parts[1].first_train_batch().labels, whole.first_train_batch().labels), "for people: all of it"
