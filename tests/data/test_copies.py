from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hybridnet.data.copies import _Shapes, find_copies, find_turned, thumbnail

Transpose = Image.Transpose


def scene(number: int, *, width: int = 96, height: int = 64) -> Image.Image:
    """Blobs of colour with some grain, as a photo has them; no two numbers alike, none symmetric."""
    rng = np.random.default_rng(number)
    blobs = Image.fromarray(rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)).resize((width, height))
    grain = rng.normal(scale=6, size=(height, width, 3))
    return Image.fromarray(np.clip(np.asarray(blobs) + grain, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **settings: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return Image.open(stream).convert("RGB")


def group(*images: Image.Image) -> list[int]:
    """The groups of pictures whose files all differ."""
    thumbnails = np.stack([thumbnail(image) for image in images])
    return find_copies(thumbnails, [bytes([n]) for n in range(len(images))]).tolist()


def flat(thumbnails: np.ndarray) -> list[bytes]:
    return [str(n).encode() for n in range(len(thumbnails))]


def all_shapes(thumbnails: np.ndarray) -> _Shapes:
    return _Shapes(thumbnails, np.arange(len(thumbnails)))


def test_all_views_are_one_picture() -> None:
    views = [scene(0), *(scene(0).transpose(method) for method in Transpose)]
    assert group(*views) == [0] * 8
    for one in views:
        for other in views:
            assert group(one, scene(1), other) == [0, 1, 0]


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.7, 1, 2])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 50}),
        ("JPEG", {"quality": 30}),
        ("WEBP", {"quality": 50}),
    ],
)
def test_encoded_anew_and_resized(kind: str, settings: dict[str, int], scale: float) -> None:
    methods = [None, *Transpose]
    for number, method in enumerate(methods):
        original = scene(number, width=320, height=240)
        copy = original.resize((round(320 * scale), round(240 * scale)))
        copy = copy if method is None else copy.transpose(method)
        assert group(original, encoded(copy, kind, **settings)) == [0, 0]


@pytest.mark.parametrize(("width", "height"), [(96, 64), (31, 67), (8, 8), (1, 300), (333, 5), (1201, 907)])
def test_thumbnail_turns_with_the_picture(width: int, height: int) -> None:
    found = thumbnail(scene(0, width=width, height=height)).astype(int)
    assert found.shape == (32, 32, 3) and thumbnail(scene(0)).dtype == np.uint8
    for method, turned in ((Transpose.ROTATE_90, np.rot90(found)), (Transpose.FLIP_LEFT_RIGHT, found[:, ::-1])):
        other = thumbnail(scene(0, width=width, height=height).transpose(method))
        assert np.abs(other - turned).max() <= 4 and np.abs(other - turned).mean() < 0.7


def test_thumbnail_is_the_average() -> None:
    """Of a black picture with one white quarter, each cell away from the edges holds its colour."""
    pixels = np.zeros((640, 320, 3), dtype=np.uint8)
    pixels[:320, :160] = (255, 100, 50)
    found = thumbnail(Image.fromarray(pixels))
    assert (found[:15, :15] == (255, 100, 50)).all() and (found[17:] == 0).all() and (found[:, 17:] == 0).all()
    assert np.abs(found.mean((0, 1)) - np.array([255, 100, 50]) / 4).max() < 1


def test_small_picture_is_blurred_as_if_its_pixels_were_squares() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 32, 3)).astype(np.uint8)
    larger = [pixels.repeat(times, 0).repeat(times, 1) for times in (1, 2, 5)]
    found = [thumbnail(Image.fromarray(picture)).astype(int) for picture in larger]
    assert max(np.abs(other - found[0]).max() for other in found[1:]) <= 5
    assert max(np.abs(other - found[0]).mean() for other in found[1:]) < 1


def test_different_pictures_stay_apart() -> None:
    assert group(*(scene(number) for number in range(60))) == list(range(60))


def test_one_colour_of_three_is_not_enough() -> None:
    """The same green channel, other red and blue."""
    one, other = np.asarray(scene(0)).copy(), np.asarray(scene(1))
    one[..., 1] = other[..., 1]
    assert group(Image.fromarray(one), scene(1)) == [0, 1]


def test_the_same_view_is_asked_of_all_colours() -> None:
    """Each channel is a copy of the other's, but mirrored in one of them only."""
    pixels = np.asarray(scene(0)).copy()
    pixels[..., 0] = pixels[:, ::-1, 0]
    assert group(scene(0), Image.fromarray(pixels)) == [0, 1]


