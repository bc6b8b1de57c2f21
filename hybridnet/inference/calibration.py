"""Whether probabilities mean what they say: of the answers given with 80 %, are 80 % right?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional as F

NUM_BINS = 15
LEVEL = 0.95  # so often an interval holds the accuracy on all such pictures


@dataclass(frozen=True)
class Calibration:
    """Answers by their confidence, the probability of the predicted class, in bins of equal width from 0 to 1.

    Paper: Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599.

    Attributes:
        counts: int64 (NUM_BINS,), answers in each bin; its upper end belongs to it.
        confidences, accuracies: float64 (NUM_BINS,), means of each bin; 0 where it is empty.
    """

    counts: Tensor
    confidences: Tensor
    accuracies: Tensor

    @property
    def expected_error(self) -> float:
        """Expected calibration error (ECE): mean distance of confidence and accuracy, weighted by the counts."""
        gaps = (self.confidences - self.accuracies).abs()
        return (gaps * self.counts).sum().item() / max(1, int(self.counts.sum()))


def calibration(probabilities: Tensor, labels: Tensor) -> Calibration:
    """Of probabilities (N, num_classes) and the labels (N,)."""
    confidences, predictions = probabilities.double().max(dim=1)
    bins = (confidences * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
    counts = torch.bincount(bins, minlength=NUM_BINS)

    def means(values: Tensor) -> Tensor:
        return torch.bincount(bins, weights=values.double(), minlength=NUM_BINS) / counts.clamp(min=1)

    return Calibration(counts, means(confidences), means(predictions == labels))


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Mean squared distance of the probabilities (N, num_classes) to the labels; 0 is perfect, 2 always wrong.

    Paper: Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review 78 (1950).
    """
    wanted = F.one_hot(labels, probabilities.shape[1])
    return (probabilities.double() - wanted).square().sum(dim=1).mean().item()


def accuracy_interval(is_right: Sequence[bool], groups: Sequence[str]) -> tuple[float, float]:
    """Wilson's interval of the accuracy, with the number of independent pictures in place of all.

    Pictures of one group (copies, photos of one plant) are right or wrong together: n pictures are worth n / d, where d
    is the variance of the accuracy between groups over that of independent pictures (the design effect), and less where
    few groups tell that variance: Student's t of n over that of the groups, squared (Korn and Graubard, "Confidence
    Intervals for Proportions with Small Expected Number of Positive Counts", Survey Methodology 24, 1998).

    Paper: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the American
        Statistical Association 22 (1927).

    Args:
        is_right: of each picture, of which there is at least one.
        groups: of each picture; "" for one of its own.

    Returns:
        The lower and the upper end, as shares.
    """
    num, share = len(is_right), sum(is_right) / len(is_right)
    residuals: dict[object, float] = {}
    for number, (right, group) in enumerate(zip(is_right, groups, strict=True)):
        key = group or number
        residuals[key] = residuals.get(key, 0.0) + right - share
    num_groups = len(residuals)
    if 0 < share < 1 and num_groups > 1:
        between = sum(value**2 for value in residuals.values()) * num_groups / (num_groups - 1)
        effect = max(1.0, between / (num * share * (1 - share) * num / (num - 1)))
        effect *= (_student(num_groups - 1) / _student(num - 1)) ** 2
    else:
        effect = num / num_groups  # all alike: a group is worth one picture
    return _wilson(share, num / effect, z=NormalDist().inv_cdf((1 + LEVEL) / 2))


def _student(degrees: int) -> float:
    from scipy.special import stdtrit  # of scikit-learn's needs; scipy.stats takes a second to import

    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def _wilson(share: float, num: float, *, z: float) -> tuple[float, float]:
    centre = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * math.sqrt(share * (1 - share) / num + z**2 / (4 * num**2))
    return max(0.0, centre - half), min(1.0, centre + half)
