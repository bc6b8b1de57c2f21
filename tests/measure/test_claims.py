"""What the guide claims: the models that are compared, at sizes where their attention has more to do."""

from __future__ import annotations

from hybridnet.measure.claims import claims
from hybridnet.measure.works import Case


def test_linear_attention_is_compared_with_softmax_where_it_should_pay() -> None:
    pairs = [(claim.model, claim.other) for claim in claims(224, overrides=("model.heads=8",))]
    for size, stage in ((224, None), (448, None), (224, 3)):
        linear, softmax = (Case(name, "lite", size, stage, ("model.heads=8",)) for name in ("botlinear", "bot"))
        assert (linear, softmax) in pairs
    hybrids = [(model.size, other.name) for model, other in pairs if model.model == "hybrid"]
    assert hybrids == [("full", "bot lite"), ("lite", "bot lite"), ("full", "plain")]
