from __future__ import annotations

import numpy as np
import pytest

from hybridnet.data.loader import Request
from hybridnet.data.shard import Shard


def requests(*sizes: int) -> list[Request]:
    rng = np.random.default_rng(0)
    return [Request(3, rng.permutation(100)[:size], rng.integers(0, 3, size), size) for size in sizes]


def shards(num: int) -> list[Shard]:
    return [Shard(rank, num) for rank in range(num)]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 7])
def test_together_they_have_every_picture_of_every_batch_once(num_ranks: int) -> None:
    whole = requests(13, 8, 8, 1, 2, 5)
    parts = [shard.of_each(whole) for shard in shards(num_ranks)]
    for number, request in enumerate(whole):
        pairs = [
            pair
            for part in parts
            for pair in zip(part[number].indices.tolist(), part[number].repeats.tolist(), strict=True)
        ]
        assert sorted(pairs) == sorted(zip(request.indices.tolist(), request.repeats.tolist(), strict=True))
        assert {part[number].num_images for part in parts} == {len(request.indices)}
        assert {part[number].epoch for part in parts} == {3}
        sizes = [len(part[number].indices) for part in parts]
        assert max(sizes) - min(sizes) <= 2


@pytest.mark.parametrize("num_ranks", [2, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 32])
def test_partners_in_mixing_stay_together(num_ranks: int, size: int) -> None:
    """A picture's partner has the same place counted from the end: of the whole batch, and of the part."""
    [whole] = requests(size)
    partner = dict(zip(whole.indices.tolist(), whole.indices[::-1].tolist(), strict=True))
    for shard in shards(num_ranks):
        [part] = shard.of_each([whole])
        assert [partner[index] for index in part.indices.tolist()] == part.indices[::-1].tolist()


def test_one_process_has_all_as_it_is() -> None:
    whole = requests(5, 4)
    assert Shard(0, 1).of_each(whole) == whole and Shard(0, 1).of_all(whole) == whole


def test_a_batch_may_be_shorter_than_the_ranks() -> None:
    sizes = [len(shard.of_each(requests(2))[0].indices) for shard in shards(4)]
    assert sizes == [2, 0, 0, 0]


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_for_evaluation_they_take_turns_with_whole_batches(num_ranks: int) -> None:
    whole = requests(4, 4, 4, 4, 1)
    parts = [shard.of_all(whole) for shard in shards(num_ranks)]
    for number, request in enumerate(whole):
        assert parts[number % num_ranks][number // num_ranks] is request
    assert sum(map(len, parts)) == len(whole)