def test_the_inverted_picture_is_no_copy() -> None:
    assert group(scene(0), Image.fromarray(255 - np.asarray(scene(0)))) == [0, 1]


def test_same_layout_with_other_details_is_no_copy() -> None:
    """Two different things before one strong background: similar above 0.98, but by more than 8 grey levels apart."""
    ground = np.where(np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) < 0.9, 240, 0)[..., None]
    details = [np.random.default_rng(n).normal(scale=12, size=(16, 16, 1)).repeat(4, 0).repeat(4, 1) for n in (0, 1)]
    shapes = [Image.fromarray(np.clip(ground * 0.8 + 30 + d, 0, 255).astype(np.uint8).repeat(3, 2)) for d in details]
    units = all_shapes(np.stack([thumbnail(shape) for shape in shapes])).units
    assert units[0] @ units[1] > 0.98
    assert group(*shapes) == [0, 1]


def test_weak_contrast_of_another_shape_is_no_copy() -> None:
    """Within 8 grey levels of each other, but not similar."""
    mixed = Image.blend(scene(0), scene(1), 0.4)
    pale = [Image.fromarray((np.asarray(image) // 16 + 100).astype(np.uint8)) for image in (scene(0), mixed)]
    units = all_shapes(np.stack([thumbnail(image) for image in pale])).units
    assert 0.7 < units[0] @ units[1] < 0.95
    assert group(*pale, pale[0].transpose(Transpose.ROTATE_90)) == [0, 1, 0]


def test_signatures_are_bounds() -> None:
    """Of norm 1, the same in all views, and correlated at least as much as two pictures are in any view."""
    thumbnails = np.stack(
        [thumbnail(scene(n)) for n in range(10)] + [thumbnail(scene(0).transpose(m)) for m in Transpose]
    )
    shapes = all_shapes(thumbnails)
    signatures = shapes._signatures()
    assert np.allclose(np.linalg.norm(signatures, axis=1), 1, atol=1e-5)
    assert np.allclose(signatures[10:] @ signatures[0], 1, atol=1e-3)
    assert (signatures @ signatures.T > shapes.units @ shapes.units.T - 1e-5).all()
    assert (signatures[:10] @ signatures[:10].T - np.eye(10)).max() < 0.97


def test_brightness_far_away_is_no_copy() -> None:
    pixels = np.asarray(scene(0)) // 2
    assert group(Image.fromarray(pixels), Image.fromarray(pixels + 10)) == [0, 0]
    assert group(Image.fromarray(pixels), Image.fromarray(pixels + 30)) == [0, 1]


def test_flat_pictures_are_copies_only_if_the_same() -> None:
    pixels = np.full((64, 64, 3), 100, dtype=np.uint8)
    pixels[:10, :20] = 101
    same = [Image.fromarray(np.full((64, 64, 3), level, dtype=np.uint8)) for level in (100, 101, 100, 102)]
    weak = [Image.fromarray(pixels), Image.fromarray(pixels.swapaxes(0, 1)), Image.fromarray(pixels + 1)]
    assert group(*same, *weak) == [0, 1, 0, 2, 3, 3, 4]


def test_a_picture_that_is_hardly_flat_is_a_copy_of_its_views() -> None:
    """At a contrast of 2 grey levels, where the comparison of shapes begins."""
    contrasts = []
    for width in range(6, 30, 2):
        pixels = np.full((32, 32, 3), 100, dtype=np.uint8)
        pixels[:10, :width] = 105
        contrasts += all_shapes(pixels[None]).contrasts.tolist()
        views = np.stack([pixels, np.rot90(pixels), pixels[::-1]])
        assert find_copies(views, flat(views)).tolist() == [0, 0, 0], width
    assert min(contrasts) < 1.5 and max(contrasts) > 2.2 and np.diff(contrasts).max() < 0.25


@pytest.mark.parametrize(("similarity", "groups"), [(0.9815, [0, 0]), (0.9785, [0, 1])])
def test_no_pair_is_missed_of_which_the_bound_is_all(similarity: float, groups: list[int]) -> None:
    """The signatures of two pictures of low frequencies are as similar as the pictures."""
    wave, finer = (40 * np.cos(np.pi * n * (np.arange(32) + 0.5) / 32) for n in (1, 2))
    other = similarity * wave + np.sqrt(1 - similarity**2) * finer
    pictures = np.stack([np.broadcast_to(128 + row[:, None], (32, 32, 3)) for row in (wave, other)])
    thumbnails = pictures.round().astype(np.uint8)
    shapes = all_shapes(thumbnails)
    signatures = shapes._signatures()
    assert signatures[0] @ signatures[1] == pytest.approx(similarity, abs=1e-3)
    assert find_copies(thumbnails, flat(thumbnails)).tolist() == groups


def test_same_bytes_are_copies_whatever_the_pixels() -> None:
    thumbnails = np.stack([thumbnail(scene(n)) for n in range(4)])
    assert find_copies(thumbnails, [b"a", b"b", b"a", b"c"]).tolist() == [0, 1, 0, 2]


def chain() -> list[np.ndarray]:
    """Three thumbnails of which only neighbours are copies."""
    return [np.clip(thumbnail(scene(0)) // 2 + shift, 0, 255).astype(np.uint8) for shift in (0, 14, 28)]


def test_copies_of_copies_are_copies() -> None:
    a, b, c = chain()
    assert find_copies(np.stack([a, c]), [b"a", b"c"]).tolist() == [0, 1]
    for order in ([a, b, c], [a, c, b], [b, a, c]):
        assert find_copies(np.stack(order), [b"1", b"2", b"3"]).tolist() == [0, 0, 0]


def test_numbers_follow_the_first_member_and_the_order_changes_nothing_else() -> None:
    pictures = [scene(n).transpose(m) for n in range(12) for m in list(Transpose)[: n % 4 + 1]]
    numbers = [n for n in range(12) for _ in range(n % 4 + 1)]
    thumbnails = np.stack([thumbnail(picture) for picture in pictures])
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(pictures))
        found = find_copies(thumbnails[order], flat(thumbnails))
        assert found.dtype == np.int64
        first: dict[int, int] = {}
        assert found.tolist() == [first.setdefault(numbers[n], len(first)) for n in order]


def test_no_pictures_and_one() -> None:
    assert find_copies(np.empty((0, 32, 32, 3), dtype=np.uint8), []).tolist() == []
    assert group(scene(0)) == [0]


def test_every_pair_is_found_that_a_full_search_finds() -> None:
    """The signatures' bound holds: noise of growing strength on turned pictures, at the edge of being a copy."""
    rng = np.random.default_rng(0)
    base = [thumbnail(scene(number)) for number in range(20)]
    turned = [np.rot90(b, n % 4)[:, :: 1 - n % 2 * 2] for n, b in enumerate(base * 6)]
    noisy = [np.clip(t + rng.normal(scale=0.3 * n, size=t.shape), 0, 255) for n, t in enumerate(turned)]
    thumbnails = np.stack([*base, *noisy]).astype(np.uint8)
    shapes = all_shapes(thumbnails)
    found = {(one, other) for one, others in shapes.candidates() for other in others[shapes.are_copies(one, others)]}
    everything = np.arange(len(thumbnails))
    expected = {(a, b) for a in everything for b in everything[a + 1 :][shapes.are_copies(a, everything[a + 1 :])]}
    assert found == expected
    assert len(base) < len(expected) < len(noisy) * 7


def test_candidates_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridnet.data.copies.BLOCK", 7)
    turned = [encoded(scene(number).transpose(Transpose.ROTATE_90), "JPEG", quality=60) for number in range(20)]
    assert group(*(scene(number) for number in range(20)), *turned) == [*range(20), *range(20)]


@pytest.mark.parametrize("grain", [1, 3])
def test_thousands_of_copies_of_one_picture(grain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same or nearly the same: no pair is compared that others have joined already."""
    compared = []
    are_copies = _Shapes.are_copies

    def counting(shapes: _Shapes, one: int, others: np.ndarray) -> np.ndarray:
        compared.append(len(others))
        return are_copies(shapes, one, others)

    monkeypatch.setattr(_Shapes, "are_copies", counting)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, grain, (3000, 32, 32, 3)).astype(np.uint8)
    thumbnails = np.concatenate([thumbnail(scene(0))[None] // 2 + noise, thumbnail(scene(1))[None]])
    assert find_copies(thumbnails, flat(thumbnails)).tolist() == [0] * 3000 + [1]
    assert sum(compared) <= 3000


def test_turned_against_the_first_of_the_group() -> None:
    pictures = [scene(0), scene(1), scene(0).transpose(Transpose.FLIP_TOP_BOTTOM), encoded(scene(0), "JPEG"), scene(1)]
    thumbnails = np.stack([thumbnail(picture) for picture in pictures])
    assert find_turned(thumbnails, np.array([0, 1, 0, 0, 1])).tolist() == [False, False, True, False, False]
