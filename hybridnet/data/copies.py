"""Which pictures are one picture: the same file, or the same encoded anew, in another size, rotated or mirrored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

THUMBNAIL = 32
GRID = 16  # cells per side that are compared: half as fine as the thumbnail, which averages a JPEG's noise away
COARSE = 8  # frequencies per side and colour that pick the candidates
# Chosen by measurement. Of copies as PNG or as JPEG and WebP of quality 30 to 95, at 1/4 to 2 times the size, in all
# eight views, these are found: of 69 rice photos (300×300) all, except 98.6 % at 75 pixels and quality 30; of 400
# pictures of CIFAR-10 (32×32) at the same or double size 99 % and more, except 83 to 93 % at 32 pixels and quality 30
# to 50, where the JPEG is what one sees. At 16 pixels half of them are lost. What is found without being a copy: in 552
# rice photos nothing (the nearest others, shots of one leaf in a row: similarity 0.983, difference 11), in the 1,797
# digits nothing (71 pairs are more similar than 0.98, all with a difference above 9), in CIFAR-10's 60,000 pictures 47
# pairs and a triple, none across classes, all one photo by eye. Below 0.975 CIFAR-10 has different ships on one sea.
LEAST_SIMILARITY = 0.98
MOST_DIFFERENCE = 8.0  # grey levels
MOST_SHIFT = 16.0
FLAT = 2.0
BLOCK = 256  # pictures whose similarity to all others is held at once: 60 MB at 60,000 pictures


def thumbnail(image: Image.Image) -> np.ndarray:
    """The picture averaged into 32×32 cells, whatever its shape: about 0.1 ms for a small photo.

    The weights of the average form a triangle. Pillow's box takes whole pixels only, so that a rotated picture's cells
    would hold other pixels (2.6 grey levels of difference on 300×300 photos, with the triangle none). Pixels of a
    small picture are cut into smaller ones first, so that one of 32 pixels is blurred as one of 64.

    Args:
        image: RGB.

    Returns:
        uint8 array (32, 32, 3).
    """
    width, height = image.size
    least = 4 * THUMBNAIL
    if min(width, height) < least:
        finer = (width * -(-least // width), height * -(-least // height))
        image = image.resize(finer, Image.Resampling.NEAREST)
    return np.array(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=3.0))


def find_copies(thumbnails: np.ndarray, digests: Sequence[bytes], *, similar: bool = True) -> np.ndarray:
    """Number the groups of copies.

    Two pictures are copies if their files or thumbnails are the same, or if for one of the eight rotations and
    reflections both hold, on 16×16 cells without each colour's mean: the correlation of the two is at least 0.98, and
    their difference is at most 8 grey levels (root mean square); the means may differ by 16. Copies of copies are
    copies. A flat picture, with less than 2 grey levels of contrast, has no shape to compare: only the same file, or
    the same thumbnail, rotated or not, makes it a copy.

    Args:
        thumbnails: uint8 (N, 32, 32, 3), from `thumbnail`.
        digests: of the N files' bytes.
        similar: False counts only the same files and thumbnails: for pictures that are meant to look alike, such as
            parts before one camera or pages of text, of which 16×16 cells do not show the difference.

    Returns:
        int64 (N,): groups are numbered 0, 1, … by their first member; a picture without copies has its own.
    """
    groups = np.arange(len(thumbnails))  # the first member of each picture's group
    first: dict[bytes, int] = {}
    for number, (pixels, digest) in enumerate(zip(thumbnails, digests, strict=True)):
        for key in (b"file" + digest, _key(pixels)):
            _merge(groups, number, first.setdefault(key, number))
    if not similar:
        return np.unique(groups, return_inverse=True)[1].astype(np.int64)
    distinct = np.flatnonzero(groups == np.arange(len(groups)))
    shapes = _Shapes(thumbnails, distinct)
    # Of those that have a shape it finds the rotated ones; where one just has one, rounding decides about its views.
    for number in distinct[shapes.contrasts < FLAT + 0.1]:
        key = min(map(_key, _views(thumbnails[number])))
        _merge(groups, number, first.setdefault(b"view" + key, number))
    for one, others in shapes.candidates():
        others = others[groups[distinct[others]] != groups[distinct[one]]]
        for other in others[shapes.are_copies(one, others)]:
            _merge(groups, distinct[one], distinct[other])
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def find_turned(thumbnails: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Whether each picture is rotated or mirrored against the first one of its group: bool (N,)."""
    first = np.unique(groups, return_index=True)[1][groups]
    turned = np.zeros(len(groups), dtype=bool)
    for number in np.flatnonzero(first != np.arange(len(groups))):
        pixels = thumbnails[first[number]].astype(np.int16)
        distances = [np.abs(view - pixels).sum() for view in _views(thumbnails[number])]
        turned[number] = np.argmin(distances) > 0  # the view as it is comes first
    return turned


def _views(pixels: np.ndarray) -> list[np.ndarray]:
    """The square picture rotated and mirrored in all eight ways, first as it is."""
    flipped = [view[::step] for view in (pixels, pixels.swapaxes(0, 1)) for step in (1, -1)]
    return [view[:, ::step] for view in flipped for step in (1, -1)]


