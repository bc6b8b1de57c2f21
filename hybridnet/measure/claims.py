"""What the guide claims about speed and memory, as comparisons of two models each."""

from __future__ import annotations

from typing import NamedTuple

from hybridnet.measure.works import Case


class Claim(NamedTuple):
    """That `model` is faster than `other`, or slower: the ratios say which."""

    text: str
    model: Case
    other: Case


def claims(image_size: int, *, overrides: tuple[str, ...] = ()) -> list[Claim]:
    """At one image size, at twice that size, and with more positions of the feature map.

    Twice the size, or attention one layer earlier, has four times as many positions.
    """

    def case(model: str, size: str | None, *, scale: int = 1, stage: int | None = None) -> Case:
        return Case(model, size, scale * image_size, stage, overrides)

    linear, softmax = ("botlinear", "lite"), ("bot", "lite")
    return [
        Claim("BoTLinear is faster than BoT", case(*linear), case(*softmax)),
        Claim("… on pictures twice as large", case(*linear, scale=2), case(*softmax, scale=2)),
        Claim("… after layer 3", case(*linear, stage=3), case(*softmax, stage=3)),
        Claim("Hybrid is about 10 % slower than BoT", case("hybrid", "full"), case(*softmax)),
        Claim("… both of one size", case("hybrid", "lite"), case(*softmax)),
        Claim("Hybrid needs more memory than plain", case("hybrid", "full"), case("plain", None)),
    ]
