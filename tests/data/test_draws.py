"""Numbers that look random, and depend on nothing but what they are for."""

from __future__ import annotations

import numpy as np
import pytest

from hybridnet.data.draws import uniforms

GOLDEN, WORD = 0x9E3779B97F4A7C15, 2**64 - 1


def draw(samples: int | np.ndarray, *, seed: int = 3, epoch: int = 1, repeat: int = 0, num: int = 5) -> np.ndarray:
    samples = np.atleast_1d(samples)
    return uniforms(seed, epoch, samples, np.full_like(samples, repeat), num=num)


def output(state: int) -> int:
    """SplitMix64's, in Python's integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & WORD
    return state ^ (state >> 31)


def test_the_output_function_is_splitmix64s() -> None:
    """Keeps the reference honest: the first numbers with seed 1234567 that its authors' C code gives."""
    assert output(1234567 + GOLDEN) == 6457827717110365317
    assert output((1234567 + 2 * GOLDEN) & WORD) == 3203168211198807973


@pytest.mark.parametrize(
    ("seed", "epoch", "sample", "repeat"), [(0, 0, 0, 0), (42, 3, 17, 2), (2**31, 900, 10**7, 5), (2**64 - 1, 1, 0, 0)]
)
def test_equals_python_integers(seed: int, epoch: int, sample: int, repeat: int) -> None:
    state = output(seed)
    for part in (epoch, repeat, sample):
        state = output((state + GOLDEN * (part + 1)) & WORD)
    expected = [(output((state + GOLDEN * counter) & WORD) >> 11) / 2**53 for counter in (1, 2, 3)]
    assert uniforms(seed, epoch, np.array([sample]), np.array([repeat]), num=3).tolist() == [expected]


def test_a_sample_depends_on_no_other() -> None:
    together = draw(np.array([7, 3, 8, 3]), num=51)
    assert (together.shape, together.dtype) == ((4, 51), np.float64)
    for row, sample in zip(together, (7, 3, 8, 3), strict=True):
        np.testing.assert_array_equal(row, draw(sample, num=51)[0])
    np.testing.assert_array_equal(together[:, :5], draw(np.array([7, 3, 8, 3]), num=5), "more numbers change none")


def test_no_samples() -> None:
    assert draw(np.arange(0)).shape == (0, 5)


def test_every_part_matters() -> None:
    """Also where two parts are exchanged, or their sum is the same."""
    keys = [(a, b, c, d) for a in range(4) for b in range(4) for c in range(4) for d in range(4)]
    found = {tuple(draw(sample, seed=seed, epoch=epoch, repeat=repeat)[0]) for seed, epoch, sample, repeat in keys}
    assert len(found) == 4**4


NEIGHBOURS = {
    "samples": lambda n: draw(np.arange(n), num=1).ravel(),
    "epochs": lambda n: np.concatenate([draw(5, epoch=epoch, num=1)[0] for epoch in range(n // 20)]),
    "seeds": lambda n: np.concatenate([draw(5, seed=seed, num=1)[0] for seed in range(n // 20)]),
    "repeats": lambda n: uniforms(3, 1, np.full(n, 5), np.arange(n), num=1).ravel(),
    "columns": lambda n: draw(5, num=n).ravel(),
}


@pytest.mark.parametrize("kind", NEIGHBOURS)
def test_uniform_and_without_visible_correlation(kind: str) -> None:
    """Each bound is five standard deviations; the numbers are fixed, so this passes always or never."""
    x = NEIGHBOURS[kind](100_000)
    n = len(x)
    assert ((x >= 0) & (x < 1)).all()
    assert abs(x.mean() - 1 / 2) < 5 * (1 / 12 / n) ** 0.5
    assert abs(x.var() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    counts = np.histogram(x, bins=64, range=(0, 1))[0]
    chi_square = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert abs(chi_square - 63) < 5 * (2 * 63) ** 0.5
    for lag in (1, 2, 3, 32):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 5 / n**0.5
    pairs = np.histogram2d(x[:-1], x[1:], bins=8, range=[(0, 1), (0, 1)])[0]
    assert abs(((pairs - (n - 1) / 64) ** 2 / ((n - 1) / 64)).sum() - 63) < 5 * (2 * 63) ** 0.5


def test_columns_are_independent() -> None:
    x = draw(np.arange(20_000), num=51)
    assert np.abs(np.corrcoef(x.T) - np.eye(51)).max() < 5 / 20_000**0.5
    assert np.abs(np.corrcoef(x.T, draw(np.arange(20_000), epoch=2, num=51).T)[:51, 51:]).max() < 5 / 20_000**0.5
