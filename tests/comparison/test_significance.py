from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hybridnet.comparison import significance
from hybridnet.comparison.significance import holm, mcnemar, paired_t, sign_flip, welch


def test_mcnemar_by_hand() -> None:
    """1 against 9: 2 (1 + 10) / 2^10. 5 against 5: more than 1, which it cannot be."""
    assert mcnemar(1, 9) == mcnemar(9, 1) == pytest.approx(22 / 1024)
    assert mcnemar(5, 5) == mcnemar(0, 0) == 1.0
    assert mcnemar(0, 6) == pytest.approx(2 / 64)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 8), (12, 30), (200, 260)])
def test_mcnemar_is_the_binomial_sum(first: int, second: int) -> None:
    total = first + second
    tail = sum(math.comb(total, number) for number in range(min(first, second) + 1)) / 2**total
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    signs = np.array([1] * first + [-1] * second + [0] * 7)
    assert sign_flip(signs) == pytest.approx(mcnemar(first, second), rel=1e-6)


def test_sign_flip_is_the_share_of_all_choices_of_signs() -> None:
    differences = np.array([3, -1, 2, 2, 0, -5, 1, 4, 1])
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in itertools.product((1, -1), repeat=9)
    ]
    share = np.mean([abs(total) >= abs(differences.sum()) for total in sums])
    assert sign_flip(differences) == pytest.approx(share, abs=1e-12)
    assert sign_flip(np.zeros(5, dtype=np.int64)) == sign_flip(np.array([2, -2])) == 1.0


def test_a_sum_of_very_many_is_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.array([1, -1, 2, -3, -2, 3] * 300 + [1] * 60)
    exact, length = sign_flip(differences), 2 * np.abs(differences).sum() + 2
    monkeypatch.setattr(significance, "MOST_STEPS", 3 * length)
    assert sign_flip(differences) == exact
    monkeypatch.setattr(significance, "MOST_STEPS", 3 * length - 1)  # each of three sizes takes a step for each sum
    normal = math.erfc(np.abs(differences.sum()) / (2 * (differences**2).sum()) ** 0.5)
    assert sign_flip(differences) == pytest.approx(normal, rel=1e-9) != exact
    assert exact == pytest.approx(normal, rel=0.1) and 0.1 < exact < 0.9


def test_t_tests_agree_with_scipy() -> None:
    """1, 2, 3: t = 2 / (1 / √3) = 3.4641 with 2 degrees; p = 1 - t / √(t² + 2)."""
    stats = pytest.importorskip("scipy.stats")
    assert paired_t([1, 2, 3]) == pytest.approx(1 - 12**0.5 / 14**0.5)
    first, second = [0.91, 0.93, 0.92, 0.96], [0.90, 0.88, 0.91]
    assert welch(first, second) == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)
    assert paired_t([0.01, -0.02, 0.04]) == pytest.approx(stats.ttest_1samp([0.01, -0.02, 0.04], 0).pvalue)


def test_what_t_tests_cannot_tell() -> None:
    assert paired_t([0.1]) is paired_t([0.0]) is paired_t([0.1, 0.1]) is welch([0.1], [0.1, 0.2]) is None
    assert welch([0.1, 0.1], [0.2, 0.2]) is None
    assert paired_t([0.0, 0.0]) == 1.0


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.03, 0.04 times 3, 2, 1, never falling."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.02]) == [0.02] and holm([]) == []