def _key(pixels: np.ndarray) -> bytes:
    return b"pixels" + hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()


def _merge(groups: np.ndarray, one: int, other: int) -> None:
    low, high = sorted((groups[one], groups[other]))
    if low != high:
        groups[groups == high] = low


def _square_sums(rows: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", rows, rows)  # without a second array of their size


class _Shapes:
    """Thumbnails without their mean colour and contrast, which are kept beside them.

    Args:
        thumbnails: uint8 (M, 32, 32, 3).
        chosen: indices of the N that are meant, which are not copied all at once.

    Attributes:
        units: float32 (N, 16·16·3), each of mean 0 per colour and of norm 1; 0 where the picture is flat.
        contrasts: (N,), grey levels, root mean square over cells and colours.
        means: (N, 3), grey levels.
    """

    def __init__(self, thumbnails: np.ndarray, chosen: np.ndarray) -> None:
        cell = THUMBNAIL // GRID
        cells = np.empty((len(chosen), GRID, GRID, 3), dtype=np.float32)
        for start in range(0, len(cells), BLOCK):
            part = thumbnails[chosen[start : start + BLOCK]].astype(np.float32)
            # Not as a mean over two axes, which takes five times as long.
            total = sum(part[:, row::cell, column::cell] for row in range(cell) for column in range(cell))
            cells[start : start + BLOCK] = total / cell**2
        self.means = cells.mean((1, 2))
        cells -= self.means[:, None, None]
        self.units = cells.reshape(len(cells), GRID * GRID * 3)
        self.contrasts = np.sqrt(_square_sums(self.units) / self.units.shape[1])
        is_flat = self.contrasts < FLAT
        self.units /= np.where(is_flat, np.inf, self.contrasts)[:, None] * np.float32(np.sqrt(self.units.shape[1]))

    def candidates(self) -> Iterator[tuple[int, np.ndarray]]:
        """For each picture the later ones that may be its copies: none is missed.

        The signatures' distance is at most that of the two pictures, for every rotation and reflection, and both have
        norm 1: the signatures' correlation is an upper bound of the pictures'.
        """
        signatures = self._signatures()
        rounding = 1e-4  # of float32
        least = LEAST_SIMILARITY - rounding
        for start in range(0, len(signatures), BLOCK):
            block = signatures[start : start + BLOCK]
            bounds = block @ signatures[start:].T
            bounds[np.tril_indices(len(block))] = 0
            for row in np.flatnonzero(bounds.max(axis=1) >= least):
                later = np.flatnonzero(bounds[row] >= least)
                may_be = self._are_close(start + row, start + later, bounds[row, later] + rounding)
                yield start + row, start + later[may_be]

    def are_copies(self, one: int, others: np.ndarray) -> np.ndarray:
        """Whether each of `others` is a copy of `one`."""
        grid = self.units[one].reshape(GRID, GRID, 3)
        similarity = (self.units[others] @ np.stack([view.ravel() for view in _views(grid)]).T).max(axis=1)
        return self._are_close(one, others, similarity)

    def _are_close(self, one: int, others: np.ndarray, similarity: np.ndarray) -> np.ndarray:
        a, b = self.contrasts[one], self.contrasts[others]
        difference = a**2 + b**2 - 2 * a * b * similarity  # mean squares
        shift = np.square(self.means[one] - self.means[others]).mean(axis=1)
        is_close = (difference <= MOST_DIFFERENCE**2) & (shift <= MOST_SHIFT**2)
        return is_close & (similarity >= LEAST_SIMILARITY)

    def _signatures(self) -> np.ndarray:
        """What no rotation or reflection changes, (N, 109).

        In a picture's cosine transform a reflection changes signs and a transposition swaps the frequencies (u, v) and
        (v, u), in all colours alike: √(C_uv² + C_vu²) stays, and so does the norm of the frequencies left out.
        """
        frequency, position = np.arange(COARSE)[:, None], np.arange(GRID)
        basis = np.cos(np.pi * frequency * (position + 0.5) / GRID) * np.sqrt(2 / GRID)
        basis[0] /= np.sqrt(2)  # orthonormal
        basis = basis.astype(np.float32)
        upper = np.triu_indices(COARSE)
        weights = np.where(upper[0] == upper[1], np.float32(0.5), np.float32(1))[
            :, None
        ]  # C_uu stands twice in the sum
        found = np.empty((len(self.units), len(upper[0]) * 3 + 1), dtype=np.float32)
        for start in range(0, len(found), BLOCK):
            grids = self.units[start : start + BLOCK].reshape(-1, GRID, GRID, 3)
            energy = np.square(np.einsum("ui,vj,nijc->nuvc", basis, basis, grids, optimize=True))
            pairs = (energy + energy.swapaxes(1, 2))[:, upper[0], upper[1]] * weights
            found[start : start + BLOCK, :-1] = np.sqrt(pairs).reshape(len(grids), -1)
        found[:, -1] = np.sqrt(np.maximum(_square_sums(self.units) - _square_sums(found[:, :-1]), 0))
        return found
