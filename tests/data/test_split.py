from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hybridnet.data.split import split_groups
from hybridnet.errors import InputError

FOLDS = {str(fold): 0.2 for fold in range(5)}


def shares_of(valid: float, test: float = 0.0) -> dict[str, float]:
    return {"train": 1 - valid - test, "valid": valid} | ({"test": test} if test else {})


@pytest.mark.parametrize(
    ("count", "valid", "test", "expected"),
    [
        (2, 0.1, 0.0, (1, 1, 0)),
        (3, 0.1, 0.1, (1, 1, 1)),
        (4, 0.2, 0.0, (3, 1, 0)),
        (10, 0.25, 0.0, (8, 2, 0)),
        (10, 0.2, 0.3, (5, 2, 3)),
        (20, 0.2, 0.0, (16, 4, 0)),
        (100, 0.15, 0.15, (70, 15, 15)),
        (7, 0.2, 0.2, (5, 1, 1)),
        (8, 0.2, 0.0, (6, 2, 0)),
        (13, 0.2, 0.1, (9, 3, 1)),
        (10, 0.15, 0.15, (6, 2, 2)),
    ],
)
def test_pictures_on_their_own_get_exact_shares(
    count: int, valid: float, test: float, expected: tuple[int, int, int]
) -> None:
    for seed in range(5):
        found = Counter(split_groups(["cat"] * count, range(count), shares_of(valid, test), seed=seed))
        assert (found["train"], found["valid"], found["test"]) == expected


@pytest.mark.parametrize(
    ("count", "sizes"), [(23, [5, 5, 5, 4, 4]), (5, [1] * 5), (7, [2, 2, 1, 1, 1]), (100, [20] * 5)]
)
def test_folds_differ_by_one_at_most(count: int, sizes: list[int]) -> None:
    found = Counter(split_groups(["cat"] * count, range(count), FOLDS, seed=0))
    assert sorted(found.values(), reverse=True) == sizes


def test_folds_of_many_small_classes_are_of_one_size() -> None:
    """Pictures on their own: whatever the classes' counts, folds differ by 1, in each class and in all."""
    labels = [f"class {number}" for number in range(20) for _ in range(8)]
    assert set(Counter(split_groups(labels, range(160), FOLDS, seed=0)).values()) == {32}
    rng = np.random.default_rng(0)
    for seed in range(60):
        num_folds = int(rng.integers(2, 8))
        counts = rng.integers(num_folds, 40, rng.integers(1, 25)).tolist()
        labels = [f"class {number}" for number, count in enumerate(counts) for _ in range(count)]
        shares = {str(fold): 1 / num_folds for fold in range(num_folds)}
        found = split_groups(labels, range(len(labels)), shares, seed=seed)
        by_class = Counter(zip(labels, found, strict=True))
        for label in set(labels):
            sizes = [by_class[label, fold] for fold in shares]
            assert max(sizes) - min(sizes) <= 1
        sizes = list(Counter(found).values())
        assert max(sizes) - min(sizes) <= 1, (counts, num_folds, sizes)


def test_shares_that_differ_by_rounding_take_what_is_left_over_in_turn() -> None:
    """The share of training is 1 - 1/3 - 1/3, which is larger than 1/3 by 6e-17."""
    labels = [label for label in ("cat", "dog", "eel") for _ in range(4)]
    found = split_groups(labels, range(12), shares_of(1 / 3, 1 / 3), seed=0)
    assert Counter(found) == {"train": 4, "valid": 4, "test": 4}


def test_groups_by_hand() -> None:
    """12 pictures in groups of 6, 3, 2 and 1, with targets 9 and 3: the largest first, each where most is missing."""
    groups = ["a"] * 6 + ["b"] * 3 + ["c"] * 2 + ["d"]
    for seed in range(10):
        found = split_groups(["cat"] * 12, groups, shares_of(0.25), seed=seed)
        assert found == ["train"] * 9 + ["valid"] * 3


