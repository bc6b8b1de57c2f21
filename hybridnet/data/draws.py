"""Random numbers without a state: a pure function of the experiment's seed, the epoch and the sample."""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seed: int, epoch: int, samples: np.ndarray, repeats: np.ndarray, *, num: int) -> np.ndarray:
    """`num` numbers in [0, 1) for every sample, independent of which other samples are asked for.

    SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014) as a hash of the counter:
    a generator object for every picture would cost more than cutting it out.

    Args:
        seed, epoch: >= 0.
        samples: integers (B,), index of each sample.
        repeats: integers (B,), how often the sample was seen before in this epoch.
        num: numbers for each sample.

    Returns:
        float64 (B, num).
    """
    state = _mixed(np.array([seed % 2**64], dtype=np.uint64))
    for part in (epoch, repeats, samples):
        state = _mixed(state + _GOLDEN * (np.atleast_1d(part).astype(np.uint64) + np.uint64(1)))
    counters = np.arange(1, num + 1, dtype=np.uint64) * _GOLDEN
    return (_mixed(state[:, None] + counters) >> np.uint64(11)) * 2.0**-53


def _mixed(state: np.ndarray) -> np.ndarray:
    """SplitMix64's output function; unsigned arrays wrap around, as it needs."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