def test_a_class_with_as_few_groups_as_splits_is_in_all() -> None:
    """The second group has to go to validation, however large it is and wherever other classes are."""
    labels = ["cat"] * 110 + ["dog"] * 19
    groups = [*np.arange(110) // 11, *[10] * 10, *[11] * 9]
    for seed in range(10):
        found = split_groups(labels, groups, shares_of(0.1), seed=seed)
        assert set(found[110:120]) == {"train"} and set(found[120:]) == {"valid"}
        assert found[:110].count("valid") == 11


def test_the_last_groups_go_where_the_class_is_missing() -> None:
    """Training still lacks 4 of its 54 when groups of 3 are left for validation and test."""
    found = split_groups(["cat"] * 56, [0] * 50 + [1] * 3 + [2] * 3, shares_of(0.01, 0.01), seed=0)
    assert Counter(found) == {"train": 50, "valid": 3, "test": 3}


def random_groups(rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Up to 4 classes of 12 to 40 groups of 1 to 6 pictures; some groups hold two classes; all shuffled."""
    labels, groups = [], []
    names = [f"class {n}" for n in range(rng.integers(1, 5))]
    for label in names:
        for _ in range(rng.integers(12, 41)):
            size = int(rng.choice([1, 1, 1, 2, 3, 6]))
            others = rng.choice(names, size) if rng.random() < 0.15 else [label] * size
            labels += [label, *others[1:]]
            groups += [len(set(groups))] * size
    order = rng.permutation(len(labels))
    return [str(labels[i]) for i in order], [groups[i] for i in order]


@pytest.mark.parametrize("shares", [shares_of(0.2), shares_of(0.15, 0.25), FOLDS], ids=lambda shares: "-".join(shares))
def test_whatever_the_groups(shares: dict[str, float]) -> None:
    for seed in range(60):
        labels, groups = random_groups(np.random.default_rng(seed))
        found = split_groups(labels, groups, shares, seed=seed)
        split_of: dict[int, str] = {}
        assert all(split_of.setdefault(group, split) == split for group, split in zip(groups, found, strict=True))
        counts = Counter(zip(labels, found, strict=True))
        for label in set(labels):
            for split, share in shares.items():
                assert counts[label, split] > 0
                assert abs(counts[label, split] - share * labels.count(label)) <= 3  # groups hold up to 6 pictures
        assert found == split_groups(labels, groups, shares, seed=seed)


def test_the_seed_draws_and_labels_and_names_of_groups_do_not() -> None:
    labels, groups = ["cat"] * 20 + ["dog"] * 10, list(range(30))
    first = split_groups(labels, groups, shares_of(0.2), seed=0)
    assert split_groups(labels, [f"group {g}" for g in groups], shares_of(0.2), seed=0) == first
    assert split_groups(labels, groups, shares_of(0.2), seed=1) != first


def test_each_picture_comes_into_validation_as_often_as_any_other() -> None:
    labels, groups = ["cat"] * 20 + ["dog"] * 10, range(30)
    drawn = np.array([[s == "valid" for s in split_groups(labels, groups, shares_of(0.2), seed=n)] for n in range(400)])
    assert np.abs(drawn.mean(axis=0) - 0.2).max() < 0.08  # 4 σ
    assert len({row.tobytes() for row in drawn}) > 390


def test_every_class_with_too_few_groups_is_named() -> None:
    labels = ["cat"] * 9 + ["dog"] * 2 + ["eel"] * 9
    groups = [*range(9), 9, 9, *[10] * 5, *[11] * 4]
    with pytest.raises(InputError) as error:
        split_groups(labels, groups, shares_of(0.2, 0.1), seed=0)
    hint = "add pictures, leave the class out, ask for fewer splits or folds, or copies=same if they only look alike"
    rest = "too few for 3 splits (train, valid, test); copies of one picture are one group"
    assert [tuple(fault) for fault in error.value.faults] == [
        ("too few pictures", "class 'dog'", f"1 group of pictures is {rest}", hint),
        ("too few pictures", "class 'eel'", f"2 groups of pictures are {rest}", hint),
    ]


def test_folds_are_called_so() -> None:
    with pytest.raises(InputError, match=r"2 groups of pictures are too few for 3 folds \(0, 1, 2\); copies"):
        split_groups(["cat", "cat"], range(2), {"0": 1 / 3, "1": 1 / 3, "2": 1 / 3}, seed=0)


def test_groups_of_several_classes_that_cannot_be_divided() -> None:
    """Three classes in a ring of three groups: whatever two splits get, one class is missing in one."""
    labels, groups = ["cat", "dog", "dog", "eel", "eel", "cat"], [0, 0, 1, 1, 2, 2]
    with pytest.raises(InputError, match=r"groups that cannot be divided in class '.*': .* none is left for '\w+'"):
        split_groups(labels, groups, {"train": 0.5, "valid": 0.5}, seed=0)


def test_a_way_is_found_where_there_is_one() -> None:
    """Two groups of both classes and some of one: the two must not end in one split."""
    labels, groups = ["cat", "dog", "cat", "dog", "cat", "dog"], [0, 0, 1, 2, 3, 3]
    for seed in range(20):
        found = split_groups(labels, groups, {"a": 0.5, "b": 0.5}, seed=seed)
        assert {s for s, label in zip(found, labels, strict=True) if label == "cat"} == {"a", "b"}
        assert {s for s, label in zip(found, labels, strict=True) if label == "dog"} == {"a", "b"}


def test_another_order_is_tried_where_one_leads_nowhere() -> None:
    """Not every order of the pairs leaves a way; 8 of these 20 seeds begin with one that does not."""
    labels, groups = ["cat", "dog", "eel", "dog", "cat", "cat", "eel", "cat"], [0, 0, 1, 1, 2, 3, 3, 4]
    for seed in range(20):
        found = set(zip(labels, split_groups(labels, groups, {"a": 0.5, "b": 0.5}, seed=seed), strict=True))
        assert found == {(label, split) for label in ("cat", "dog", "eel") for split in "ab"}


def test_what_is_placed_counts_for_the_shares_and_stays() -> None:
    """40 cats, of which 25 are placed: 20 in training, 5 in validation; 32 and 8 are due, so 12 and 3 are added."""
    placed = ["train"] * 20 + ["valid"] * 5 + [None] * 15
    for seed in range(5):
        found = split_groups(["cat"] * 40, range(40), shares_of(0.2), seed=seed, placed=placed)
        assert found[:25] == placed[:25] and Counter(found) == {"train": 32, "valid": 8}
    surplus = ["valid"] * 20 + [None] * 20
    found = split_groups(["cat"] * 40, range(40), shares_of(0.2), seed=0, placed=surplus)
    assert Counter(found) == {"valid": 20, "train": 20}


def test_a_split_that_lacks_a_class_gets_the_first_new_picture() -> None:
    labels = ["cat"] * 9 + ["dog"] * 3 + ["cat", "dog", "dog"]
    placed = ["train"] * 8 + ["valid"] + ["train"] * 3 + [None] * 3
    for seed in range(5):
        found = split_groups(labels, range(15), shares_of(0.2), seed=seed, placed=placed)
        assert sorted(found[13:]) == ["train", "valid"]
    found = split_groups(labels[:12], range(12), shares_of(0.2), seed=0, placed=placed[:12])
    assert found == placed[:12]  # dogs are in training only, and nothing is there to change that


def test_one_picture_of_a_class_is_enough_for_a_split() -> None:
    """5 of 6 dogs are due for training and 1 for validation, where it is."""
    found = split_groups(["dog"] * 6, range(6), shares_of(0.2), seed=0, placed=["train"] * 4 + ["valid"] + [None])
    assert found[-1] == "train"


def test_what_a_class_misses_counts_in_relation_to_its_size() -> None:
    """A group of a cat and a dog goes where half of the dogs are missing, not where 2 of 18 cats are."""
    labels = ["cat"] * 17 + ["dog"] * 3 + ["cat", "dog"]
    placed = ["a"] * 10 + ["b"] * 7 + ["a", "b", "b"] + [None] * 2
    found = split_groups(labels, [*range(20), 20, 20], {"a": 0.5, "b": 0.5}, seed=0, placed=placed)
    assert found[-2:] == ["a", "a"]


def test_a_new_class_must_be_in_all_splits() -> None:
    labels, placed = ["cat"] * 5 + ["dog"] * 2, ["train"] * 4 + ["valid"] + [None] * 2
    found = split_groups(labels, range(7), shares_of(0.2), seed=0, placed=placed)
    assert sorted(found[5:]) == ["train", "valid"]
    with pytest.raises(InputError, match="class 'dog': 1 group of pictures is too few for 2 splits"):
        split_groups(labels[:6], range(6), shares_of(0.2), seed=0, placed=placed[:6])
